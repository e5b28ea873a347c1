"""Several processes that serve at the same port, each with models of its own.

The system shares out the connections: each process listens at the port itself (SO_REUSEPORT).
The first process only watches: it replaces one that died, passes signals on, and has each know
the counts of the others, so that /metrics says the same wherever it is asked.
"""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from asr.decode.keywords.typed import Keyword
from asr.decode.options import DecodeOptions
from asr.model import load
from asr.serve.metrics import Counts, added
from asr.serve.server import Options, ServeError, Started, listening, serve
from features.errors import EarshotError

AGAIN_SECONDS = 1.0  # before another process takes the place of one that died
CONTEXT = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What each process serves: models by name, and how they are run and decoded."""

    models: Mapping[str, Path]
    threads: int
    provider: str
    decoding: DecodeOptions
    keywords: tuple[Keyword, ...]


@dataclass
class Worker:
    """A process, the pipe to it, its newest counts, and whether it has begun to listen."""

    process: BaseProcess
    pipe: Connection
    counts: Counts
    listens: bool = False


def serve_together(work: Work, options: Options, workers: int, started: Started) -> None:
    """Serve in so many processes until SIGTERM or Ctrl-C. Raises ServeError.

    started: as for `serve`, called once all processes listen.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ServeError("this system cannot share a port between processes; leave out --workers")
    with contextlib.ExitStack() as kept:
        places = [(options.host, options.port)]
        places += [options.wyoming] if options.wyoming else []
        ports = [kept.enter_context(_reserved(*place)).getsockname()[1] for place in places]
        wyoming = (options.wyoming[0], ports[1]) if options.wyoming else None
        there = dataclasses.replace(options, port=ports[0], wyoming=wyoming, shared=True)
        _Crew(work, there, workers, started).run()


def _reserved(host: str, port: int) -> socket.socket:
    """Return a socket that keeps a port for processes which share it. Raises ServeError.

    It does not listen, so that no connection comes to it.
    """
    with listening(host, port) as alone:  # what shares the port would not notice another server
        family, address = alone.family, alone.getsockname()
    kept = socket.socket(family, socket.SOCK_STREAM)
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kept.bind(address)
    return kept


class _Crew:
    """The processes, and what is done about their messages and their ends."""

    def __init__(self, work: Work, options: Options, size: int, started: Started) -> None:
        self._work = work
        self._options = options
        self._size = size
        self._started = started
        self._announced = False
        self._ending = False
        self._gone = Counts()  # of processes that died
        self._workers: list[Worker] = []

    def run(self) -> None:
        """Watch until all have ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)
        try:
            for _ in range(self._size):
                self._add()
            while self._workers:
                ready = wait([worker.pipe for worker in self._workers])
                for worker in [worker for worker in self._workers if worker.pipe in ready]:
                    self._take_message(worker)
        finally:
            for worker in self._workers:
                worker.process.kill()

    def _add(self) -> None:
        here, there = CONTEXT.Pipe()
        process = CONTEXT.Process(target=_serve, args=(self._work, self._options, there))
        process.start()
        there.close()
        self._workers.append(Worker(process, here, Counts()))
        if self._ending:  # by a signal that came too early for it
            process.terminate()

    def _pass_on(self, number: int, frame: object) -> None:
        del number, frame
        self._ending = True
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()

    def _take_message(self, worker: Worker) -> None:
        try:
            message: Any = worker.pipe.recv()
        except (EOFError, OSError):
            self._ended(worker)
            return
        if isinstance(message, str):  # why it cannot serve
            if not self._announced:
                raise ServeError(message)
            logger.warning("%s", message)
            return
        worker.listens, worker.counts = True, message
        others = (other.counts for other in self._workers if other is not worker)
        try:
            worker.pipe.send(added(self._gone, *others))
        except OSError:
            return  # that it ended is the next that is read
        if not self._announced and all(worker.listens for worker in self._workers):
            self._announced = True
            other = self._options.wyoming
            self._started(self._options.host, self._options.port, other[1] if other else None)

    def _ended(self, worker: Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        if self._ending:
            return
        code = worker.process.exitcode
        if not self._announced:
            raise ServeError(f"a process that was to serve ended with {code}; see what it said")
        logger.warning("a process that served ended with %s; another takes its place", code)
        self._gone = added(self._gone, worker.counts.without_gauges())
        time.sleep(AGAIN_SECONDS)
        if not self._ending:
            self._add()


def _serve(work: Work, options: Options, pipe: Connection) -> None:
    """Serve as one of several; in a process of its own."""
    os.setpgrp()  # Ctrl-C is for the first process, which passes it on
    try:
        opened = {
            name: load(path, threads=work.threads, provider=work.provider)
            for name, path in work.models.items()
        }
        serve(opened, options, work.decoding, work.keywords, _nothing, pipe)
    except EarshotError as error:
        pipe.send(str(error))


def _nothing(host: str, http: int, wyoming: int | None) -> None:
    """The first process says what is said."""
