"""What is seen of a command: lines, progress, and an utterance as it is being said."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from asr.formats import EventFormat, detection_fields, json_line, span_fields
from features.errors import EarshotError

if TYPE_CHECKING:
    from asr.decode import Event

CLEAR_LINE = "\r\x1b[K"


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
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=files)
        yield lambda: bar.advance(task)


def show_live(events: "list[Event]", format: EventFormat) -> None:
    """Print events as they come; on a terminal an utterance that goes on is rewritten in place."""
    from asr.decode import Detection, NearMiss, Partial

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
