"""Seconds of computing, as the least of several passes.

The best counts, because whatever else the machine does can only add to it.
"""

import time
from collections.abc import Callable

from features.errors import EarshotError

REPEATS = 5


class BenchmarkError(EarshotError, ValueError):
    """The model cannot be measured as asked."""


def best_seconds(run: Callable[[], object]) -> float:
    """Return the least wall time of REPEATS runs, after one that warms up."""
    run()
    return min(seconds_of(run) for _ in range(REPEATS))


def seconds_of(run: Callable[[], object]) -> float:
    """Return the wall time of one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
