"""What look-ahead is worth: the same weights exported at several latencies, measured."""

import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from asr.evaluation.figures import summarise
from asr.evaluation.outcomes import run_trials
from asr.evaluation.report import percent
from asr.evaluation.trials import held_out_trials
from asr.files import write_figures
from asr.studies.bench.cost import macs_per_second
from asr.studies.plots import plot_frontier
from asr.training.checkpoint import best_checkpoint, load_checkpoint, rebuild
from asr.training.network.acoustic import AcousticModel
from asr.training.network.encoders import Latency
from export.export import export_run

LOOK_AHEADS = (0, 80, 160, 320, 640)  # ms
WHOLE = Latency(0, 0)
LATENCY = "scores come after the look-ahead, at most a block later (computing not counted)"


@dataclass(frozen=True)
class Point:
    """One latency in milliseconds (None: the whole utterance) and what it gives."""

    block: float | None
    look_ahead: float | None
    parameters: int
    macs_per_second: int
    figures: dict[str, Any]


def frontier(run: Path, json_file: Path | None = None, plot: Path | None = None) -> list[Point]:
    """Print what the speakers that a run held out give at each look-ahead, and return it.

    The block is that of the run, or the look-ahead of a layer where that is longer. Look-aheads are
    rounded to whole encoder frames. Raises EarshotError.
    """
    checkpoint = best_checkpoint(run)
    config, _, model = rebuild(load_checkpoint(checkpoint), checkpoint)
    points, trials = [], None
    with TemporaryDirectory() as folder:
        for latency in latencies(model):
            file = export_run(checkpoint, Path(folder, "model.onnx"), latency=latency)
            trials = trials or held_out_trials(file, config, checkpoint).trials
            figures = summarise(file.card, list(run_trials(file, trials)))
            second = file.card.sample_rate
            points.append(
                Point(
                    block=_milliseconds(model, latency.block) if latency.block else None,
                    look_ahead=1000.0 * file.card.look_ahead / second if latency.block else None,
                    parameters=file.card.parameters,
                    macs_per_second=macs_per_second(file, second),
                    figures=figures,
                )
            )
    name = "accuracy" if config.model.head.kind == "classify" else "cer"
    Console().print(_table(points, name))
    if json_file is not None:
        write_figures(json_file, {"model": config.name, "points": [vars(p) for p in points]})
    if plot is not None:
        plot_frontier([(p.look_ahead, p.figures) for p in points], name, plot)
    return points


def latencies(model: AcousticModel) -> list[Latency]:
    """The latencies to compare, each once; a run that cannot look ahead has only its own."""
    encoder = model.config.encoder
    if not encoder.parts.bidirectional:
        return [encoder.latency]
    frame = _milliseconds(model, 1)
    home = encoder.block or math.ceil(max(LOOK_AHEADS) / frame)
    steps = (round(wanted / (frame * encoder.layers)) for wanted in LOOK_AHEADS)
    points = {Latency(max(home, step), step) for step in steps}
    if encoder.block:
        points.add(encoder.latency)
    return [*sorted(points, key=lambda latency: latency.look_ahead), WHOLE]


def _milliseconds(model: AcousticModel, frames: int) -> float:
    return 1000.0 * frames * model.frame_length / model.config.mfcc.sample_rate


def _table(points: list[Point], name: str) -> Table:
    columns = ("look-ahead ms", "block ms", f"{name} % (95 % interval)", "M MACs/s", "real time")
    table = Table(*columns, title=f"{points[0].parameters / 1e6:.2f} M parameters", caption=LATENCY)
    for point in points:
        table.add_row(
            "whole" if point.look_ahead is None else f"{point.look_ahead:.0f}",
            "-" if point.block is None else f"{point.block:.0f}",
            percent(point.figures[name], point.figures[f"{name}_interval"]),
            f"{point.macs_per_second / 1e6:.1f}",
            f"{point.figures['real_time_factor']:.4f}",
        )
    return table
