"""Many channels become one: their mean, unless they cancel each other out."""

import logging
from collections.abc import Iterator

import numpy as np

logger = logging.getLogger(__name__)

FRAME_SECONDS = 0.02
MEMORY_SECONDS = 1.0
CANCELLED = 0.01  # of the channels' mean power is left in their mix: 20 dB lost
STRONG = 0.5  # share of the loudest channel's power that a channel needs to stand for all


class Mixer:
    """Mixes one recording block by block; how it was cut into blocks changes nothing.

    A stereo recording with one channel turned over (a wrongly wired cable, some phones) would mix
    to silence. Whether channels cancel is decided for frames of 20 ms, counted from the start of
    the recording, from powers averaged over the last second; the first strong channel is taken
    where they do, and a warning is logged once.
    """

    def __init__(self, channels: int, rate: float, name: str) -> None:
        self._frame = max(1, round(FRAME_SECONDS * rate))
        self._forgetting = np.exp(-FRAME_SECONDS / MEMORY_SECONDS)
        self._rest = np.empty((0, channels), np.float32)
        self._mixed_power = 0.0
        self._powers = np.zeros(channels)
        self._name = name
        self._warned = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Mix float32 (n, channels) to a fresh (m,); less than a frame is kept for later."""
        if samples.shape[1] == 1:
            return samples[:, 0].copy()
        missing = -len(self._rest) % self._frame
        joint = np.concatenate([self._rest, samples[:missing]])
        return np.concatenate([self._mix_frames(joint), self._mix_frames(samples[missing:])])

    def rest(self) -> Iterator[np.ndarray]:
        """Yield what was kept, mixed: (m,), m less than a frame."""
        if len(self._rest):
            yield self._mix(self._rest[None]).reshape(-1)

    def _mix_frames(self, samples: np.ndarray) -> np.ndarray:
        """Mix the whole frames of (n, channels), and keep the rest of them if n is not 0."""
        whole = len(samples) // self._frame * self._frame
        if len(samples):
            self._rest = samples[whole:].copy()
        return self._mix(samples[:whole].reshape(-1, self._frame, samples.shape[1])).reshape(-1)

    def _mix(self, frames: np.ndarray) -> np.ndarray:
        """Mix (count, samples, channels) to (count, samples)."""
        mixed = frames.mean(axis=2)
        mixed_powers = np.einsum("ft,ft->f", mixed, mixed)
        powers = np.einsum("ftc,ftc->fc", frames, frames)
        for i in range(len(frames)):
            self._mixed_power = self._mixed_power * self._forgetting + mixed_powers[i]
            self._powers = self._powers * self._forgetting + powers[i]
            if self._mixed_power < CANCELLED * self._powers.mean():
                mixed[i] = frames[i, :, self._first_strong()]
        return mixed

    def _first_strong(self) -> int:
        channel = int((self._powers >= STRONG * self._powers.max()).argmax())
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s: its channels cancel each other out (opposite phase), channel %d is taken "
                "instead of their mean",
                self._name,
                channel + 1,
            )
        return channel
