"""From the rate of a recording to the rate of a model: soxr's "HQ" (linear phase, 20 bits)."""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from features.audio.errors import AudioError

QUALITY = "HQ"

# Speech below 1 kHz is no speech, no converter runs above 768 kHz. A header that lies beyond is
# damaged, and obeying it would turn a few kilobytes into as many megabytes.
LOWEST_RATE = 1_000  # Hz
HIGHEST_RATE = 768_000


def check_rate(rate: float, name: str) -> None:
    """Raise AudioError unless a recording can have been made at `rate` Hz."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"{name}: its rate is {rate:g} Hz, not within {LOWEST_RATE} to {HIGHEST_RATE}; "
            "give the one it was recorded at"
        )


def resample(samples: np.ndarray, rate: float, sample_rate: float) -> np.ndarray:
    """Return the whole of float32 (n,), n > 0, at `sample_rate` Hz, at least one sample."""
    if rate == sample_rate:
        return samples
    resampled = soxr.resample(samples, rate, sample_rate, quality=QUALITY)
    return resampled if len(resampled) else _too_short()


def resample_blocks(
    blocks: Iterable[np.ndarray], rate: float, sample_rate: float
) -> Iterator[np.ndarray]:
    """Yield the same samples block by block: float32 (n,), n > 0."""
    if rate == sample_rate:
        yield from blocks
        return
    resampler = Resampler(rate, sample_rate)
    length = 0
    for block in blocks:
        resampled = resampler.push(block)
        length += len(resampled)
        if len(resampled):
            yield resampled
    rest = resampler.finish()
    if len(rest):
        yield rest
    elif not length:
        yield _too_short()


class Resampler:
    """Resamples a stream of float32 (n,) blocks from `rate` to `sample_rate` Hz."""

    def __init__(self, rate: float, sample_rate: float) -> None:
        self._stream = None
        if rate != sample_rate:
            self._stream = soxr.ResampleStream(
                rate, sample_rate, 1, dtype="float32", quality=QUALITY
            )

    def push(self, block: np.ndarray) -> np.ndarray:
        """Take the next block; return the samples that are certain by now."""
        return block if self._stream is None else self._stream.resample_chunk(block)

    def finish(self) -> np.ndarray:
        """Return what is left when the audio has ended."""
        nothing = np.empty(0, np.float32)
        return nothing if self._stream is None else self._stream.resample_chunk(nothing, last=True)


def _too_short() -> np.ndarray:
    """Audio shorter than one output sample: a single zero, so that a file gives a result."""
    return np.zeros(1, np.float32)
