"""What a training says of itself while it runs: a bar on a terminal, a line a minute elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from asr.training.data.batches import Batch
from asr.training.run import Run
from asr.transcripts.formats import clock

LINE_SECONDS = 60.0

Report = Callable[[float, float], None]
"""Takes the share of the training that is done, and the loss of its last step."""


class Waits:
    """How long a training waits for its loaders."""

    def __init__(self) -> None:
        self._waited = 0.0
        self._since = time.monotonic()

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the same batches, and count the time until each is there."""
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def share(self) -> float:
        """Return the share of the time since this was last asked, from 0 to 1."""
        now = time.monotonic()
        share = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        return share


@contextmanager
def reporting(run: Run) -> Iterator[Report]:
    """Yield what the loop calls after each step; only the first process says anything."""
    if run.rank:
        yield lambda done, loss: None
    elif sys.stdout.isatty():
        with _bar(run) as report:
            yield report
    else:
        yield _lines(run)


@contextmanager
def _bar(run: Run) -> Iterator[Report]:
    columns = (
        TextColumn("epoch {task.fields[epoch]}  step {task.fields[step]}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  best {task.fields[best]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=1.0, epoch=1, step=0, loss=math.nan, best="-")

        def report(done: float, loss: float) -> None:
            progress = run.progress
            bar.update(
                task,
                completed=done,
                epoch=progress.epoch + 1,
                step=progress.step,
                loss=loss,
                best=best_so_far(run),
            )

        yield report


def _lines(run: Run) -> Report:
    printed = time.monotonic()
    began: float | None = None  # with the first step, and `before` of the training done
    before = 0.0

    def report(done: float, loss: float) -> None:
        nonlocal printed, began, before
        now = time.monotonic()
        if began is None:
            began, before = now, done
        if now - printed < LINE_SECONDS or done <= before:
            return
        printed = now
        left = (now - began) * (1.0 - done) / (done - before)
        rate = run.optimiser.param_groups[0]["lr"]
        print(
            f"step {run.progress.step}  epoch {run.progress.epoch + 1}  loss {loss:.3f}  "
            f"learning rate {rate:.2e}  best {best_so_far(run)}  {clock(left)} left",
            flush=True,
        )

    return report


def best_so_far(run: Run) -> str:
    """The best validation figure, by name; there is none before the first validation."""
    best = run.progress.best
    return f"{run.metric} {best:.4f}" if math.isfinite(best) else "-"
