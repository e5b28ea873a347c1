"""Sound without end for `asr soak`: recordings or synthesised sounds, pauses, and a probe."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from features.audio import find_audio, stream_audio

CHUNK_SECONDS = 20.0  # after so much sound the events of both streams are compared
PROBE_SOUNDS = 5  # of which the first only leads in
PROBE_SECONDS = 4.0  # the longest of these
PAUSE_SECONDS = 3.0
SEED, PROBE_SEED = 7, 8


class Programme:
    """Recordings or synthesised sounds in random order, with pauses between, without end."""

    def __init__(self, sample_rate: int, data: Sequence[Path], noise: Sequence[Path]) -> None:
        self.sample_rate = sample_rate
        self._recordings = [file for path in data for file in find_audio(path)]
        self._noises = [file for path in noise for file in find_audio(path)]

    def probe(self) -> list[np.ndarray]:
        """Return the sounds of the probe, (n,) each; a soft pause ends what is said in it."""
        rng = np.random.default_rng(PROBE_SEED)
        length = round(PROBE_SECONDS * self.sample_rate)
        pause = 0.01 * _hiss(rng, round(1.5 * self.sample_rate))
        sounds = [next(self._sound(rng, PROBE_SECONDS)) for _ in range(PROBE_SOUNDS)]
        return [np.concatenate([sound[:length], pause]) for sound in sounds]

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield sounds and pauses, in chunks of CHUNK_SECONDS or a little more, for ever."""
        rng = np.random.default_rng(SEED)
        pauses = self._pauses(rng)
        waiting: list[np.ndarray] = []
        while True:
            for block in chain(self._sound(rng, 1.0), [next(pauses)]):
                waiting.append(block)
                if sum(map(len, waiting)) >= CHUNK_SECONDS * self.sample_rate:
                    yield np.concatenate(waiting)
                    waiting = []

    def _sound(self, rng: np.random.Generator, block_seconds: float) -> Iterator[np.ndarray]:
        """Return the blocks of a recording, or of a synthesised sound."""
        if self._recordings:
            path = self._recordings[int(rng.integers(len(self._recordings)))]
            return stream_audio(path, self.sample_rate, block_seconds=block_seconds)
        seconds = np.arange(round(rng.uniform(0.2, 8.0) * self.sample_rate)) / self.sample_rate
        make = SOUNDS[int(rng.integers(len(SOUNDS)))]
        return iter([make(rng, seconds).astype(np.float32)])

    def _pauses(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield noise of any length up to PAUSE_SECONDS and of any level down to nothing."""
        while True:
            blocks: Iterator[np.ndarray] = iter(
                [_hiss(rng, round(PAUSE_SECONDS * self.sample_rate))]
            )
            if self._noises:
                path = self._noises[int(rng.integers(len(self._noises)))]
                blocks = stream_audio(path, self.sample_rate, block_seconds=PAUSE_SECONDS)
            for block in blocks:
                gain = np.float32(rng.choice([0.0, 0.01, 0.1, 1.0]))
                yield gain * block[: int(rng.integers(1, len(block) + 1))]


def _hiss(rng: np.random.Generator, samples: int) -> np.ndarray:
    return 0.1 * rng.standard_normal(samples, np.float32)


def _silence(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    del rng
    return np.zeros_like(seconds)


def _tone(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    return rng.uniform(0.01, 1.0) * np.sin(2 * np.pi * rng.uniform(50, 4_000) * seconds)


def _babble(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Voices of twelve harmonics each that swell and fade as syllables do."""
    babble = np.zeros_like(seconds)
    for pitch, pace in zip(rng.uniform(80, 300, 6), rng.uniform(2, 6, 6), strict=True):
        phase = 2 * np.pi * pitch * seconds
        voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 13))
        babble += voice * np.square(np.sin(np.pi * pace * seconds))
    return rng.uniform(0.01, 0.1) * babble


def _clicks(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    return rng.choice([-1.0, 0.0, 1.0], p=[0.0005, 0.999, 0.0005], size=len(seconds))


def _burst(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    return rng.choice([-1.0, 1.0], size=len(seconds))


SOUNDS = (_silence, _tone, _babble, _clicks, _burst)
