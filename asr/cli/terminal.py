"""What is seen of a command: lines, progress, and an utterance as it is being said."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from asr.transcripts.formats import EventFormat, detection_fields, json_line, span_fields
from features.errors import EarshotError

if TYPE_CHECKING:
    from asr.events import Event

CLEAR_LINE = "\r\x1b[K"
REFRESH_SECONDS = 0.1


def print_line(line: str) -> None:
    print(line, flush=True)


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def complain(problem: EarshotError | str) -> None:
    note(f"error: {problem}")


@contextlib.contextmanager
def progress(files: int, silent: bool) -> Iterator[Callable[[], None]]:
    """Yield what moves a bar on stderr, if that is a terminal on which nothing else is printed."""
    if files < 2 or not sys.stderr.isatty() or not (silent or not sys.stdout.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # It is drawn anew by this thread: processes that are forked meanwhile want no other one.
    bar = Progress(
        *columns, console=console, transient=True, redirect_stdout=False, auto_refresh=False
    )
    with bar:
        task, drawn = bar.add_task("", total=files), time.monotonic()

        def advance() -> None:
            nonlocal drawn
            bar.advance(task)
            if time.monotonic() - drawn >= REFRESH_SECONDS:
                bar.refresh()
                drawn = time.monotonic()

        yield advance


def show_live(events: "list[Event]", format: EventFormat) -> None:
    """Print events as they come; on a terminal an utterance that goes on is rewritten in place."""
    from asr.events import Detection, NearMiss, Partial

    for event in events:
        goes_on = isinstance(event, Partial)
        if format is EventFormat.json:
            spots = isinstance(event, Detection | NearMiss)
            fields = detection_fields(event) if spots else span_fields(event)
            line = json_line(fields if spots else fields | {"final": not goes_on})
            print(line, end="", flush=True)
        elif sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
            line = str(event)[-width:] if goes_on else f"{event}\n"
            print(f"{CLEAR_LINE}{line}", end="", flush=True)
        elif not goes_on:
            print_line(str(event))
