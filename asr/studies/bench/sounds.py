"""What models are timed on: recordings, or noise with the spectrum and the rhythm of speech."""

from itertools import chain
from pathlib import Path

import numpy as np

from features.audio import find_audio, stream_audio

SECONDS = 60.0  # of audio in a pass; the longest that a whole-utterance ctc model takes
SEED = 7


def sound_of(path: Path | None, sample_rate: int) -> np.ndarray:
    """SECONDS of audio, float32 (samples,)."""
    samples = round(SECONDS * sample_rate)
    if path is None:
        return speech_shaped_noise(samples, sample_rate)
    pieces, length = [], 0
    for block in chain.from_iterable(stream_audio(file, sample_rate) for file in find_audio(path)):
        pieces.append(block)
        length += len(block)
        if length >= samples:
            break
    return np.resize(np.concatenate(pieces), samples)


def speech_shaped_noise(samples: int, sample_rate: int) -> np.ndarray:
    """Noise like many voices at once, the same at every call, float32 (samples,).

    Its spectrum falls by 9 dB an octave above 500 Hz, as that of speech does on average (Byrne et
    al., 1994), and its level sways four times a second, as syllables do (Houtgast & Steeneken,
    1985).
    """
    white = np.random.default_rng(SEED).standard_normal(samples)
    frequencies = np.fft.rfftfreq(samples, 1.0 / sample_rate)
    coloured = np.fft.irfft(np.fft.rfft(white) / (1.0 + (frequencies / 500.0) ** 1.5), samples)
    level = 1.0 + 0.9 * np.sin(2.0 * np.pi * 4.0 * np.arange(samples) / sample_rate)
    noise = level * coloured
    return (0.5 * noise / np.abs(noise).max()).astype(np.float32)
