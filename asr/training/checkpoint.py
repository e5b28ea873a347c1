"""Checkpoints: written whole or not at all, read without running code, each rebuilds its model."""

import dataclasses
import json
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asr.files import whole_file
from asr.training.config import Config, parse_config
from asr.training.network.acoustic import AcousticModel
from asr.training.network.language import LanguageModel
from features.errors import EarshotError

SCHEMA = 1
LAST, BEST = "last.pt", "best.pt"
ESSENTIAL = ("config", "labels", "averaged", "progress", "metrics")
RESUMABLE = (*ESSENTIAL, "model", "optimiser", "averages", "history")
RESUME = "free some space and continue with --resume"


class CheckpointError(EarshotError, OSError):
    """A checkpoint that cannot be read."""


@dataclass
class Progress:
    """How far a training has come: the next batch to train on is `batch` of `epoch`."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best: float = float("inf")
    stale: int = 0
    seconds: float = 0.0


def save_checkpoint(
    path: Path,
    config: Config,
    labels: tuple[str, ...],
    averaged: nn.Module,
    progress: Progress,
    metrics: dict[str, Any],
    **resumable: Any,
) -> None:
    """Write a checkpoint, whole or not at all. Raises WriteError.

    averaged: the model with averaged weights, the one to evaluate and export; `resumable` is what
    only a resumed training needs (state dictionaries).
    """
    content = {
        "schema": SCHEMA,
        "config": json.dumps(dataclasses.asdict(config)),
        "labels": list(labels),
        "averaged": averaged.state_dict(),
        "progress": dataclasses.asdict(progress),
        "metrics": json.dumps(metrics),
        **resumable,
    }
    with whole_file(path, RESUME) as part:
        try:
            torch.save(content, part)
        except RuntimeError as error:  # so torch reports a full disk
            raise OSError(str(error).partition("\n")[0]) from None


def best_checkpoint(run: Path) -> Path:
    """Where the best weights of a training run are: in its folder, unless it is a checkpoint.

    Raises CheckpointError if it was stopped before it validated any.
    """
    if (run / LAST).exists() and not (run / BEST).exists():
        raise CheckpointError(
            f"{run}: was stopped before its first validation; go on with 'asr train ... --resume'"
        )
    return run / BEST if run.is_dir() else run


def load_checkpoint(path: Path, needed: Sequence[str] = ESSENTIAL) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in it is executed.

    needed: the parts that it must have, RESUMABLE to go on with a training. Raises CheckpointError.
    """
    try:
        with path.open("rb") as file:
            # Whatever else it is given, torch takes for a pickle, and fails in any way there is.
            if not zipfile.is_zipfile(file):
                raise pickle.UnpicklingError
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = getattr(error, "strerror", None) or "cut off, or of another program"
        if path.suffix == ".onnx" and path.is_file():
            reason = "an exported model holds no training"
        raise CheckpointError(
            f"{path}: is no readable checkpoint ({reason}); name a folder that 'asr train' wrote"
        ) from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: not a checkpoint of this version (schema {SCHEMA})")
    if missing := [name for name in needed if name not in content]:
        raise CheckpointError(
            f"{path}: lacks {', '.join(missing)}; name a folder that 'asr train' wrote"
        )
    return content


def build_model(config: Config, labels: int) -> AcousticModel | LanguageModel:
    """The network that a configuration asks for, not trained yet."""
    kind = LanguageModel if config.model.head.kind == "lm" else AcousticModel
    return kind(config.model, labels)


def rebuild(content: dict[str, Any], path: Path) -> tuple[Config, tuple[str, ...], AcousticModel]:
    """The configuration, labels and averaged model of a checkpoint, from the checkpoint alone.

    Raises CheckpointError if it is a language model.
    """
    config, labels, model = rebuild_any(content, path)
    if isinstance(model, LanguageModel):
        raise CheckpointError(
            f"{path}: is a language model, which takes no sound; name another run"
        )
    return config, labels, model


def rebuild_any(
    content: dict[str, Any], path: Path
) -> tuple[Config, tuple[str, ...], AcousticModel | LanguageModel]:
    """As `rebuild`, language models too."""
    config = parse_config(json.loads(content["config"]), str(path))
    labels = tuple(content["labels"])
    model = build_model(config, len(labels))
    try:
        model.load_state_dict(content["averaged"])
    except RuntimeError:
        raise CheckpointError(
            f"{path}: its weights are not those of the network in its settings; it was written by "
            "another version, so train again"
        ) from None
    return config, labels, model.eval()
