"""From a training run to one .onnx file with its card inside, or to a refusal."""

import json
import subprocess
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from asr.card import (
    ENDPOINT,
    LANGUAGE,
    METADATA_KEY,
    SCHEMA_VERSION,
    SPOTTING,
    UNCALIBRATED,
    Card,
    LanguageCard,
    ModelCard,
)
from asr.decode.lm.neural import NeuralModel
from asr.evaluation.trials import held_out_trials, read_trials
from asr.files import whole_file
from asr.model import Model
from asr.phonemes import SOUNDS
from asr.runtime.weights import weights_sha256
from asr.training.checkpoint import best_checkpoint, load_checkpoint, rebuild, rebuild_any
from asr.training.config import Config
from asr.training.data.labels import SILENCE, UNKNOWN
from asr.training.network.acoustic import AcousticModel
from asr.training.network.encoders import Latency
from asr.training.network.language import LanguageModel
from export.graph import build_graph, build_language_graph
from export.parity import check_language_parity, check_parity
from export.quantise import check_loss, quantise
from features.errors import EarshotError

WINDOW_STEPS = 10  # windows per window length that a whole-utterance classifier is slid by
LICENCE = "Apache-2.0"
OF_THE_TRAINING = {"learning_rate", "seconds", "train_loss"}  # no figures of the model


class ExportError(EarshotError, ValueError):
    """The run cannot be exported as asked."""


@dataclass(frozen=True)
class Int8:
    """Int8 weights: at most `max_loss` points may be lost on `data` (a folder of words, a manifest
    or a recipe; None: what the training held out)."""

    data: Path | None = None
    max_loss: float = 0.3


class Exported(NamedTuple):
    """A file that was written, opened; parity: the largest difference of its log-probabilities from
    those of the trained model, before int8."""

    model: Model | NeuralModel
    parity: float


def export(
    run: Path, out: Path, *, latency: Latency | None = None, int8: Int8 | None = None
) -> Exported:
    """Export a training run as `export_run` does, or one of a language model.

    Raises what `export_run` does, and ExportError for a latency or int8 of a language model.
    """
    if not is_language_model(run):
        return _export_model(run, out, latency, int8)
    if latency or int8:
        raise ExportError(f"{run}: a language model has no latency and no int8; leave these out")
    return _export_language_model(run, out)


def export_run(
    run: Path, out: Path, *, latency: Latency | None = None, int8: Int8 | None = None
) -> Model:
    """Export the best weights of a training run (its folder, or a checkpoint) to `out`.

    latency: another one than the run was configured for. The file appears only after the runtime
    agreed with the trained model. Raises CheckpointError, EncoderConfigError, ParityError,
    QuantisationError or WriteError; then nothing is written.
    """
    model = _export_model(run, out, latency, int8).model
    assert isinstance(model, Model)
    return model


def _export_model(run: Path, out: Path, latency: Latency | None, int8: Int8 | None) -> Exported:
    checkpoint = best_checkpoint(run)
    content = load_checkpoint(checkpoint)
    config, labels, model = rebuild(content, checkpoint)
    if latency is not None:
        config = at_latency(config, latency)
        model.encoder.latency = latency
    proto = build_graph(model)
    card = _card(config, labels, model, proto, json.loads(content["metrics"]))
    with whole_file(out) as part:
        exact = _save(proto, card, part)
        parity = check_parity(model, exact)
        if int8 is not None:
            proto = quantise(proto)
            card = replace(
                card, precision="int8", weights_sha256=weights_sha256(proto.SerializeToString())
            )
            selection = (
                read_trials(exact, int8.data)
                if int8.data
                else held_out_trials(exact, config, checkpoint)
            )
            quantised = _save(proto, card, part)
            found = check_loss(exact, quantised, selection.trials, int8.max_loss)
            _save(proto, replace(card, metrics=card.metrics | found), part)
    return Exported(Model(out), parity)


