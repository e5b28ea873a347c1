"""Processes that share out the recognition of many files."""

import contextlib
import functools
import itertools
import logging
import multiprocessing
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from logging.handlers import BufferingHandler
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from asr.batch.locations import Url
from features.audio import AudioError
from features.errors import EarshotError
from features.paths import shown

Report = Callable[[float], None]  # takes the seconds of audio that are done
File = Path | Url
Work = Callable[[File, Report], Any]
"""Takes a file; what it returns may be pickled. Raises AudioError if the file cannot be used."""
Start = Callable[[], Work]
Result = tuple[int, Any]
"""The index of a file, and what its work returned, or the AudioError that it raised."""

KEPT_WARNINGS = 1000  # of one file; a damaged one has one
TRIES = 3  # of a file whose process dies
START_TRIES = 10  # of processes, one after the other, that die before they are ready
BATCH = 10  # files that a process is given together, fewer as the end comes near
SHARE = 10  # a batch is at most this part of what waits for a process
PLENTY = 100  # while more files wait for each of the others, a process has its next batch at hand

REPORT_SECONDS = 0.1  # of the clock, between two messages within a batch

# What this process has imported a fork need not import again. It is safe where no other thread can
# hold a lock: on Linux only numpy's BLAS has threads here, and it ends them before a fork, while
# elsewhere the libraries of the system start some.
CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


class WorkerError(EarshotError, RuntimeError):
    """A process that was to work on files did not even start."""


def process_files(
    start: Start,
    files: Sequence[File],
    jobs: int,
    report: Callable[[int, float], None] | None = None,
    context: Any = CONTEXT,
) -> Generator[Result, None, None]:
    """Yield (index, result, or why there is none) of each file, as they are done.

    start: makes what works on a file, once in each of `jobs` processes, and may be pickled to get
        there; with one job all happens in this process, in order.
    report: is called with the index of a file and the seconds of its audio that are done, as work
        goes on.
    context: how processes start, see `Workers`.
    Unlike with the pools of the standard library, a process that dies, as a broken file can make
    a decoder do, fails that file only. Raises what is wrong for all: ModelError, WorkerError.
    """
    report = report or _ignore
    if jobs > 1:
        with contextlib.closing(Workers(start, min(jobs, len(files)), context)) as workers:
            yield from workers.process(files, report)
        return
    work = start()
    for index, file in enumerate(files):
        try:
            yield index, work(file, functools.partial(report, index))
        except AudioError as error:
            yield index, error


def _ignore(index: int, seconds: float) -> None:
    del index, seconds


def in_order(results: Iterator[Result]) -> Iterator[Result]:
    """Yield the same results by rising index, each as soon as those before it are there."""
    held: dict[int, Any] = {}
    due = 0
    for index, result in results:
        held[index] = result
        while due in held:
            yield due, held.pop(due)
            due += 1


class _AtWork:
    """Stands for the result of a file whose process tells only how much it has done."""


@dataclass
class _Worker:
    """A process, the pipes to and from it, and the files that it was given and has not answered:
    none until it is ready, then the batch that it works on, and perhaps the next."""

    process: BaseProcess
    files: Connection
    answers: Connection
    ready: bool = False
    given: deque[deque[int]] = field(default_factory=deque)

    def take(self) -> list[tuple[Any, float]]:
        """Return its next answers, the last one perhaps _AtWork, and the seconds of those files
        that are done.

        Raises what is wrong for all files; EOFError, OSError if it died.
        """
        answers, warnings = self.answers.recv()
        for record in warnings:
            logging.getLogger(record.name).handle(record)
        for answer, _ in answers:
            if isinstance(answer, EarshotError) and not isinstance(answer, AudioError):
                raise answer
        return answers

    def answered(self) -> int:
        """Return the file that it has answered, the first of those that it was given."""
        index = self.given[0].popleft()
        if not self.given[0]:
            self.given.popleft()
        return index

    def give(self, batch: Sequence[int], files: Sequence[File]) -> None:
        """Give it files."""
        self.given.append(deque(batch))
        with contextlib.suppress(BrokenPipeError):  # that it died shows in its answer
            self.files.send([files[index] for index in batch])


