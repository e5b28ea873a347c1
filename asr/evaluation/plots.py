"""Pictures of an evaluation, as PNG files."""

from pathlib import Path
from typing import Any

import numpy as np

from asr.training.plots import COLOURS, GUIDE, INK, new_figure, save

LEGEND_CURVES = 8  # more of them cannot be distinguished


def plot_confusion(counts: np.ndarray, labels: tuple[str, ...], path: Path) -> None:
    """Rows: what was said; columns: what was recognised; coloured by the share of the row."""
    size = max(4.5, 0.55 * len(labels) + 1.5)
    figure, axes, pyplot = new_figure(size, size)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.argwhere(counts > 0):
        colour = "white" if shares[row, column] > 0.5 else INK
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set(xlabel="recognised", ylabel="said")
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    save(figure, path)
    pyplot.close(figure)


def plot_det(curve: list[dict[str, Any]], chosen: list[dict[str, Any]], path: Path) -> None:
    """Detection error tradeoff (Martin et al., 1997): missed keywords against false alarms.

    curve, chosen: points with `false_alarms_per_hour` and `miss_rate` (a share, drawn in percent).
    """
    figure, axes, pyplot = _det_axes()
    for points, style in ((curve, "-"), (chosen, "o")):
        axes.plot(*_det_points(points), style, color=COLOURS[0])
    save(figure, path)
    pyplot.close(figure)


def plot_det_curves(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Several of the curves of `plot_det` by their names, the first one thick."""
    figure, axes, pyplot = _det_axes()
    for number, (name, points) in enumerate(curves.items()):
        style = {"color": INK, "linewidth": 2.5} if not number else {"linewidth": 1.0}
        axes.plot(*_det_points(points), label=name, **style)
    if len(curves) <= LEGEND_CURVES:
        axes.legend(frameon=False)
    save(figure, path)
    pyplot.close(figure)


def _det_points(points: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    alarms = [point["false_alarms_per_hour"] for point in points]
    return alarms, [100.0 * point["miss_rate"] for point in points]


def _det_axes() -> tuple[Any, Any, Any]:
    """A figure with the axes of a detection error tradeoff, and what closes it.

    They are logarithmic, but for the ends: zero is a result that must be seen.
    """
    figure, axes, pyplot = new_figure(6, 4.5)
    ticks = (0, 0.5, 1, 2, 5, 10, 20, 50, 100)
    axes.set_xscale("symlog", linthresh=0.5)
    axes.set_yscale("symlog", linthresh=0.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="false alarms per hour", ylabel="missed (%)")
    axes.grid(color=GUIDE, linewidth=0.5)
    return figure, axes, pyplot


def plot_reliability(curves: dict[str, np.ndarray], path: Path) -> None:
    """The share of right words against their confidence: the closer to the diagonal, the better.

    curves: by name, (bins, 3) of mean confidence, share right and words.
    """
    figure, axes, pyplot = new_figure(5, 4.5)
    axes.plot([0, 100], [0, 100], color=GUIDE)
    for (name, bins), colour in zip(curves.items(), COLOURS, strict=False):
        axes.plot(100 * bins[:, 0], 100 * bins[:, 1], "o-", color=colour, label=name)
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="confidence (%)", ylabel="right (%)")
    axes.legend(frameon=False)
    axes.grid(color=GUIDE, linewidth=0.5)
    save(figure, path)
    pyplot.close(figure)
