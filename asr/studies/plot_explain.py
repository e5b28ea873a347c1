"""The picture of `asr explain`: sound, gates and states one below the other, and the gradient."""

from pathlib import Path
from typing import Any

import numpy as np

from asr.studies.inspection import Activity, Explanation
from asr.training.plots import COLOURS, GUIDE, INK, save

FLOOR = 1e-12  # of the gradients shown, relative to that at distance 0


def plot_explanation(explanation: Explanation, others: list[Explanation], path: Path) -> None:
    """A column for each layer, and the gradients of this and of other models below them all."""
    from matplotlib.figure import Figure  # slow to import

    layers = explanation.layers
    maps = [*layers[0].gates, *layers[0].states]
    heights = [1.6, 1.3] + [1.0] * len(maps) + [2.4]
    size = (max(8.0, 5.5 * len(layers)), 1.5 * sum(heights))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(len(heights), len(layers), height_ratios=heights)
    for column, layer in enumerate(layers):
        axes = [figure.add_subplot(grid[row, column]) for row in range(len(heights) - 1)]
        for axis in axes[1:]:
            axis.sharex(axes[0])
        _draw_layer(axes, explanation, layer, column)
    _draw_gradients(figure.add_subplot(grid[-1, :]), [explanation, *others])
    figure.suptitle(f"{explanation.name}: {explanation.kind}", color=INK, x=0.01, ha="left")
    save(figure, path)


def _draw_layer(axes: list[Any], explanation: Explanation, layer: Activity, k: int) -> None:
    """Spectrogram, means, then a map of units for each gate and each state.

    Units are in the order of the moments when their output is largest.
    """
    first, means, *maps = axes
    _draw_spectrogram(first, explanation)
    first.set_title(f"layer {k + 1}, forward direction", color=INK, loc="left", fontsize=11)
    count = len(layer.states["hidden"])
    time = (np.arange(count) + 0.5) * explanation.frame
    for (name, gate), colour in zip(layer.gates.items(), COLOURS, strict=False):
        means.plot(time, gate.mean(axis=1), color=colour, label=name)
    loudness = np.abs(layer.states["hidden"]).mean(axis=1)
    means.plot(time, loudness, color=INK, linestyle=":", label="|hidden|")
    means.set(ylabel="mean of units", ylim=(0.0, 1.0))
    means.grid(color=GUIDE, linewidth=0.5)
    means.spines[["top", "right"]].set_visible(False)
    means.legend(frameon=False, ncols=4, fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 0.97))
    order = np.abs(layer.states["hidden"]).argmax(axis=0).argsort(kind="stable")
    for axis, (name, units) in zip(maps, (layer.gates | layer.states).items(), strict=True):
        units = units[:, order]
        if name in layer.gates:
            image = _image(axis, units, explanation.frame, cmap="viridis", vmin=0.0, vmax=1.0)
        else:
            reach = float(np.quantile(np.abs(units), 0.995)) or 1.0
            image = _image(axis, units, explanation.frame, cmap="RdBu", vmin=-reach, vmax=reach)
        axis.set_ylabel(f"{name}\nunit")
        axis.figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03, aspect=12)
    axes[-1].set_xlabel("time (s)")
    for axis in axes[:-1]:
        axis.tick_params(labelbottom=False)


def _draw_spectrogram(axis: Any, explanation: Explanation) -> None:
    """In dB over seconds and, on a mel scale, Hz; each frame in the middle of what it is about."""
    from librosa.display import specshow  # imports matplotlib

    count = len(explanation.spectrogram)
    specshow(
        explanation.spectrogram.T,
        x_coords=(np.arange(count) + 0.5) * explanation.hop,
        y_coords=explanation.bands,
        x_axis="s",
        y_axis="mel",
        cmap="magma",
        ax=axis,
    )
    axis.set(xlabel="", ylabel="frequency (Hz)")


def _image(axis: Any, rows: np.ndarray, step: float, **style: Any) -> Any:
    """[frames, numbers] with time to the right and the first number below, `step` s a frame."""
    extent = (0.0, len(rows) * step, -0.5, rows.shape[1] - 0.5)
    return axis.imshow(
        rows.T, aspect="auto", origin="lower", interpolation="nearest", extent=extent, **style
    )


def _draw_gradients(axis: Any, explanations: list[Explanation]) -> None:
    """Each curve relative to its value at distance 0, for models scale their frames differently."""
    for explanation, colour in zip(explanations, COLOURS, strict=False):
        relative = explanation.gradients / max(explanation.gradients[0], np.finfo(float).tiny)
        distance = np.arange(len(relative)) * explanation.frame
        label = f"{explanation.name} ({explanation.kind})"
        axis.plot(distance, relative, color=colour, label=label)
    axis.set_yscale("log")
    axis.set_ylim(bottom=max(FLOOR, axis.get_ylim()[0]))
    axis.set(xlabel="distance in time (s)", ylabel="gradient norm (at 0 s: 1)")
    axis.set_title(
        "how much a frame still matters to the last output", color=INK, loc="left", fontsize=11
    )
    axis.grid(color=GUIDE, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
