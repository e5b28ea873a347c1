"""The encoders side by side: trained at equal parameters and for equal times, then measured."""

import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from asr.evaluation.intervals import crossed_interval
from asr.evaluation.outcomes import Outcome, run_trials
from asr.evaluation.report import percent
from asr.evaluation.trials import Trial, held_out_trials
from asr.files import whole_file, write_figures
from asr.model import Model
from asr.studies.bench.cost import macs_per_second
from asr.studies.bench.sounds import SECONDS, speech_shaped_noise
from asr.studies.bench.timing import best_seconds
from asr.studies.plots import plot_comparison
from asr.training.checkpoint import LAST, load_checkpoint
from asr.training.config import Config, parse_config, read_config
from asr.training.data.corpus import load_corpus
from asr.training.network.acoustic import AcousticModel, ModelConfig
from asr.training.network.cells import KINDS
from asr.training.network.encoders import EncoderConfig
from asr.training.train import train_model
from export.export import export_run
from export.quantise import quantise
from features.errors import EarshotError

TOLERANCE = 0.02  # share of the parameters by which encoders may differ
BLOCK = 6  # of one direction where the recipe has whole utterances
FOREVER = 1_000_000_000  # epochs, and evaluations without improvement: the time alone ends it
MAKE_ROOM = "free some space and repeat"
FILE, FIGURES = "model.onnx", "figures.json"
OF_THE_MODEL = (
    "kind",
    "hidden",
    "parameters",
    "macs_per_second",
    "latency_ms",
    "fp32_bytes",
    "int8_bytes",
)
OF_THE_RUN = ("real_time_factor", "seconds", "steps")
LATENCY = "latency: scores come after a block and the look-ahead at the latest"
NAMES = {"classify": "accuracy", "ctc": "cer"}