class _Waiting:
    """Files that are to be given out, in batches that shrink as the end comes near, so that all
    processes end at about the same time."""

    def __init__(self, count: int, processes: int) -> None:
        self._files = deque(range(count))
        self._processes = processes
        self._alone: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._files)

    def put_back(self, files: Iterable[int], alone: bool) -> None:
        """Have files given out again before all others; alone: each in a batch of its own."""
        self._files.extendleft(reversed(list(files)))
        if alone:
            self._alone.update(files)

    def give(self, worker: _Worker, files: Sequence[File]) -> None:
        """Give a process what it should have, if it is ready."""
        ahead = len(self._files) > PLENTY * (self._processes - 1)
        while worker.ready and self._files and len(worker.given) < (2 if ahead else 1):
            worker.give(self._batch(), files)

    def _batch(self) -> list[int]:
        size = max(1, min(BATCH, len(self._files) // (SHARE * self._processes)))
        batch = [self._files.popleft()]
        while len(batch) < size and self._alone.isdisjoint((batch[-1], self._files[0])):
            batch.append(self._files.popleft())
        return batch


class Workers:
    """Processes that work on files, those of one call after those of another, until `close`.

    start: makes what works on a file, once in each of `jobs` processes. context: how processes
    start; a program with threads of its own has to spawn them.
    """

    def __init__(self, start: Start, jobs: int, context: Any = CONTEXT) -> None:
        self._start = start
        self._context = context
        self._deaths_at_start = 0
        self._workers = [self._hire() for _ in range(jobs)]

    def process(
        self, files: Sequence[File], report: Callable[[int, float], None] | None = None
    ) -> Generator[Result, None, None]:
        """Yield the results of files, as `process_files` does.

        A file whose process dies is tried again by another one, `TRIES` times in all: who kills a
        process need not be the file. Which file of a batch it was shows when each is tried alone.
        Left before its end, nothing more can be asked of the workers.
        """
        report = report or _ignore
        waiting = _Waiting(len(files), len(self._workers))
        deaths: Counter[int] = Counter()
        for worker in self._workers:
            waiting.give(worker, files)
        while waiting or any(worker.given for worker in self._workers):
            ends = wait([worker.answers for worker in self._workers])
            for worker in [worker for worker in self._workers if worker.answers in ends]:
                try:
                    answers = worker.take()
                except (EOFError, OSError):  # died between two answers, or within one
                    index = self._replace(worker, waiting)
                    if index is None:
                        continue
                    deaths[index] += 1
                    if deaths[index] < TRIES:
                        waiting.put_back([index], alone=True)
                    else:
                        yield index, _death(files[index])
                    continue
                results = self._results(worker, answers, report)
                waiting.give(worker, files)
                yield from results

    def _results(
        self,
        worker: _Worker,
        answers: Sequence[tuple[Any, float]],
        report: Callable[[int, float], None],
    ) -> list[Result]:
        """Report on what a process has done, and return what is done whole."""
        if not worker.ready:
            worker.ready, self._deaths_at_start = True, 0
            return []
        results = []
        for answer, seconds in answers:
            report(worker.given[0][0], seconds)
            if answer is not _AtWork:
                results.append((worker.answered(), answer))
        return results

    def close(self) -> None:
        """End the processes, whatever they do."""
        for worker in self._workers:
            worker.process.terminate()
            worker.files.close()
            worker.answers.close()

    def _replace(self, worker: _Worker, waiting: _Waiting) -> int | None:
        """Put another process in the place of a dead one; return the file that it worked on, None
        if it may have been another one of those that wait again.

        Raises WorkerError if one after the other dies before it is ready.
        """
        if not worker.ready:
            self._deaths_at_start += 1
            if self._deaths_at_start >= START_TRIES:
                raise WorkerError("a process that was to work on files ended at once; try --jobs 1")
        suspects = worker.given.popleft() if worker.given else deque()
        waiting.put_back(itertools.chain(*worker.given), alone=False)
        if len(suspects) > 1:
            waiting.put_back(suspects, alone=True)
        worker.files.close()
        worker.answers.close()
        worker.process.join()
        self._workers[self._workers.index(worker)] = self._hire()
        return suspects[0] if len(suspects) == 1 else None

    def _hire(self) -> _Worker:
        files, to_worker = self._context.Pipe(duplex=False)
        from_worker, answers = self._context.Pipe(duplex=False)
        arguments = (self._start, files, answers, (to_worker, from_worker))
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        with _interrupts_ignored():
            process.start()
        files.close()
        answers.close()
        return _Worker(process, to_worker, from_worker)


def _death(file: File) -> AudioError:
    return AudioError(
        f"{shown(str(file))}: the process that worked on it died; convert it to WAV or FLAC, "
        "or use fewer --jobs if memory is short"
    )


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Have processes that start here never see Ctrl-C: their parent ends them."""
    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(
    start: Start, files: Connection, answers: Connection, far_ends: Iterable[Connection]
) -> None:
    """What a process does: get ready, then answer each file until no more comes.

    far_ends: of its pipes, here only because a fork shares them; while they are open here, nothing
        tells that the parent is gone.
    """
    for end in far_ends:
        end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings = BufferingHandler(KEPT_WARNINGS)
    logging.getLogger().handlers = [warnings]
    try:
        work = start()
        answers.send(([(None, 0.0)], []))
        while True:
            outbox = _Outbox(answers, warnings)
            for file in files.recv():
                outbox.add(_result(work, file, outbox.report))
            outbox.send()
    except EarshotError as error:
        answers.send(([(error, 0.0)], []))
    except (EOFError, BrokenPipeError):  # nothing more to do, or nobody to do it for
        return


class _Outbox:
    """The answers to a batch, sent at its end, and before that as often as anybody looks."""

    def __init__(self, answers: Connection, warnings: BufferingHandler) -> None:
        self._answers = answers
        self._warnings = warnings
        self._kept: list[tuple[Any, float]] = []
        self._seconds = 0.0
        self._sent = time.monotonic()

    def report(self, seconds: float) -> None:
        """Take note that this much of the file at work is done."""
        self._seconds = seconds
        if self._is_due():
            self.send((_AtWork, seconds))

    def add(self, result: Any) -> None:
        """Take the result of the file at work."""
        self._kept.append((result, self._seconds))
        self._seconds = 0.0
        if self._is_due():
            self.send()

    def send(self, *last: tuple[Any, float]) -> None:
        """Send all that was not sent yet."""
        if self._kept or last:
            self._answers.send(([*self._kept, *last], self._warnings.buffer))
            self._warnings.flush()
            self._kept.clear()
            self._sent = time.monotonic()

    def _is_due(self) -> bool:
        return time.monotonic() - self._sent >= REPORT_SECONDS


def _result(work: Work, file: File, report: Report) -> Any:
    try:
        return work(file, report)
    except AudioError as error:
        return error
