"""Pictures of a training and of an evaluation, as PNG files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.files import ANOTHER_FILE, whole_file

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when there is something to draw
    from matplotlib.figure import Figure

INK, GUIDE = "#1f2933", "#d9dee4"
COLOURS = ("#2563a8", "#c2571a", "#2f855a", "#7b4ba8")


def _figure(width: float, height: float) -> tuple["Figure", Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes, pyplot


def plot_curves(history: list[dict[str, Any]], metric: str, path: Path, remedy: str) -> None:
    """Loss on the left axis, the validation metric on the right: in percent, being a share, but
    for perplexity."""
    figure, losses, pyplot = _figure(8, 4.5)
    steps = [entry["step"] for entry in history]
    for name, colour in (("train_loss", COLOURS[0]), ("validation_loss", COLOURS[1])):
        label = name.replace("_", " ")
        losses.plot(steps, [entry[name] for entry in history], color=colour, label=label)
    losses.set(xlabel="step", ylabel="loss per target", yscale="log")
    losses.grid(color=GUIDE, which="both", linewidth=0.5)
    figures = losses.twinx()
    scale, unit = (1.0, "") if metric == "perplexity" else (100.0, " %")
    values = [scale * entry[metric] for entry in history]
    figures.plot(steps, values, color=COLOURS[2], linestyle="--", label=f"validation {metric}")
    figures.set_ylabel(metric + unit)
    figures.spines["top"].set_visible(False)
    lines = [*losses.get_lines(), *figures.get_lines()]
    losses.legend(lines, [str(line.get_label()) for line in lines], frameon=False)
    losses.set_title(f"{metric} {values[-1]:.2f}{unit} at step {steps[-1]}", color=INK, loc="left")
    save(figure, path, remedy)
    pyplot.close(figure)


def plot_confusion(counts: np.ndarray, labels: tuple[str, ...], path: Path) -> None:
    """Rows: what was said; columns: what was recognised; coloured by the share of the row."""
    size = max(4.5, 0.55 * len(labels) + 1.5)
    figure, axes, pyplot = _figure(size, size)
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


def plot_frontier(points: list[tuple[float | None, dict[str, Any]]], name: str, path: Path) -> None:
    """A figure with its 95 % interval (shares, drawn in percent) against the look-ahead in ms.

    points: look-ahead, None for the whole utterance, and the figures of an evaluation.
    """
    figure, axes, pyplot = _figure(7, 4)
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
    from matplotlib.figure import Figure

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


def plot_det(curve: list[dict[str, Any]], chosen: list[dict[str, Any]], path: Path) -> None:
    """Detection error tradeoff (Martin et al., 1997): missed keywords against false alarms.

    curve, chosen: points with `false_alarms_per_hour` and `miss_rate` (a share, drawn in percent).
    """
    figure, axes, pyplot = _figure(6, 4.5)
    for points, style in ((curve, "-"), (chosen, "o")):
        alarms = [point["false_alarms_per_hour"] for point in points]
        misses = [100.0 * point["miss_rate"] for point in points]
        axes.plot(alarms, misses, style, color=COLOURS[0])
    ticks = (0, 0.5, 1, 2, 5, 10, 20, 50, 100)
    # Logarithmic, but for the ends: zero is a result that must be seen.
    axes.set_xscale("symlog", linthresh=0.5)
    axes.set_yscale("symlog", linthresh=0.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="false alarms per hour", ylabel="missed (%)")
    axes.grid(color=GUIDE, linewidth=0.5)
    save(figure, path)
    pyplot.close(figure)


def plot_reliability(curves: dict[str, np.ndarray], path: Path) -> None:
    """The share of right words against how sure they are: on the diagonal, they are as sure as
    they should be. curves: by name, (bins, 3) of mean confidence, share right and words."""
    figure, axes, pyplot = _figure(5, 4.5)
    axes.plot([0, 100], [0, 100], color=GUIDE)
    for (name, bins), colour in zip(curves.items(), COLOURS, strict=False):
        axes.plot(100 * bins[:, 0], 100 * bins[:, 1], "o-", color=colour, label=name)
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="confidence (%)", ylabel="right (%)")
    axes.legend(frameon=False)
    axes.grid(color=GUIDE, linewidth=0.5)
    save(figure, path)
    pyplot.close(figure)


def save(figure: "Figure", path: Path, remedy: str = ANOTHER_FILE) -> None:
    """Write a figure as PNG, whole or not at all. Raises WriteError."""
    with whole_file(path, remedy) as part:
        figure.savefig(part, dpi=120, format="png")
