"""Why a model file recognises a label in a recording or not, and which parts of the sound decide.

Saliency is by occlusion (Zeiler & Fergus, 2014): a part of the sound is taken out, and what that
does to the score of the label is its weight. It needs the model alone, as it runs on the device.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from librosa import fft_frequencies, istft, mel_frequencies, stft

from asr.model import Model
from asr.studies.evidence import ExplainError, Trace, evidence_for, stream_scores
from asr.training.progress import tracked
from features.audio import read_audio

SECONDS = 8.0  # of a recording; more of it is too fine for a picture
WINDOW_SECONDS = 0.032  # of the spectrogram
BANDS = 10  # of the saliency, equally wide on the mel scale
CELL_SECONDS = 0.08
BEFORE_SECONDS, AFTER_SECONDS = 1.5, 0.2  # of the moment of the highest score, to occlude
NEAR_SECONDS = 0.4  # within which the score is compared, for it may move
LOWEST = 1e-3  # score below which, as above 1 - LOWEST, differences say nothing
PAUSE = 0.1  # quantile of a frequency's level over time that stands for a pause
ROWS = 8  # labels whose posteriors are shown


@dataclass(frozen=True)
class Saliency:
    """weights: (cells of time, BANDS), how much the log-odds of the score fall if a cell is taken
    out; the cells begin at `start` seconds and at the `edges` in Hz (BANDS + 1,)."""

    weights: np.ndarray
    start: float
    edges: np.ndarray


@dataclass(frozen=True)
class Why:
    """All that is drawn of a model and a recording.

    spectrogram: (frequencies, frames) in dB, of the sound alone; posteriors: (frames, labels) with
    the times when they were there, in seconds (frames,), of the labels that matter.
    """

    model: str
    label: str
    sample_rate: int
    waveform: np.ndarray
    spectrogram: np.ndarray
    labels: tuple[str, ...]
    times: np.ndarray
    posteriors: np.ndarray
    trace: Trace
    saliency: Saliency


def explain_label(model: Model, recording: Path, label: str | None) -> Why:
    """Explain a label (see `evidence_for`) in the first SECONDS of a recording. Raises
    EarshotError."""
    rate = model.card.sample_rate
    waveform = read_audio(recording, rate)[: round(SECONDS * rate)]
    if len(waveform) < WINDOW_SECONDS * rate:
        raise ExplainError(f"{recording}: has no sound; name a recording with words in it")
    runs = stream_scores(model, waveform)
    evidence = evidence_for(model, runs, label)
    trace = evidence.trace(runs)
    near = np.abs(trace.times - trace.moment) <= NEAR_SECONDS

    def score(sound: np.ndarray) -> float:
        highest = evidence.scores(stream_scores(model, sound))[near].max()
        share = min(max(float(highest), LOWEST), 1.0 - LOWEST)
        return math.log(share / (1.0 - share))

    posteriors = np.exp(np.concatenate([run.log_probs for run in runs]))
    rows = _worth_showing(posteriors, model.card.labels, evidence.label)
    spectrum = _spectrum(waveform, rate)
    return Why(
        model=model.card.name,
        label=evidence.label,
        sample_rate=rate,
        waveform=waveform,
        spectrogram=20.0 * np.log10(np.abs(spectrum) + 1e-6),
        labels=tuple(model.card.labels[k] for k in rows),
        times=_times(model, posteriors, trace),
        posteriors=posteriors[:, rows],
        trace=trace,
        saliency=occlude(waveform, rate, trace.moment, score),
    )


def _times(model: Model, posteriors: np.ndarray, trace: Trace) -> np.ndarray:
    if model.card.task == "classify":
        return trace.times
    return (np.arange(len(posteriors)) + 1.0) * model.card.hop_length / model.card.sample_rate


def _worth_showing(posteriors: np.ndarray, names: tuple[str, ...], label: str) -> list[int]:
    """The labels with the highest posteriors, and those that were asked for, in their order."""
    highest = posteriors.max(axis=0)
    wanted = {label, *label}  # a keyword, or the letters of a word
    asked = [k for k, name in enumerate(names) if name in wanted]
    others = [k for k in np.argsort(-highest, kind="stable").tolist() if k not in asked]
    return sorted([*asked, *others[: max(0, ROWS - len(asked))]])


def _hop(rate: int) -> int:
    return round(WINDOW_SECONDS * rate) // 4


def _spectrum(waveform: np.ndarray, rate: int) -> np.ndarray:
    return stft(waveform, n_fft=round(WINDOW_SECONDS * rate), hop_length=_hop(rate))


def occlude(
    waveform: np.ndarray, rate: int, moment: float, score: Callable[[np.ndarray], float]
) -> Saliency:
    """Take out every cell before a moment, in turn, and see how far the score falls.

    waveform: float32 (samples,); score: of such a waveform. In a cell that is taken out the sound
    is as soft as it is in pauses.
    """
    spectrum = _spectrum(waveform, rate)
    pause = np.quantile(np.abs(spectrum), PAUSE, axis=1, keepdims=True)
    soft = spectrum * np.minimum(1.0, pause / np.maximum(np.abs(spectrum), 1e-12))
    edges = mel_frequencies(BANDS + 1, fmin=0.0, fmax=rate / 2, htk=True)
    rows = np.searchsorted(fft_frequencies(sr=rate, n_fft=round(WINDOW_SECONDS * rate)), edges)
    start = max(0.0, moment - BEFORE_SECONDS)
    end = min(moment + AFTER_SECONDS, len(waveform) / rate)
    count = max(1, math.ceil((end - start) / CELL_SECONDS))
    whole = score(waveform)
    weights = np.zeros((count, BANDS))
    for cell, band in tracked(list(np.ndindex(count, BANDS)), "taking out"):
        first = round((start + cell * CELL_SECONDS) * rate / _hop(rate))
        last = round((start + (cell + 1) * CELL_SECONDS) * rate / _hop(rate))
        place = slice(rows[band], rows[band + 1] + (band == BANDS - 1)), slice(first, last)
        changed = spectrum.copy()
        changed[place] = soft[place]
        sound = istft(changed, hop_length=_hop(rate), length=len(waveform))
        weights[cell, band] = whole - score(sound.astype(np.float32))
    return Saliency(weights, start, edges)
