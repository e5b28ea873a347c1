"""Work in a process of its own: its results, its errors, and however it may end."""

import os
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from asr.batch.apart import apart
from features.errors import EarshotError
from tests.support.commands import run_python


def some(count: int) -> Iterator[int]:
    yield os.getpid()
    yield from range(count)


def endless() -> Iterator[int]:
    yield os.getpid()
    while True:
        time.sleep(0.01)


def refused() -> Iterator[int]:
    yield 1
    raise EarshotError("so far and no further")


def killed() -> Iterator[int]:
    yield 1
    os._exit(0)  # as a library may


def whole(results: Generator[Any, None, bool]) -> tuple[list[Any], bool]:
    """Return what a generator yields, and what it returns."""
    found = []
    while True:
        try:
            found.append(next(results))
        except StopIteration as end:
            return found, end.value


def test_results_come_from_another_process() -> None:
    (process, *numbers), ended = whole(apart(some, 3))
    assert process != os.getpid()
    assert (numbers, ended) == ([0, 1, 2], True)


def test_an_error_there_is_an_error_here() -> None:
    results = apart(refused)
    assert next(results) == 1
    with pytest.raises(EarshotError, match="so far and no further"):
        next(results)


def test_a_process_that_dies_has_not_come_to_its_end() -> None:
    assert whole(apart(killed)) == ([1], False)


def test_a_process_that_nobody_listens_to_is_ended() -> None:
    results = apart(endless)
    process = next(results)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_process_ends_with_its_parent() -> None:
    killed_parent = run_python(
        "import os, signal\n"
        "from asr.batch.apart import apart\n"
        "from tests.device.test_apart import endless\n"
        "results = apart(endless)\n"
        "print(next(results), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    status = Path(f"/proc/{int(killed_parent.stdout)}/status")
    while status.exists() and "State:\tZ" not in status.read_text():
        time.sleep(0.01)