def is_language_model(run: Path) -> bool:
    """Whether a training run (its folder, or a checkpoint) is that of a language model."""
    content = load_checkpoint(best_checkpoint(run))
    return json.loads(content["config"])["model"]["head"]["kind"] == LANGUAGE


def _export_language_model(run: Path, out: Path) -> Exported:
    content = load_checkpoint(best_checkpoint(run))
    config, labels, model = rebuild_any(content, best_checkpoint(run))
    assert isinstance(model, LanguageModel)
    proto = build_language_graph(model)
    card = LanguageCard(
        task=LANGUAGE, **_facts(config, labels, model, proto, json.loads(content["metrics"]))
    )
    with whole_file(out) as part:
        _write(proto, card, part)
        parity = check_language_parity(model, NeuralModel(part))
    return Exported(NeuralModel(out), parity)


def at_latency(config: Config, latency: Latency) -> Config:
    """The configuration of the same weights at another latency. Raises EncoderConfigError."""
    encoder = replace(config.model.encoder, block=latency.block, look_ahead=latency.look_ahead)
    return replace(config, model=replace(config.model, encoder=encoder))


def rewrite_card(path: Path, card: ModelCard, out: Path) -> Model:
    """Copy a model file, as it is but for its card; `out` may be the same file.

    Raises WriteError, CardError or ModelError; then nothing is written.
    """
    proto = onnx.load(path)
    with whole_file(out) as part:
        _save(proto, card, part)
    return Model(out)


def _save(proto: onnx.ModelProto, card: ModelCard, path: Path) -> Model:
    """Write the model and open it again as the device does."""
    _write(proto, card, path)
    return Model(path)


def _write(proto: onnx.ModelProto, card: Card, path: Path) -> None:
    onnx.helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
    path.write_bytes(proto.SerializeToString())


def _card(
    config: Config,
    labels: tuple[str, ...],
    model: AcousticModel,
    proto: onnx.ModelProto,
    metrics: dict[str, Any],
) -> ModelCard:
    classifies = config.model.head.kind == "classify"
    window = round(config.model.head.window * config.model.mfcc.sample_rate)
    hop_length = model.hop_length
    if classifies:
        hop_length = model.block_length if model.streaming else window // WINDOW_STEPS
    return ModelCard(
        **_facts(config, labels, model, proto, metrics),
        task="classify" if classifies else "ctc",
        blank=None if classifies else 0,
        background=tuple(name for name in (UNKNOWN, SILENCE) if name in labels),
        sample_rate=config.model.mfcc.sample_rate,
        hop_length=hop_length,
        block_length=model.block_length if model.streaming else None,
        look_ahead=model.look_ahead,
        window_length=window if classifies else None,
        mfcc=asdict(config.model.mfcc),
        trigger=config.trigger if classifies else None,
        calibration=None if classifies else UNCALIBRATED,
        endpoint=None if classifies else ENDPOINT,
        spotting=None if classifies else SPOTTING,
        alarms=None,
        phonemes=SOUNDS if config.model.head.phonemes else (),
    )


def _facts(
    config: Config,
    labels: tuple[str, ...],
    model: AcousticModel | LanguageModel,
    proto: onnx.ModelProto,
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """What the card of any model says."""
    return {
        "schema": SCHEMA_VERSION,
        "name": config.name,
        "labels": labels,
        "encoder": asdict(config.model.encoder),
        "precision": "fp32",
        "parameters": sum(p.numel() for p in model.parameters()),
        "metrics": {name: metrics[name] for name in metrics.keys() - OF_THE_TRAINING},
        "training_data": tuple(source.credit for source in config.data.sources),
        "licence": LICENCE,
        "earshot_version": _earshot_version(),
        "git_commit": _git_commit(),
        "weights_sha256": weights_sha256(proto.SerializeToString()),
    }


def _earshot_version() -> str:
    try:
        return version("earshot-asr")
    except PackageNotFoundError:
        return "unknown"


def _git_commit() -> str:
    """The commit that this code was checked out at, if it is a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return result.stdout.strip() or "unknown"
