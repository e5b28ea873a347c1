"""Raw PCM as clients send it, to float32 mono at a model's rate."""

import numpy as np

from asr.serve.refusal import RefusedError
from features.audio import FULL_SCALE, Mixer, Resampler

FORMATS = {  # name: dtype, and what its full scale is divided by after the offset is taken away
    "u8": ("<u1", 128.0, 128.0),
    "s16le": ("<i2", 0.0, FULL_SCALE),
    "s32le": ("<i4", 0.0, 2.0**31),
    "f32le": ("<f4", 0.0, 1.0),
}
LOWEST_RATE, HIGHEST_RATE = 4_000, 192_000  # Hz; beyond, a message would grow too much
MOST_CHANNELS = 8


class Pcm:
    """Converts what one client sends, message by message.

    rate: in Hz; format: one of FORMATS; channels: interleaved, averaged. Raises RefusedError.
    """

    def __init__(
        self, sample_rate: int, rate: float, format: str = "s16le", channels: int = 1
    ) -> None:
        if not _is_number(rate) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise _refusal(
                f"a sample rate of {rate} Hz is not within {LOWEST_RATE} to {HIGHEST_RATE}"
            )
        if format not in FORMATS:
            raise _refusal(f"format '{format}' is none of {', '.join(FORMATS)}")
        if not isinstance(channels, int) or not 1 <= channels <= MOST_CHANNELS:
            raise _refusal(f"{channels} channels are not 1 to {MOST_CHANNELS}")
        dtype, self._offset, self._scale = FORMATS[format]
        self._dtype = np.dtype(dtype)
        self._channels = channels
        self._mixer = Mixer(channels, rate, "a stream")
        self._resampler = Resampler(rate, sample_rate)

    def push(self, data: bytes) -> np.ndarray:
        """Return the samples of a message, float32 (n,). Raises RefusedError."""
        if len(data) % (self._dtype.itemsize * self._channels):
            raise _refusal(
                f"{len(data)} bytes are no whole number of samples of "
                f"{self._dtype.itemsize} bytes on {self._channels} channels"
            )
        values = np.frombuffer(data, self._dtype).astype(np.float32)
        scaled = (values - np.float32(self._offset)) / np.float32(self._scale)
        return self._resampler.push(self._mixer.push(scaled.reshape(-1, self._channels)))

    def finish(self) -> np.ndarray:
        """Return what was kept for what might have followed, float32 (n,)."""
        mixed = [self._resampler.push(rest) for rest in self._mixer.rest()]
        return np.concatenate([*mixed, self._resampler.finish()])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refusal(message: str) -> RefusedError:
    return RefusedError(message, 400, 1007)
