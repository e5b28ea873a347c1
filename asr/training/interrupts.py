"""Ctrl-C and SIGTERM while a model trains: the step that runs ends, and is saved."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A training was stopped from outside, and saved."""


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Yield what tells whether somebody wants an end; a second signal acts at once."""
    came = False

    def note(number: int, frame: Any) -> None:
        nonlocal came
        came = True
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interrupts(worker: int = 0) -> None:
    """Leave signals that reach all processes of a terminal or a service to the one that trains."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
