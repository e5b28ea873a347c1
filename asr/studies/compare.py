"""The encoders side by side: trained at equal parameters and for equal times, then measured."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from asr.studies.family import ComparisonError, family
from asr.studies.plots import plot_comparison
from asr.training.checkpoint import LAST, load_checkpoint
from asr.training.config import Config, parse_config, read_config
from asr.training.network.cells import KINDS
from asr.training.train import train_model
from export.export import export_run
from export.quantise import quantise

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


def _check_settings(run: Config) -> None:
    """Refuse to mix trainings of other settings into a comparison."""
    last = run.run / LAST
    if last.exists() and parse_config(json.loads(load_checkpoint(last)["config"]), LAST) != run:
        raise ComparisonError(
            f"{run.run}: was trained with other settings; repeat these, or give this comparison "
            "another name (name=...)"
        )


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
