"""A training at a moment: model, averaged weights, optimiser and progress; started or restored."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from asr.training.checkpoint import LAST, Progress, best_checkpoint, build_model, load_checkpoint
from asr.training.config import Config, parse_config
from asr.training.data.batches import epoch_batches, sounds_of
from asr.training.data.corpus import Corpus, load_corpus, warn_of_untaught
from asr.training.data.sounds import Sounds
from asr.training.guides import Guides, guides_of, named_weights
from asr.training.losses import in_bf16
from asr.training.network.acoustic import AcousticModel
from asr.training.network.language import LanguageModel
from asr.training.pretrained import read_pretrained
from asr.training.processes import threads_said
from asr.training.validation import METRICS
from features.errors import EarshotError

STATISTICS_BATCHES = 80
logger = logging.getLogger(__name__)


class TrainingError(EarshotError, RuntimeError):
    """A training that cannot start or go on."""


@dataclass
class Run:
    """Everything that changes while a model trains.

    until: when it must end at the latest, by `time.monotonic`.
    """

    config: Config
    corpus: Corpus
    model: AcousticModel | LanguageModel
    averaged: AveragedModel
    optimiser: torch.optim.Optimizer
    progress: Progress
    history: list[dict[str, Any]]
    device: torch.device
    guides: Guides
    rank: int = 0
    world: int = 1
    observers: Sequence["Observer"] = ()
    until: float = math.inf

    @property
    def metric(self) -> str:
        """The validation figure that decides which weights are best; lower is better."""
        return METRICS[self.corpus.labels.task]


Observer = Callable[[Run], None]
"""Takes a run whose `history` ends with a new validation; what it raises ends the training."""

Planner = Callable[[Run], None]
"""Takes a run that is about to start, and may settle how long it trains (`config.optimisation`,
`until`)."""


def start_run(config: Config, device: torch.device, rank: int, world: int) -> Run:
    """Build everything as it is before the first step, the same in every process."""
    options = config.optimisation
    precision = "bf16" if in_bf16(options, device) else "fp32"
    corpus = load_corpus(config)
    if config.classifies:
        warn_of_untaught(config, corpus)
    if sounds := sounds_of(config, corpus.labels):
        _warn_of_unsaid(corpus, sounds, rank)
    torch.manual_seed(options.seed)
    model = build_model(config, len(corpus.labels.names))
    model.encoder.truncate = options.truncate
    if options.start:
        _take_weights(model, named_weights(options.start))
    elif isinstance(model, AcousticModel):
        _fit_normalisation(model, config, corpus)
    model.to(device)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        fused=True,
    )
    averaged = AveragedModel(model, multi_avg_fn=partial(_average, options.ema))
    guides = guides_of(config, corpus, sounds, device)
    run = Run(
        config, corpus, model, averaged, optimiser, Progress(), [], device, guides, rank, world
    )
    if rank == 0:
        parameters = sum(p.numel() for p in model.parameters())
        print(
            f"{config.name}: {len(corpus.train)} examples to train on, {len(corpus.validation)} "
            f"held out to validate, {len(corpus.labels.names)} labels, "
            f"{parameters / 1e6:.2f} M parameters, on {device} in {precision}, "
            f"{threads_said(options.workers)}"
        )
    return run


def _warn_of_unsaid(corpus: Corpus, sounds: Sounds, rank: int) -> None:
    """Say of how many texts no phonemes are learned; what was found out is kept for the loaders."""
    unsaid = [e.recording.text for e in corpus.train if not sounds.of(e.targets)]
    if unsaid and rank == 0:
        logger.warning(
            "phonemes: nothing is learned of those of %d texts, with words that are neither in "
            "CMUdict nor read by eSpeak NG (such as '%s')",
            len(unsaid),
            unsaid[0],
        )


def _take_weights(model: AcousticModel | LanguageModel, start: Path) -> None:
    """Begin with the averaged weights of another training, wherever name and shape agree."""
    own = model.state_dict()
    fitting = {
        name: weights
        for name, weights in _weights(start).items()
        if name in own and own[name].shape == weights.shape
    }
    if not fitting.keys() >= set(model.foundation):
        raise TrainingError(
            f"optimisation.start: {start} has other features or another stem than this model (or "
            "other labels to read); give both the same [model.mfcc] and [model.encoder]"
        )
    model.load_state_dict(own | fitting)
    print(f"starting with {len(fitting)} of {len(own)} tensors from {start}")


def _weights(start: Path) -> dict[str, Tensor]:
    """The averaged weights of a run or checkpoint, or those of an exported model."""
    if start.suffix == ".onnx":
        return read_pretrained(start)[0].state_dict()
    return load_checkpoint(best_checkpoint(start))["averaged"]


@torch.no_grad()
def _average(
    ema: float, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int
) -> None:
    """Exponential moving average whose memory grows with the steps behind it, until `ema` holds:
    the weights that a short training starts from must not weigh in to its end."""
    decay = min(ema, (1.0 + int(count)) / (10.0 + int(count)))
    for mean, weights in zip(averaged, current, strict=True):
        mean.lerp_(weights, 1.0 - decay)


@torch.no_grad()
def _fit_normalisation(model: AcousticModel, config: Config, corpus: Corpus) -> None:
    """Mean and scale of every coefficient over augmented recordings."""
    batches = epoch_batches(config, corpus, config.data.warm_epochs)
    features = []
    for index in range(min(STATISTICS_BATCHES, len(batches))):
        batch = batches[index]
        hop_length = config.model.mfcc.hop_length
        for row, frames in zip(
            model.mfcc(batch.inputs), batch.input_lengths // hop_length, strict=True
        ):
            features.append(row[: int(frames)])
    every = torch.cat(features)
    model.mean.copy_(every.mean(dim=0))
    model.scale.copy_(1.0 / every.std(dim=0).clamp(min=1e-3))


def restore(run: Run, content: dict[str, Any]) -> None:
    """Put a run back to where its last checkpoint was written."""
    if tuple(content["labels"]) != run.corpus.labels.names:
        raise TrainingError(
            f"{run.config.run}: its checkpoint has other labels than the data gives now; restore "
            "the data, or start a new run under another name"
        )
    if parse_config(json.loads(content["config"]), LAST).model != run.config.model:
        raise TrainingError(
            f"{run.config.run}: its checkpoint was trained with other settings under [model]; "
            "restore them, or start a new run under another name"
        )
    run.model.load_state_dict(content["model"])
    run.averaged.module.load_state_dict(content["averaged"])
    run.averaged.n_averaged.fill_(content["averages"])
    run.optimiser.load_state_dict(content["optimiser"])
    run.progress = Progress(**content["progress"])
    run.history = json.loads(content["history"])
