"""Figures of a model that listens all the time, as tables and as a picture."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from asr.evaluation.plots import plot_det_curves
from asr.evaluation.report import percent, stretch


def print_streams(figures: dict[str, Any]) -> None:
    """Print the figures of `asr.evaluation.alarms.stream_figures`."""
    console = Console(highlight=False, soft_wrap=True)
    names = ("keyword", "threshold", "said", "missed % (95 % interval)", "false alarms", "an hour")
    table = Table(*names, "at most", "delay s", "90 % s", padding=(0, 0))
    for name, row in {**figures["keywords"], "all": figures["all"]}.items():
        table.add_row(
            name,
            _shown(row.get("threshold")),
            str(row["said"]),
            percent(row["miss_rate"], row["miss_interval"]),
            str(row["false_alarms"]),
            *(_shown(row[key]) for key in ("false_alarms_per_hour", "at_most")),
            *(_shown(row[key]) for key in ("delay_median", "delay_90")),
        )
    console.print(table)
    console.print(
        f"{stretch(figures['hours'])} of sound without keywords in {figures['streams']} streams; "
        "at most: proved with 95 % confidence; delay: from the end of the word"
    )


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def plot_streams(figures: dict[str, Any], path: Path) -> None:
    """Draw misses against false alarms, for each keyword and for all at one threshold."""
    plot_det_curves({"all": figures["curve"], **figures["curves"]}, path)
