"""Pictures of studies that compare models, as PNG files."""

from pathlib import Path
from typing import Any

import numpy as np

from asr.training.plots import COLOURS, GUIDE, INK, new_figure, save


def plot_frontier(points: list[tuple[float | None, dict[str, Any]]], name: str, path: Path) -> None:
    """A figure with its 95 % interval (shares, drawn in percent) against the look-ahead in ms.

    points: look-ahead, None for the whole utterance, and the figures of an evaluation.
    """
    figure, axes, pyplot = new_figure(7, 4)
    values = np.array([100.0 * figures[name] for _, figures in points])
    bounds = np.array([figures[f"{name}_interval"] for _, figures in points]).T * 100.0
    places = np.arange(len(points))
    spread = np.abs(bounds - values)
    axes.errorbar(places, values, yerr=spread, color=COLOURS[0], marker="o", capsize=3)
    axes.set_xticks(
        places, ["whole\nutterance" if ahead is None else f"{ahead:.0f}" for ahead, _ in points]
    )
    axes.set(xlabel="look-ahead (ms)", ylabel=f"{name} (%)")
    axes.grid(color=GUIDE, axis="y", linewidth=0.5)
    save(figure, path)
    pyplot.close(figure)


def plot_comparison(rows: list[dict[str, Any]], name: str, path: Path, remedy: str) -> None:
    """A line for each encoder: a figure (a share, drawn in percent) with its 95 % interval and, as
    small points, that of every seed; then what it costs."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure((12, 0.5 * len(rows) + 1.4), layout="constrained")
    first, *others = figure.subplots(1, 4, sharey=True, width_ratios=[2, 1, 1, 1])
    places = np.arange(len(rows))
    values = np.array([100.0 * row["value"] for row in rows])
    bounds = np.array([row["interval"] for row in rows]).T * 100.0
    style: dict[str, Any] = {"color": COLOURS[0], "capsize": 3, "fmt": "o"}
    first.errorbar(values, places, xerr=np.abs(bounds - values), **style)
    for place, row in enumerate(rows):
        seeds = [100.0 * value for value in row["values"]]
        first.plot(seeds, [place + 0.25] * len(seeds), ".", color=COLOURS[1], markersize=4)
    first.set(xlabel=f"{name} (%)", yticks=places, yticklabels=[row["kind"] for row in rows])
    first.invert_yaxis()
    costs = (
        ("M MACs/s", [row["macs_per_second"] / 1e6 for row in rows]),
        ("block + look-ahead (ms)", [row["latency_ms"] or 0.0 for row in rows]),
        ("real-time factor", [row["real_time_factor"] for row in rows]),
    )
    for axis, (label, numbers) in zip(others, costs, strict=True):
        axis.barh(places, numbers, height=0.5, color=COLOURS[2])
        axis.set_xlabel(label)
    for place, row in enumerate(rows):
        if row["latency_ms"] is None:
            others[1].text(0.0, place, " whole utterance", va="center", color=INK, fontsize=8)
    for axis in (first, *others):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color=GUIDE, axis="x", linewidth=0.5)
        axis.set_axisbelow(True)
    save(figure, path, remedy)
