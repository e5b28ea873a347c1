"""Pictures as PNG files: how all of them look, and the curves of a training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.files import ANOTHER_FILE, whole_file

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when there is something to draw
    from matplotlib.figure import Figure

INK, GUIDE = "#1f2933", "#d9dee4"
COLOURS = ("#2563a8", "#c2571a", "#2f855a", "#7b4ba8")


def new_figure(width: float, height: float) -> tuple["Figure", Any, Any]:
    """An empty figure of so many inches, its axes, and pyplot, which has to close it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes, pyplot


def plot_curves(history: list[dict[str, Any]], metric: str, path: Path, remedy: str) -> None:
    """Loss on the left axis, the validation metric on the right: in percent, being a share, but
    for perplexity."""
    figure, losses, pyplot = new_figure(8, 4.5)
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


def save(figure: "Figure", path: Path, remedy: str = ANOTHER_FILE) -> None:
    """Write a figure as PNG, whole or not at all. Raises WriteError."""
    with whole_file(path, remedy) as part:
        figure.savefig(part, dpi=120, format="png")
