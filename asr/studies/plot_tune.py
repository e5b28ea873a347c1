"""The picture of `asr tune`: what mattered, how the search went, and which values were good."""

from pathlib import Path
from typing import Any

import numpy as np

from asr.studies.search_space import Choice, Space
from asr.training.plots import COLOURS, GUIDE, INK, save

BEST_SHARE = 0.75  # of the trials sets the end of the colours: the rest is all pale


def plot_search(figures: dict[str, Any], space: Space, path: Path, remedy: str) -> None:
    """Importances, the figure of each trial in order, and parallel coordinates (Inselberg, 1985).

    figures: as `asr.studies.tune` writes them.
    """
    from matplotlib.figure import Figure  # slow to import

    complete = [row for row in figures["trials"] if row["state"] == "complete"]
    width = max(9.0, 1.8 * (len(space) + 1))
    figure = Figure(figsize=(width, 8.0), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[1.0, 1.6])
    _draw_importance(figure.add_subplot(grid[0, 0]), figures["importance"])
    _draw_history(figure.add_subplot(grid[0, 1]), figures)
    _draw_coordinates(figure.add_subplot(grid[1, :]), complete, figures["metric"], space)
    save(figure, path, remedy)


def _draw_importance(axis: Any, importance: dict[str, float]) -> None:
    names = [key.rpartition(".")[2] for key in importance]
    axis.barh(names, [100.0 * share for share in importance.values()], color=COLOURS[0])
    axis.invert_yaxis()
    axis.set(xlabel="importance (%)", title="what mattered")
    if not importance:
        axis.text(0.5, 0.5, "too few trials", ha="center", transform=axis.transAxes, color=INK)
    _plain(axis)


def _draw_history(axis: Any, figures: dict[str, Any]) -> None:
    """The best figure of each trial, those that were cut short too, and the best so far."""
    for state, style in (("complete", "o"), ("pruned", "x")):
        rows = [row for row in figures["trials"] if row["state"] == state and row["validations"]]
        values = [min(row["validations"]) for row in rows]
        axis.plot(
            [row["trial"] for row in rows],
            values,
            style,
            color=COLOURS[0],
            markersize=4,
            label=state,
        )
    rows = [row for row in figures["trials"] if row["state"] == "complete"]
    best = np.minimum.accumulate([row["value"] for row in rows])
    axis.step([row["trial"] for row in rows], best, where="post", color=COLOURS[1], label="best")
    axis.set(xlabel="trial", ylabel=figures["metric"], title="how the search went")
    axis.legend(frameon=False, fontsize=8)
    _plain(axis)


def _draw_coordinates(axis: Any, rows: list[dict[str, Any]], metric: str, space: Space) -> None:
    """A line for each complete trial, from its values to its figure; the darker, the better."""
    keys = list(space)
    columns = [_places([row["parameters"][key] for row in rows], space[key]) for key in keys]
    values = np.array([row["value"] for row in rows])
    low, high = float(values.min()), float(values.max())
    columns.append((values - low) / ((high - low) or 1.0))
    reach = float(np.quantile(columns[-1], BEST_SHARE)) or 1.0
    for k in np.argsort(-values, kind="stable"):
        shade = 1.0 - min(1.0, columns[-1][k] / reach)
        line = [column[k] for column in columns]
        axis.plot(line, color=COLOURS[0], alpha=0.2 + 0.7 * shade, linewidth=0.8 + shade)
    for k, key in enumerate(keys):
        axis.axvline(k, color=GUIDE, zorder=0)
        for place, text in _ticks(space[key]):
            axis.text(k + 0.02, place, text, fontsize=8, color=INK, va="center")
    axis.axvline(len(keys), color=GUIDE, zorder=0)
    for place, value in ((0.0, low), (1.0, high)):
        axis.text(len(keys) + 0.02, place, f"{value:.4g}", fontsize=8, color=INK, va="center")
    axis.set_xticks(range(len(keys) + 1), [*(key.rpartition(".")[2] for key in keys), metric])
    axis.set(yticks=[], xlim=(-0.1, len(keys) + 0.3), title="which values were good")
    axis.spines[:].set_visible(False)


def _places(values: list[Any], dimension: Any) -> np.ndarray:
    """Where values stand on an axis of 0..1."""
    if isinstance(dimension, Choice):
        return np.array([dimension.values.index(v) for v in values]) / (len(dimension.values) - 1)
    scale = np.log if dimension.log else np.asarray
    low, high = scale(dimension.low), scale(dimension.high)
    return (scale(values) - low) / (high - low)


def _ticks(dimension: Any) -> list[tuple[float, str]]:
    """Places on an axis of 0..1, and what stands there."""
    points = dimension.grid()
    texts = [point if isinstance(point, str) else f"{point:.3g}" for point in points]
    return list(zip(_places(points, dimension).tolist(), texts, strict=True))


def _plain(axis: Any) -> None:
    axis.title.set_color(INK)
    axis.grid(color=GUIDE, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
