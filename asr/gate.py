"""Saves power while it is quiet: sound without energy does not reach the model.

    stream = Gated(asr.Stream(model))
    for block in microphone:
        for event in stream.push(block):
            print(event)

Measuring the level of a block costs far less than the step of a model. What is quiet is found
against the background of the place, so that there is no level to set.
"""

from collections import deque

import numpy as np

from asr.events import Event, shifted
from asr.runtime.samples import checked
from asr.runtime.scorers import NOTHING
from asr.stream import Stream

FRAME_SECONDS = 0.02  # over which energy is averaged
LAG_SECONDS = 1 / 4000  # between samples whose difference has voices, and little hum
MARGIN = 2.0  # times the energy of the background, 3 dB: speech has more
FLOOR_SECONDS = 10.0  # the background is the quietest frame of so much sound
LEAST_ENERGY = 1e-10  # of samples in -1..1: what 16 bits make of silence
LEAD_SECONDS = 1.0  # from before the first loud frame, for the faint beginnings of words
HOLD_SECONDS = 2.0  # after the last one, besides what the decoder waits for


class Gated:
    """A stream that rests while it is quiet.

    It rests once it has settled: no utterance is open, no keyword waits to be confirmed. When
    something is loud it goes on with the second before, from the state that it was left in: to
    begin from the initial one was measured, and costs words. Its events are those of the stream
    alone but for what a model makes of sound that is unclear, since silence, too, moves its state.
    Energy is that of differences, which leaves out hum and rumble: between neighbours, where
    consonants stand out, and over LAG_SECONDS, where vowels do; either will do. Sound is left
    out in whole blocks of the model, so that the blocks lie as they would without a gate.

    skipped, samples: how many samples were kept from the model, of how many.
    """

    def __init__(self, stream: Stream) -> None:
        self.card = stream.card
        self._stream = stream
        rate = self.card.sample_rate
        self._block = self.card.block_length or self.card.hop_length
        self._frame = max(1, round(FRAME_SECONDS * rate))
        seconds = self._block / rate
        self._hold = round((stream.settling + HOLD_SECONDS) / seconds)
        self._lead = -(-round(LEAD_SECONDS * rate) // self._block)
        self._floors: deque[np.ndarray] = deque(maxlen=max(1, round(FLOOR_SECONDS / seconds)))
        self._kept: deque[np.ndarray] = deque()
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state."""
        self._stream.reset()
        self._floors.clear()
        self._kept.clear()
        self._rest = NOTHING
        lag = max(1, round(LAG_SECONDS * self.card.sample_rate))
        self._before = np.zeros(lag, np.float32)
        self._quiet = 0  # blocks since something was loud
        self.samples = self.skipped = 0

    def push(self, block: np.ndarray) -> list[Event]:
        """Take float32 (n,), any n >= 0; return the events that it brings. Raises StreamError."""
        present = np.concatenate([self._rest, checked(block)])
        self.samples += len(block)
        whole = len(present) - len(present) % self._block
        self._rest = present[whole:]
        events: list[Event] = []
        for start in range(0, whole, self._block):
            events += self._take(present[start : start + self._block])
        return events

    def finish(self, last: np.ndarray = NOTHING) -> list[Event]:
        """Take a last block, end the sound, and return the last events. Raises StreamError."""
        events = self.push(last)
        if len(self._rest) and self._is_loud(self._rest):
            events += self._awake()
        rest = NOTHING if self._kept else self._rest
        return events + self._moved(self._stream.finish(rest))

    def _take(self, block: np.ndarray) -> list[Event]:
        self._quiet = 0 if self._is_loud(block) else self._quiet + 1
        if self._quiet > self._hold:
            self._kept.append(block)
            if len(self._kept) > self._lead:
                self.skipped += len(self._kept.popleft())
            return []
        return self._awake() + self._moved(self._stream.push(block))

    def _awake(self) -> list[Event]:
        """Push what was kept from before, if the stream was resting."""
        kept = list(self._kept)
        self._kept.clear()
        return self._moved(self._stream.push(np.concatenate(kept))) if kept else []

    def _moved(self, events: list[Event]) -> list[Event]:
        seconds = self.skipped / self.card.sample_rate
        return [shifted(event, seconds) for event in events] if self.skipped else events

    def _is_loud(self, block: np.ndarray) -> bool:
        lag = len(self._before)
        present = np.concatenate([self._before, block])
        self._before = present[-lag:]
        near, far = present[lag:] - present[lag - 1 : -1], block - present[:-lag]
        energies = np.stack([self._energies(near), self._energies(far)])
        self._floors.append(energies.min(axis=1))
        floor = np.maximum(np.min(self._floors, axis=0), LEAST_ENERGY)
        return bool((energies.max(axis=1) > MARGIN * floor).any())

    def _energies(self, changes: np.ndarray) -> np.ndarray:
        whole = len(changes) - len(changes) % self._frame
        frames = changes[:whole].reshape(-1, self._frame) if whole else changes[None]
        return np.square(frames).mean(axis=1)
