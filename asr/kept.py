"""Moments of a live stream that are kept to be reviewed: what fired, and what nearly fired.

A folder holds a WAV file of each, `moments.jsonl` with a row about each, and `decisions.jsonl` with
what a person says of them. `Keeper` writes the first two, a review the third: both can go on at
the same time.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.events import Detection, Event, NearMiss
from asr.files import ReadError, parse_json, read_lines, whole_file, writing

AROUND_SECONDS = 2.0  # of sound that is kept before and after a moment
SAME_SECONDS = 1.0  # in which a keyword is one moment
HELD_SECONDS = 10.0  # of sound in memory: events come later than what they are about
MOST_BYTES = 200_000_000  # of recordings in a folder
MOMENTS, DECISIONS = "moments.jsonl", "decisions.jsonl"
MAKE_ROOM = "free some space, or name another folder"
WAV_HEADER, SAMPLE_BYTES = 44, 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A row of `moments.jsonl`.

    audio: the name of its WAV file; at: the time of day, in ISO 8601; fired: whether it was
    reported, else `reason` says why not; moment: seconds into the file at which the keyword was
    certain, or came nearest to that; start, end: where a typed keyword lies in the file.
    """

    audio: str
    at: str
    model: str
    label: str
    score: float
    fired: bool
    reason: str
    moment: float
    start: float | None = None
    end: float | None = None


class Keeper:
    """Writes the sound around detections and near misses into a folder.

    It takes the blocks that a stream takes, with the events that they brought, and holds
    HELD_SECONDS of sound in memory. full: whether the folder holds MOST_BYTES, and nothing is
    added.
    Raises WriteError if there can be no such folder.
    """

    def __init__(self, folder: Path, model: str, sample_rate: int) -> None:
        with writing(folder, MAKE_ROOM):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._model, self._rate = folder, model, sample_rate
        self._room = MOST_BYTES - sum(path.stat().st_size for path in folder.glob("*.wav"))
        self._around = round(AROUND_SECONDS * sample_rate)
        self._sound = np.zeros(0, np.float32)
        self._end = 0  # of the sound, in samples of the stream
        self._waiting: list[Detection | NearMiss] = []
        self._last: dict[str, float] = {}
        self.full = False

    def push(self, block: np.ndarray, events: Sequence[Event]) -> None:
        """Take float32 (n,) and its events; write what has all its sound. Raises WriteError."""
        self._sound = np.concatenate([self._sound, block])
        self._end += len(block)
        self._waiting += [e for e in events if isinstance(e, Detection | NearMiss)]
        self._write(self._end - self._around)
        held = max(round(HELD_SECONDS * self._rate), len(block))
        self._sound = self._sound[-held:]

    def finish(self, events: Sequence[Event]) -> None:
        """Write what waits, with the last events of the stream. Raises WriteError."""
        self.push(np.zeros(0, np.float32), events)
        self._write(self._end)

    def _write(self, until: int) -> None:
        """Write the moments up to a sample."""
        ready = [event for event in self._waiting if event.time * self._rate <= until]
        self._waiting = [event for event in self._waiting if event not in ready]
        for event in ready:
            same = event.time - self._last.get(event.label, -np.inf) <= SAME_SECONDS
            if isinstance(event, Detection) or not same:
                self._last[event.label] = event.time
                self._keep(event)

    def _keep(self, event: Detection | NearMiss) -> None:
        begin = self._end - len(self._sound)
        moment = round(event.time * self._rate)
        first = max(begin, moment - self._around)
        samples = self._sound[first - begin : max(0, moment + self._around - begin)]
        size = WAV_HEADER + SAMPLE_BYTES * len(samples)
        self.full = self.full or size > self._room
        if self.full or not len(samples):  # the event came too late: its sound is no longer held
            return
        self._room -= size
        now = datetime.now()
        path = self._new_path(f"{now:%Y-%m-%d_%H-%M-%S}")
        with whole_file(path, MAKE_ROOM) as part:
            soundfile.write(part, samples, self._rate, format="WAV", subtype="PCM_16")
        row = asdict(
            Moment(
                audio=path.name,
                at=now.isoformat(timespec="seconds"),
                model=self._model,
                label=event.label,
                score=round(event.score, 4),
                fired=isinstance(event, Detection),
                reason=event.reason if isinstance(event, NearMiss) else "",
                moment=round(event.time - first / self._rate, 3),
                start=_into(event.start, first / self._rate),
                end=_into(event.end, first / self._rate),
            )
        )
        rows = self._folder / MOMENTS
        with writing(rows, MAKE_ROOM), rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _new_path(self, stem: str) -> Path:
        number = 1
        while (path := self._folder / f"{stem}_{number:02d}.wav").exists():
            number += 1
        return path


def _into(time: float | None, first: float) -> float | None:
    """A time of the stream as one of a file that begins at `first`."""
    return None if time is None else round(max(0.0, time - first), 3)


def read_moments(folder: Path) -> list[Moment]:
    """Read what was kept, in order; rows that are damaged or whose sound is gone are left out with
    a warning. Raises ReadError if the folder holds nothing of the kind."""
    path = folder / MOMENTS
    if not path.is_file():
        raise ReadError(f"{folder}: holds no {MOMENTS}; 'asr listen --save {folder}' writes one")
    moments = []
    for number, line in enumerate(read_lines(path, "moments"), 1):
        try:
            moment = Moment(**parse_json(line))
        except (TypeError, ValueError):
            logger.warning("%s: line %d is damaged and left out", path, number)
            continue
        if (folder / moment.audio).is_file():
            moments.append(moment)
        else:
            logger.warning("%s: %s is gone and left out", folder, moment.audio)
    return moments


def read_decisions(folder: Path) -> dict[str, str]:
    """What is said in each recording that was reviewed, by its name; "" for none of the keywords.

    Raises ReadError for a file that cannot be read.
    """
    path = folder / DECISIONS
    if not path.exists():
        return {}
    decisions = {}
    for number, line in enumerate(read_lines(path, "decisions"), 1):
        try:
            row = parse_json(line)
            decisions[str(row["audio"])] = str(row["said"])
        except (KeyError, TypeError, ValueError):
            raise ReadError(
                f"{path}: line {number} is no decision; correct it, or delete the file to review "
                "the recordings again"
            ) from None
    return decisions


def write_decisions(folder: Path, decisions: Mapping[str, str]) -> None:
    """Write all decisions, whole or not at all. Raises WriteError."""
    rows: list[dict[str, Any]] = [{"audio": name, "said": said} for name, said in decisions.items()]
    with whole_file(folder / DECISIONS, MAKE_ROOM) as part:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        part.write_text("".join(lines), encoding="utf-8")
