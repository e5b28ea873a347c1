"""Sound that is piped into a command: results come as it does."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from asr.cli.errors import CommandError

if TYPE_CHECKING:
    import numpy as np

PIPE = "-"


def is_piped(paths: list[str], raw_rate: int | None, jobs: int | None) -> bool:
    """Return whether standard input is what to recognise. Raises CommandError if it cannot be."""
    if PIPE not in paths:
        if raw_rate is not None:
            raise CommandError("--raw-rate is about standard input; give - as the PATH")
        return False
    if len(paths) > 1:
        raise CommandError("- is standard input and stands alone; give the files to another run")
    if jobs is not None:
        raise CommandError("--jobs shares out files; leave it out with standard input")
    if sys.stdin is None or sys.stdin.isatty():
        raise CommandError("no sound comes from a keyboard; pipe a recording into this command")
    return True


@contextlib.contextmanager
def standard_input(sample_rate: int, raw_rate: int | None) -> "Iterator[Iterator[np.ndarray]]":
    """Give the blocks of what is piped in. Ctrl-C ends them, and the command after them."""
    from features.audio import stream_pipe

    with os.fdopen(sys.stdin.fileno(), "rb", closefd=False) as pipe:
        blocks = stream_pipe(pipe, sample_rate, source_rate=raw_rate)
        with _until_interrupted(blocks) as recorded:
            yield recorded


@contextlib.contextmanager
def _until_interrupted(blocks: "Iterator[np.ndarray]") -> "Iterator[Iterator[np.ndarray]]":
    """Give the blocks up to a Ctrl-C, which takes effect when this ends; another one at once."""
    waiting = interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, before)
        if waiting:  # for sound, which may never come
            raise KeyboardInterrupt

    def recorded() -> "Iterator[np.ndarray]":
        nonlocal waiting
        block: np.ndarray | None = None
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                waiting = True
                block = None if interrupted else next(blocks, None)
            waiting = False
            if interrupted or block is None:
                return
            yield block

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield recorded()
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt
