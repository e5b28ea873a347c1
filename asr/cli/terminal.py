"""What is seen of a command: lines, progress, and an utterance as it is being said."""

import contextlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.transcripts.formats import EventFormat, clock, detection_fields, json_line, span_fields
from features.errors import EarshotError

if TYPE_CHECKING:
    import numpy as np

    from asr.batch.workers import File
    from asr.events import Event
    from asr.microphone import Microphone, Playback
    from asr.recorder import TakeFinder

CLEAR_LINE = "\r\x1b[K"
REFRESH_SECONDS = 0.1
BAR_LENGTH = 24
METER_DB = 60.0  # that the level meter shows below full scale


def print_line(line: str) -> None:
    """Print a line of results."""
    print_text(f"{line}\n")


def print_text(text: str) -> None:
    """Print results, which programs may read: they come at once."""
    _hide_status()
    print(text, end="", flush=True)


def note(line: str) -> None:
    """Print a line that is no result."""
    _hide_status()
    print(line, file=sys.stderr, flush=True)


def complain(problem: EarshotError | str) -> None:
    """Print what is wrong."""
    note(f"error: {problem}")


class WarningLines(logging.Handler):
    """Shows each warning of the library as one line."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"warning: {record.getMessage()}")


class Progress:
    """A line on the terminal that says how far a number of audio files are done.

    Of a file whose length is known the part that is done counts too. The line is rewritten at most
    every REFRESH_SECONDS; whatever else is printed takes its place until then.
    """

    def __init__(self, files: Sequence[Any], duration_of: Callable[[Any], float | None]) -> None:
        self._files = files
        self._duration_of = duration_of
        self._seconds: dict[int, float] = {}  # of audio, so far
        self._lengths: dict[int, float | None] = {}
        self._done: set[int] = set()
        self._started = self._drawn = time.monotonic()

    def report(self, index: int, seconds: float) -> None:
        """Take note that this much of a file is done."""
        if index not in self._lengths:
            self._lengths[index] = self._duration_of(self._files[index])
        self._seconds[index] = seconds
        self._refresh()

    def done(self, index: int) -> None:
        """Take note that a file is done."""
        self._done.add(index)
        self._refresh()

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            _show_status(self.line(now - self._started))

    def line(self, elapsed: float) -> str:
        """Return the line after `elapsed` seconds of work."""
        audio = sum(self._seconds.values())
        share = (len(self._done) + sum(map(self._share, self._lengths))) / len(self._files)
        several = len(self._files) > 1
        parts = [f"{len(self._done)}/{len(self._files)} files"] if several else []
        length = None if several else self._lengths.get(0)
        parts.append(clock(audio) + (f" of {clock(length)}" if length else " of audio"))
        parts.append(f"{audio / elapsed:.0f} x real time" if elapsed > 0 else "")
        if several or length:
            filled = round(share * BAR_LENGTH)
            parts.insert(0, f"[{'#' * filled}{'.' * (BAR_LENGTH - filled)}]")
        if share > 0:
            parts.append(f"{clock(elapsed * (1 - share) / share)} left")
        return "   ".join(filter(None, parts))

    def _share(self, index: int) -> float:
        """Return how much of a file that is not done is."""
        length = self._lengths[index]
        if length is None or index in self._done:
            return 0.0
        return min(self._seconds[index] / length, 1.0)


@contextlib.contextmanager
def progress(files: "Sequence[File]") -> Iterator[Progress | None]:
    """Yield what shows the progress of files, if standard error is a terminal."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from features.duration import stated_duration

    try:
        # What is behind a URL is not fetched to know its length.
        yield Progress(files, lambda f: stated_duration(f) if isinstance(f, Path) else None)
    finally:
        _hide_status()


def show_live(events: "list[Event]", format: EventFormat) -> None:
    """Print events as they come; on a terminal an utterance that goes on is rewritten in place."""
    from asr.events import Detection, NearMiss, Partial

    for event in events:
        goes_on = isinstance(event, Partial)
        if format is EventFormat.json:
            spots = isinstance(event, Detection | NearMiss)
            fields = detection_fields(event) if spots else span_fields(event)
            print_text(json_line(fields if spots else fields | {"final": not goes_on}))
        elif sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
            line = str(event)[-width:] if goes_on else f"{event}\n"
            print_text(f"{CLEAR_LINE}{line}")
        elif not goes_on:
            print_line(str(event))


def with_loss_warnings(source: "Microphone | Playback") -> "Iterator[np.ndarray]":
    """Pass blocks on; warn once when sound is lost, and at the end of all that was."""
    warned = False
    try:
        for block in source:
            yield block
            if not warned and source.warning:
                note(f"warning: {source.warning}")
                warned = True
    finally:
        if source.warning:
            note(f"warning: {source.warning}")


def metered(blocks: "Iterable[np.ndarray]", finder: "TakeFinder") -> "Iterator[np.ndarray]":
    """Pass blocks on while the level of the sound is shown, if standard error is a terminal."""
    shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    drawn = 0.0
    for block in blocks:
        if shown and time.monotonic() - drawn >= REFRESH_SECONDS:
            drawn = time.monotonic()
            filled = round(BAR_LENGTH * min(1.0, max(0.0, 1.0 + finder.level / METER_DB)))
            _show_status(f"[{'#' * filled}{'.' * (BAR_LENGTH - filled)}] {finder.level:.0f} dB")
        yield block


_status_is_shown = False


def _show_status(line: str) -> None:
    global _status_is_shown
    width = shutil.get_terminal_size().columns - 1  # a full line would move the cursor to the next
    print(f"{CLEAR_LINE}{line[:width]}", end="", file=sys.stderr, flush=True)
    _status_is_shown = True


def _hide_status() -> None:
    global _status_is_shown
    if _status_is_shown:
        print(CLEAR_LINE, end="", file=sys.stderr, flush=True)
    _status_is_shown = False
