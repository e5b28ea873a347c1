"""Takes of a word from a microphone: found by their level, trimmed, checked, and written."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import soundfile

from asr.files import whole_file
from features.activity import spoken_span

FRAME_SECONDS = 0.02
FLOOR_SECONDS = 2.0  # in which the level of the room is measured, at its quietest tenth
FLOOR_QUANTILE = 0.1
ONSET_DB = 12.0  # above the room that speech begins
QUIETEST_DB = -50.0  # of full scale (RMS) below which nothing counts as speech
END_SECONDS = 0.6  # of quiet that end a take
LONGEST_SECONDS = 4.0
SHORTEST_SECONDS = 0.15
MARGIN_SECONDS = 0.15  # kept around what is said
QUIET_PEAK, CLIPPED_PEAK = 0.03, 0.999  # of full scale
MAKE_ROOM = "free some space, or name another folder"


class Fault(StrEnum):
    """Why a take is no use, and what to do."""

    clipped = "too loud: it is clipped; go further away or turn the microphone down"
    quiet = "too quiet; come nearer or turn the microphone up"
    short = "too short; say the whole word"
    long = "too long; say the word alone, with a pause after it"


@dataclass(frozen=True)
class Take:
    """What was said, float32 (n,), trimmed; fault: None if it is of use."""

    samples: np.ndarray
    fault: Fault | None


class TakeFinder:
    """Cuts takes out of a stream: from where it gets louder than the room until it is quiet again.

    level: of the newest frame, in dB of full scale.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._frame = round(FRAME_SECONDS * sample_rate)
        self._levels: deque[float] = deque(maxlen=round(FLOOR_SECONDS / FRAME_SECONDS))
        self.level = -np.inf
        self.reset()

    def reset(self) -> None:
        """Wait for a new take; the level of the room is kept."""
        self._waiting = np.zeros(0, np.float32)
        self._before: deque[np.ndarray] = deque(maxlen=round(2 * MARGIN_SECONDS / FRAME_SECONDS))
        self._take: list[np.ndarray] = []
        self._quiet = 0

    def push(self, block: np.ndarray) -> Take | None:
        """Take float32 (n,); return a take once it has ended. What comes after it is dropped."""
        self._waiting = np.concatenate([self._waiting, block])
        while len(self._waiting) >= self._frame:
            frame, self._waiting = np.split(self._waiting, [self._frame])
            if self._ends(frame):
                take = self._finish()
                if take.fault is Fault.long:  # perhaps no speech but a room that got louder
                    self._levels.clear()
                self.reset()
                return take
        return None

    def _ends(self, frame: np.ndarray) -> bool:
        """Whether a take ends with this frame."""
        self.level = 10.0 * float(np.log10(np.square(frame).mean() + 1e-12))
        floor = float(np.quantile(self._levels, FLOOR_QUANTILE)) if self._levels else self.level
        loud = self.level >= max(floor + ONSET_DB, QUIETEST_DB)
        if not self._take and not loud:
            self._before.append(frame)
            self._levels.append(self.level)
            return False
        self._take.append(frame)
        self._quiet = 0 if loud else self._quiet + 1
        seconds = len(self._take) * FRAME_SECONDS
        return self._quiet * FRAME_SECONDS >= END_SECONDS or seconds >= LONGEST_SECONDS

    def _finish(self) -> Take:
        samples = np.concatenate([*self._before, *self._take])
        first, last = spoken_span(samples, self._sample_rate)
        margin = round(MARGIN_SECONDS * self._sample_rate)
        seconds = (last - first) / self._sample_rate
        trimmed = samples[max(0, first - margin) : last + margin]
        return Take(trimmed, self._fault(trimmed, seconds))

    def _fault(self, samples: np.ndarray, seconds: float) -> Fault | None:
        peak = float(np.abs(samples).max())
        ended = self._quiet * FRAME_SECONDS >= END_SECONDS
        checks = {
            Fault.long: not ended,
            Fault.clipped: peak >= CLIPPED_PEAK,
            Fault.quiet: peak < QUIET_PEAK,
            Fault.short: seconds < SHORTEST_SECONDS,
        }
        return next((fault for fault, applies in checks.items() if applies), None)


def takes_in(finder: TakeFinder, blocks: Iterable[np.ndarray]) -> Iterator[Take]:
    """The takes in blocks of float32 (n,), as they end."""
    for block in blocks:
        if take := finder.push(block):
            yield take


def next_path(folder: Path, word: str, speaker: str) -> Path:
    """Where the next take of a word goes: <folder>/<word>/<speaker>_<number>.wav."""
    pattern = re.compile(rf"{re.escape(speaker)}_(\d+)\.wav")
    found = (pattern.fullmatch(path.name) for path in (folder / word).glob(f"{speaker}_*.wav"))
    number = max((int(match[1]) for match in found if match), default=0) + 1
    return folder / word / f"{speaker}_{number:03d}.wav"


def write_take(path: Path, take: Take, sample_rate: int) -> None:
    """Write a take as a 16-bit WAV file. Raises WriteError."""
    with whole_file(path, MAKE_ROOM) as part:
        soundfile.write(part, take.samples, sample_rate, format="WAV", subtype="PCM_16")
