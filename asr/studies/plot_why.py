"""The picture of `asr explain` of a model file: sound, saliency, posteriors and trace."""

from pathlib import Path
from typing import Any

import numpy as np

from asr.studies.why import CELL_SECONDS, Why
from asr.training.plots import COLOURS, GUIDE, INK, save

RANGE_DB = 70.0  # of the spectrogram


def plot_why(why: Why, path: Path) -> None:
    """Five pictures one below the other, over the same time."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(11, 12), layout="constrained")
    heights = [0.7, 1.2, 1.2, 1.2, 1.0]
    axes = figure.subplots(5, 1, sharex=True, height_ratios=heights)
    _draw_waveform(axes[0], why)
    _draw_spectrogram(axes[1], why)
    _draw_saliency(axes[2], why)
    _draw_posteriors(axes[3], why)
    _draw_trace(axes[4], why)
    axes[0].set_xlim(0.0, max(len(why.waveform) / why.sample_rate, float(why.trace.times[-1])))
    axes[-1].set_xlabel("time (s)")
    figure.suptitle(f"{why.model}: {why.trace.reason}", color=INK, x=0.01, ha="left", fontsize=11)
    save(figure, path)


def _draw_waveform(axis: Any, why: Why) -> None:
    times = np.arange(len(why.waveform)) / why.sample_rate
    axis.plot(times, why.waveform, color=INK, linewidth=0.4)
    axis.set_ylabel("waveform")
    axis.spines[["top", "right"]].set_visible(False)


def _draw_spectrogram(axis: Any, why: Why) -> None:
    loudest = float(why.spectrogram.max())
    frequencies = np.linspace(0.0, why.sample_rate / 2, len(why.spectrogram))
    times = np.linspace(0.0, len(why.waveform) / why.sample_rate, why.spectrogram.shape[1])
    axis.pcolormesh(
        times, frequencies, why.spectrogram, cmap="magma", vmin=loudest - RANGE_DB, vmax=loudest
    )
    _mel_axis(axis, why)


def _draw_saliency(axis: Any, why: Why) -> None:
    """Red where the sound speaks for the label, blue where it speaks against it."""
    saliency = why.saliency
    reach = float(np.abs(saliency.weights).max()) or 1.0
    edges = saliency.start + CELL_SECONDS * np.arange(len(saliency.weights) + 1)
    style = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    image = axis.pcolormesh(edges, saliency.edges, saliency.weights.T, **style)
    label = f"red speaks for\n'{why.label}' (log-odds)"
    axis.figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03, aspect=12, label=label)
    _mel_axis(axis, why)


def _mel_axis(axis: Any, why: Why) -> None:
    """Frequencies as the ear spaces them: nearly linear below 700 Hz, logarithmic above."""
    axis.set_yscale("function", functions=(_mel, _hertz))
    axis.set(ylim=(0.0, why.sample_rate / 2), ylabel="frequency (Hz)")
    ticks = [f for f in (0, 500, 1000, 2000, 4000, 8000) if f <= why.sample_rate / 2]
    axis.set_yticks(ticks, [str(tick) for tick in ticks])


def _mel(hertz: np.ndarray) -> np.ndarray:
    return np.log1p(np.asarray(hertz) / 700.0)


def _hertz(mel: np.ndarray) -> np.ndarray:
    return 700.0 * np.expm1(mel)


def _draw_posteriors(axis: Any, why: Why) -> None:
    names = ["space" if name == " " else name for name in why.labels]
    steps = np.diff(why.times, prepend=0.0)
    edges = np.append(why.times - steps, why.times[-1])
    image = axis.pcolormesh(
        edges, np.arange(len(names) + 1) - 0.5, why.posteriors.T, cmap="Blues", vmin=0.0, vmax=1.0
    )
    axis.set_yticks(range(len(names)), names)
    axis.set_ylabel("posteriors")
    axis.figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03, aspect=12)


def _draw_trace(axis: Any, why: Why) -> None:
    trace = why.trace
    axis.plot(trace.times, trace.scores, color=COLOURS[0], label=f"score of '{why.label}'")
    axis.axhline(trace.threshold, color=COLOURS[1], linestyle="--", label="threshold")
    for k, time in enumerate(trace.found):
        label = "reported" if k == 0 else None
        axis.axvline(time, color=COLOURS[2], linewidth=1.5, label=label)
    axis.set(ylim=(0.0, 1.05), ylabel="score")
    axis.grid(color=GUIDE, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, ncols=3, fontsize=8, loc="upper left")
