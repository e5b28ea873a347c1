"""Pictures of the page: error rates by condition, and what a model reads over time."""

from pathlib import Path
from typing import Any

import numpy as np

from asr.card import ModelCard
from asr.training.plots import COLOURS, GUIDE, new_figure, save

CURVES = 4  # labels whose posteriors are drawn


def plot_conditions(rates: dict[str, float], name: str, path: Path) -> None:
    """Bars of an error rate, a share, by condition."""
    figure, axes, pyplot = new_figure(7, 3.2)
    axes.bar(range(len(rates)), [100 * rate for rate in rates.values()], color=COLOURS[0])
    axes.set_xticks(range(len(rates)), list(rates), rotation=20, ha="right")
    axes.set_ylabel(f"{name} (%)")
    axes.grid(color=GUIDE, linewidth=0.5, axis="y")
    axes.set_axisbelow(True)
    save(figure, path)
    pyplot.close(figure)


def plot_reading(card: ModelCard, samples: np.ndarray, log_probs: np.ndarray, path: Path) -> None:
    """A spectrogram of (samples,) above the posteriors of (frames, labels) over the same time."""
    from librosa import amplitude_to_db, stft
    from librosa.display import specshow

    figure, _, pyplot = new_figure(8, 4)
    figure.clear()
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    decibels = amplitude_to_db(np.abs(stft(samples, n_fft=512, hop_length=160)), ref=np.max)
    rate = card.sample_rate
    specshow(decibels, sr=rate, hop_length=160, x_axis="time", y_axis="linear", ax=above)
    above.set(xlabel="", ylabel="Hz")
    seconds = len(samples) / card.sample_rate
    times = (np.arange(len(log_probs)) + 0.5) * seconds / len(log_probs)
    if card.blank is None:
        _draw_labels(below, times, np.exp(log_probs), card.labels)
    else:
        _draw_letters(below, times, np.exp(log_probs), card)
    below.set(xlabel="time (s)", ylabel="posterior", ylim=(0, 1.15), xlim=(0, seconds))
    save(figure, path)
    pyplot.close(figure)


def _draw_labels(
    axes: Any, times: np.ndarray, posteriors: np.ndarray, labels: tuple[str, ...]
) -> None:
    """A curve for each of the labels that reach furthest."""
    for label in np.argsort(-posteriors.max(axis=0))[:CURVES]:
        axes.plot(times, posteriors[:, label], label=labels[label])
    axes.legend(frameon=False, fontsize=8)


def _draw_letters(axes: Any, times: np.ndarray, posteriors: np.ndarray, card: ModelCard) -> None:
    """The posterior of whatever leads, but for the blank, with its letter above each peak."""
    rest = posteriors.copy()
    rest[:, card.blank] = 0.0
    leader, heights = rest.argmax(axis=1), rest.max(axis=1)
    axes.bar(times, heights, width=times[0] * 2, color=COLOURS[0])
    for frame in np.flatnonzero(heights > posteriors[:, card.blank]):
        name = card.labels[leader[frame]]
        if name.strip():
            axes.text(times[frame], heights[frame] + 0.02, name, ha="center", fontsize=8)
