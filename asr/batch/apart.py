"""Results that come from a process of its own, where a library in it may end that process."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection
from typing import Any

from features.errors import EarshotError

END_SECONDS = 30.0  # that the process has to end in an orderly way


class _End:
    """Comes after the last result."""


def apart(make: Callable[..., Iterable[Any]], *arguments: Any) -> Generator[Any, None, bool]:
    """Yield what `make(*arguments)` yields in another process; return whether it came to its end.

    All of it is pickled. Raises what is raised there, if it is an EarshotError; whatever else
    ends the process early makes this return False.
    """
    context = multiprocessing.get_context("spawn")  # who needs this has threads
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_give, args=(make, arguments, theirs))
    process.start()
    theirs.close()
    try:
        while True:
            try:
                result = ours.recv()
            except (EOFError, OSError):
                return False
            if isinstance(result, EarshotError):
                raise result
            if isinstance(result, _End):
                return True
            yield result
    finally:
        ours.close()
        process.terminate()
        process.join(END_SECONDS)
        process.kill()


def _give(make: Callable[..., Iterable[Any]], arguments: tuple[Any, ...], to: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        for result in make(*arguments):
            to.send(result)
        to.send(_End())
    except EarshotError as error:
        to.send(error)


def _end_with_parent() -> None:
    """Wait until the parent is gone, however that came, and end as if it had been the same."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def quiet_libraries() -> None:
    """Have C++ libraries print nothing, and what is written in Python print to standard error."""
    sys.stderr = sys.stdout = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
