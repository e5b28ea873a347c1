"""One model and the streams that share it: those that are due are stepped together."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from asr.decode.keywords.typed import SpotOptions
from asr.decode.options import DecodeOptions
from asr.events import Event
from asr.model import Model
from asr.runtime.samples import checked
from asr.runtime.scorers import NOTHING, ROWS
from asr.stream import Stream, push_together

TURN_SECONDS = 1.0  # of sound that a stream is given at once, while others wait

logger = logging.getLogger(__name__)

Latency = Callable[[str, float], None]


@dataclass(eq=False)
class Job:
    """Whole blocks for a stream, or the last samples of it; `done` becomes its events."""

    stream: Stream
    samples: np.ndarray
    last: bool
    done: asyncio.Future[list[Event]]
    arrived: float = field(default_factory=time.monotonic)


class Engine:
    """Steps the streams of one model in a thread of its own, up to ROWS of them at once.

    A stream has one job at a time and waits for it, so jobs are taken in the order of their arrival
    and a client that sends an hour at once delays the others by TURN_SECONDS of it.

    latency: called with the name of the model and the seconds from the arrival of a job to its end.
    """

    def __init__(self, name: str, model: Model, latency: Latency) -> None:
        self.name = name
        self.model = model
        self.card = model.card
        self._latency = latency
        self._version = _version(model.path)
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._arrived.wait()
                jobs = [self._jobs.popleft() for _ in range(min(ROWS, len(self._jobs)))]
                if not self._jobs:
                    self._arrived.clear()
                jobs = [job for job in jobs if not job.done.done()]  # its client may have left
                self._settle(jobs, await loop.run_in_executor(self._thread, _carried_out, jobs))
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def watch_file(self) -> None:
        """Warn once if the file of the model is another one by now; streams go on with the old."""
        version = _version(self.model.path)
        if version != self._version:
            self._version = version
            logger.warning("%s has changed; restart the server to use it", self.model.path)

    def open(self, options: DecodeOptions | SpotOptions | None = None) -> "Session":
        """Return a new stream. Raises ModelError or DecodeError if the options do not fit."""
        return Session(self, Stream(self.model, options))

    async def do(self, stream: Stream, samples: np.ndarray, last: bool) -> list[Event]:
        """Push samples, or finish with them, in turn with the other streams."""
        job = Job(stream, samples, last, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._arrived.set()
        return await job.done

    def _settle(self, jobs: Sequence[Job], results: Sequence[list[Event] | Exception]) -> None:
        for job, result in zip(jobs, results, strict=True):
            self._latency(self.name, time.monotonic() - job.arrived)
            if job.done.done():
                continue
            if isinstance(result, Exception):
                job.done.set_exception(result)
            else:
                job.done.set_result(result)


class Session:
    """One client's stream. Takes float32 (n,) at the model's rate, any n; nothing is lost or added:
    its events are those of a `Stream`."""

    def __init__(self, engine: Engine, stream: Stream) -> None:
        self.card = engine.card
        self.samples = 0
        self._engine = engine
        self._stream = stream
        self._rest = NOTHING
        self._block = engine.card.block_length or engine.card.hop_length
        turn = TURN_SECONDS * engine.card.sample_rate
        self._turn = max(1, int(turn) // self._block) * self._block

    @property
    def seconds(self) -> float:
        """How much audio was taken."""
        return self.samples / self.card.sample_rate

    async def push(self, samples: np.ndarray) -> list[Event]:
        """Take samples; return the events that they bring. Raises StreamError."""
        present = self._with_rest(samples)
        whole = len(present) - len(present) % self._block
        self._rest = present[whole:]
        return await self._turns(present[:whole])

    async def finish(self, samples: np.ndarray = NOTHING) -> list[Event]:
        """Take the last samples; return the last events. Raises StreamError."""
        events = await self.push(samples)
        return events + await self._engine.do(self._stream, self._rest, True)

    async def reset(self) -> None:
        """Go back to the initial state; times begin at 0 again."""
        self._stream.reset()
        self._rest = NOTHING

    async def _turns(self, whole: np.ndarray) -> list[Event]:
        events: list[Event] = []
        for start in range(0, len(whole), self._turn):
            turn = whole[start : start + self._turn]
            events += await self._engine.do(self._stream, turn, False)
        return events

    def _with_rest(self, samples: np.ndarray) -> np.ndarray:
        """Check what a client sent, for itself alone: a step is shared with others."""
        self.samples += len(checked(samples))
        return np.concatenate([self._rest, samples])


def _version(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written again, None if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _carried_out(jobs: Sequence[Job]) -> list[list[Event] | Exception]:
    """Do the jobs; of those that fail the exception takes the place of the events."""
    pushes = [job for job in jobs if not job.last]
    results: dict[Job, list[Event] | Exception] = {}
    try:
        blocks = [job.samples for job in pushes]
        events = push_together([job.stream for job in pushes], blocks)
        results = dict(zip(pushes, events, strict=True))
    except Exception as error:  # each client is answered, whatever it was
        results = dict.fromkeys(pushes, error)
    for job in jobs:
        if job.last:
            try:
                results[job] = job.stream.finish(job.samples)
            except Exception as error:
                results[job] = error
    return [results[job] for job in jobs]
