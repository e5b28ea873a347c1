"""Pictures of a training and of an evaluation, as PNG files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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


def plot_curves(history: list[dict[str, Any]], metric: str, path: Path) -> None:
    """Loss on the left axis, the validation metric (a share, drawn in percent) on the right."""
    figure, losses, pyplot = _figure(8, 4.5)
    steps = [entry["step"] for entry in history]
    for name, colour in (("train_loss", COLOURS[0]), ("validation_loss", COLOURS[1])):
        label = name.replace("_", " ")
        losses.plot(steps, [entry[name] for entry in history], color=colour, label=label)
    losses.set(xlabel="step", ylabel="loss per target", yscale="log")
    losses.grid(color=GUIDE, which="both", linewidth=0.5)
    percent = losses.twinx()
    values = [100.0 * entry[metric] for entry in history]
    percent.plot(steps, values, color=COLOURS[2], linestyle="--", label=f"validation {metric}")
    percent.set_ylabel(f"{metric} (%)")
    percent.spines["top"].set_visible(False)
    lines = [*losses.get_lines(), *percent.get_lines()]
    losses.legend(lines, [str(line.get_label()) for line in lines], frameon=False)
    losses.set_title(f"{metric} {values[-1]:.2f} % at step {steps[-1]}", color=INK, loc="left")
    _save(figure, path)
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
    _save(figure, path)
    pyplot.close(figure)


def _save(figure: "Figure", path: Path) -> None:
    part = path.with_suffix(".part")
    figure.savefig(part, dpi=120, format="png")
    part.replace(path)