class ComparisonError(EarshotError, ValueError):
    """Encoders that cannot be compared as asked."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """An encoder in the table; what differs between its seeds is their mean.

    value: accuracy or cer over the recordings of all seeds, as shares, `values` of each seed, and
    `interval` at 95 % over seeds and speakers. latency_ms: a block and what is waited for beyond
    it, None for whole utterances; real_time_factor: on one thread; int8_bytes: with int8 weights
    where the runtime has operators for them, which it has for no RNN and no GRU; seconds: of
    training.
    """

    kind: str
    hidden: int
    parameters: int
    value: float
    interval: tuple[float, float]
    values: tuple[float, ...]
    macs_per_second: int
    latency_ms: float | None
    real_time_factor: float
    fp32_bytes: int
    int8_bytes: int
    seconds: float
    steps: float


def compare(
    recipe: Path,
    overrides: Sequence[str] = (),
    *,
    kinds: Sequence[str] = (),
    minutes: float,
    seeds: int = 1,
    parameters: int | None = None,
) -> list[Row]:
    """Train, export and measure encoders of many kinds by one recipe; print a table and return it.

    kinds: all if none are named; minutes: of each training; parameters: of each model, those of
    the recipe's own if not given. Everything is written to `<out>/<name>-compare/`, each training
    in a folder there; those that are finished are not done again. Raises EarshotError.
    """
    config = read_config(recipe, list(overrides))
    if config.model.head.kind not in NAMES:
        raise ComparisonError(f"{recipe}: head.kind must be one of {', '.join(NAMES)}")
    runs = family(config, kinds or tuple(KINDS), parameters, minutes, seeds)
    for run in runs:
        _check_settings(run)
    console, trials = Console(stderr=True, highlight=False), []
    for number, run in enumerate(runs, start=1):
        if (run.run / FIGURES).exists():
            continue
        encoder = run.model.encoder
        console.print(f"{number} of {len(runs)}: {run.name}, {encoder.hidden} hidden units")
        train_model(run, resume=True)
        file = export_run(run.run, run.run / FILE)
        trials = trials or held_out_trials(file, run, recipe).trials
        write_figures(run.run / FIGURES, measure(file, run, trials))
    rows = [summarise(kind_runs) for kind_runs in _by_kind(runs)]
    _report(config, rows, Path(runs[0].out))
    return rows


# What is trained


def family(
    config: Config, kinds: Sequence[str], parameters: int | None, minutes: float, seeds: int
) -> list[Config]:
    """The trainings: for each seed every kind, so that an interrupted comparison is a fair one.

    They differ in the encoder alone, and start from nothing. Raises ComparisonError.
    """
    labels = len(load_corpus(config).labels.names)
    wanted = parameters or count_parameters(config.model, labels)
    models = {kind: of_kind(config.model, kind, wanted, labels) for kind in kinds}
    home = config.optimisation
    clock = replace(home, minutes=minutes, epochs=FOREVER, patience=FOREVER, start="")
    out = str(Path(config.out, f"{config.name}-compare"))
    return [
        replace(
            config,
            name=f"{kind}-{seed}",
            out=out,
            model=model,
            optimisation=replace(clock, seed=home.seed + seed),
        )
        for seed in range(seeds)
        for kind, model in models.items()
    ]


def of_kind(model: ModelConfig, kind: str, parameters: int, labels: int) -> ModelConfig:
    """The same model with another encoder, its hidden size such that it has that many parameters.

    Raises ComparisonError if none comes near enough.
    """
    if kind not in KINDS:
        raise ComparisonError(f"'{kind}' is no encoder; known are {', '.join(sorted(KINDS))}")
    unit, projection = KINDS[kind].bands, model.encoder.projection
    if KINDS[kind].attention and not projection:
        unit = math.lcm(unit, model.encoder.heads // math.gcd(model.encoder.heads, 2))

    def at(size: int) -> ModelConfig:
        return replace(model, encoder=_encoder(model.encoder, kind, size * unit))

    @cache
    def count(size: int) -> int:
        return count_parameters(at(size), labels)

    least = most = -(-max(projection, 2) // unit)
    while count(most) < parameters:
        most *= 2
    size = bisect_left(range(most), parameters, lo=max(least, most // 2), key=count)
    size = min(max(least, size - 1), size, key=lambda size: abs(count(size) - parameters))
    if abs(count(size) - parameters) > TOLERANCE * parameters:
        raise ComparisonError(
            f"{kind} cannot have about {parameters:,} parameters, the nearest are "
            f"{count(size):,}; ask for more with --parameters, or leave it out with --kind"
        )
    return at(size)


def _encoder(encoder: EncoderConfig, kind: str, hidden: int) -> EncoderConfig:
    """One latency for all of the training; in one direction there is nothing to wait for."""
    parts = KINDS[kind]
    both = parts.bidirectional
    return replace(
        encoder,
        kind=kind,
        hidden=hidden,
        stem_channels=parts.bands * max(1, round(encoder.stem_channels / parts.bands)),
        projection=parts.bands * round(encoder.projection / parts.bands),
        block=encoder.block if both else encoder.block or BLOCK,
        look_ahead=encoder.look_ahead if both else 0,
        also=(),
    )


def count_parameters(model: ModelConfig, labels: int) -> int:
    """Parameters of a model, as its card counts them."""
    return sum(weights.numel() for weights in AcousticModel(model, labels).parameters())


def _check_settings(run: Config) -> None:
    """Refuse to mix trainings of other settings into a comparison."""
    last = run.run / LAST
    if last.exists() and parse_config(json.loads(load_checkpoint(last)["config"]), LAST) != run:
        raise ComparisonError(
            f"{run.run}: was trained with other settings; repeat these, or give this comparison "
            "another name (name=...)"
        )


# What is measured


def measure(file: Model, run: Config, trials: Sequence[Trial]) -> dict[str, Any]:
    """The figures of one training; `speakers`: errors among how many, of each that was held out."""
    card = file.card
    sound = speech_shaped_noise(round(SECONDS * card.sample_rate), card.sample_rate)
    waited = None if card.block_length is None else card.block_length + card.look_ahead
    progress = load_checkpoint(run.run / LAST)["progress"]
    return {
        "kind": run.model.encoder.kind,
        "hidden": run.model.encoder.hidden,
        "parameters": card.parameters,
        "speakers": _speaker_errors(card.task, run_trials(file, trials)),
        "macs_per_second": macs_per_second(file, card.sample_rate),
        "latency_ms": None if waited is None else 1000.0 * waited / card.sample_rate,
        "real_time_factor": best_seconds(lambda: file.log_probs(sound)) / SECONDS,
        "fp32_bytes": file.path.stat().st_size,
        "int8_bytes": quantise(onnx.load(file.path)).ByteSize(),
        "seconds": progress["seconds"],
        "steps": progress["step"],
    }


def _speaker_errors(task: str, outcomes: Iterable[Outcome]) -> dict[str, list[int]]:
    speakers: dict[str, list[int]] = {}
    for outcome in outcomes:
        found = speakers.setdefault(outcome.speaker, [0, 0])
        for k, number in enumerate(_errors(task, outcome)):
            found[k] += number
    return speakers


def _errors(task: str, outcome: Outcome) -> tuple[int, int]:
    """Errors, and among how many: labels, or characters."""
    if task == "classify":
        return int(not outcome.right), 1
    found = jiwer.process_characters(outcome.reference, outcome.hypothesis)
    wrong = found.substitutions + found.deletions
    return wrong + found.insertions, wrong + found.hits


def summarise(runs: Sequence[Config]) -> Row:
    """The row of an encoder, of the figures of its trainings."""
    figures = [json.loads((run.run / FIGURES).read_text()) for run in runs]
    counts = np.array([[n for _, n in sorted(found["speakers"].items())] for found in figures])
    first, task = figures[0], runs[0].model.head.kind
    shares = (counts[..., 0].sum(axis=1) / counts[..., 1].sum(axis=1)).tolist()
    total = counts[..., 0].sum() / counts[..., 1].sum()
    low, high = crossed_interval(counts[..., 0], counts[..., 1])
    if NAMES[task] == "accuracy":
        shares, total, low, high = [1.0 - s for s in shares], 1.0 - total, 1.0 - high, 1.0 - low
    figured: dict[str, Any] = {name: first[name] for name in OF_THE_MODEL}
    figured |= {name: float(np.mean([found[name] for found in figures])) for name in OF_THE_RUN}
    return Row(value=float(total), interval=(low, high), values=tuple(shares), **figured)


# The report


def _by_kind(runs: Sequence[Config]) -> list[list[Config]]:
    kinds: dict[str, list[Config]] = {}
    for run in runs:
        kinds.setdefault(run.model.encoder.kind, []).append(run)
    return list(kinds.values())


def _report(config: Config, rows: list[Row], folder: Path) -> None:
    """Print the table; write it as JSON and Markdown, and a plot, to the folder."""
    name = NAMES[config.model.head.kind]
    heads = (
        "encoder",
        "hidden",
        "M parameters",
        f"{name} % (95 % interval)",
        "M MACs/s",
        "latency ms",
        "real time",
        "MB fp32",
        "MB int8",
        "minutes",
        "steps",
    )
    lines = [_cells(row) for row in rows]
    title = f"{config.name}, trainings of each: {len(rows[0].values)}"
    table = Table(*heads, title=title, caption=LATENCY)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    figures = {"recipe": config.name, "figure": name, "rows": [vars(row) for row in rows]}
    write_figures(folder / "comparison.json", figures)
    rule = ("---",) * len(heads)
    text = "".join(f"| {' | '.join(line)} |\n" for line in (heads, rule, *lines))
    with whole_file(folder / "comparison.md", MAKE_ROOM) as part:
        part.write_text(text)
    plot_comparison([vars(row) for row in rows], name, folder / "comparison.png", MAKE_ROOM)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.kind,
        str(row.hidden),
        f"{row.parameters / 1e6:.3f}",
        percent(row.value, row.interval),
        f"{row.macs_per_second / 1e6:.1f}",
        "whole" if row.latency_ms is None else f"{row.latency_ms:.0f}",
        f"{row.real_time_factor:.4f}",
        f"{row.fp32_bytes / 1e6:.2f}",
        f"{row.int8_bytes / 1e6:.2f}",
        f"{row.seconds / 60:.1f}",
        f"{row.steps:.0f}",
    )
