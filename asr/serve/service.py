"""What all protocols share: the models, who may open a stream, how long a client is waited for."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import numpy as np

from asr.decode.keywords.typed import Keyword, SpotOptions
from asr.decode.options import DecodeOptions
from asr.events import Event, Partial
from asr.model import Model
from asr.runtime.scorers import NOTHING
from asr.serve.engine import Engine, Session
from asr.serve.metrics import Metrics
from asr.serve.refusal import RefusedError, refused
from features.errors import EarshotError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What clients may use.

    streams: that are open at once; seconds: of audio in one; upload: bytes of a file;
    patience: seconds without a message from a client, or until it has taken what it is sent;
    drain: seconds that open streams are left when the server ends.
    """

    streams: int = 64
    seconds: float = 4 * 3600.0
    upload: int = 25 * 2**20
    patience: float = 60.0
    drain: float = 10.0


class Service:
    """The models of a server and the streams on them. Must run inside an event loop.

    models: by the names that clients know them by; the first of a kind is its default.
    decoding: for all streams that transcribe; keywords: typed ones, that a model which transcribes
    listens for in place of a trained wake word.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        limits: Limits = Limits(),
        decoding: DecodeOptions = DecodeOptions(),  # noqa: B008
        keywords: tuple[Keyword, ...] = (),
    ) -> None:
        self.metrics = Metrics()
        self.limits = limits
        self.decoding = decoding
        self.keywords = keywords
        self.engines = {
            name: Engine(name, model, self.metrics.latency) for name, model in models.items()
        }
        self.draining = False
        self._ending = False
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._deadlines: set[asyncio.Timeout] = set()

    async def __aenter__(self) -> "Service":
        self._work = [asyncio.create_task(engine.run()) for engine in self.engines.values()]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def engine(self, name: str | None, task: str) -> Engine:
        """Return the engine of a model, the first of its task if no name is given.

        Raises RefusedError if there is none.
        """
        fitting = {n: engine for n, engine in self.engines.items() if engine.card.task == task}
        if name is None and fitting:
            return next(iter(fitting.values()))
        if name not in self.engines:
            what = f"model '{name}'" if name else f"model for this ({task})"
            names = ", ".join(self.engines)
            raise RefusedError(f"there is no {what}; this server has {names}", 404)
        if name not in fitting:
            does = "transcribes" if task == "classify" else "spots keywords"
            raise RefusedError(
                f"model '{name}' {does}; ask for {', '.join(fitting) or 'another'}", 400
            )
        return self.engines[name]

    def decoding_with(self, **changes: object) -> DecodeOptions:
        """Return the server's options with what a client asks for besides. Raises RefusedError."""
        try:
            return dataclasses.replace(self.decoding, **changes)
        except EarshotError as error:
            raise RefusedError(str(error)) from None

    def admit(self) -> None:
        """Raise RefusedError if no more streams are taken now."""
        if self.draining:
            raise RefusedError("this server is about to end; try again soon", 503, 1012)
        if self._open >= self.limits.streams:
            raise RefusedError(
                f"{self.limits.streams} streams are open and no more are taken; try again later",
                503,
                1013,
            )

    @contextlib.asynccontextmanager
    async def session(
        self, protocol: str, engine: Engine, options: DecodeOptions | SpotOptions | None
    ) -> AsyncIterator["Client"]:
        """Open a stream for as long as the block runs. Raises RefusedError."""
        self.admit()
        engine.watch_file()
        labels = {"model": engine.name, "protocol": protocol}
        self._open += 1
        self._idle.clear()
        self.metrics.add("earshot_streams_total", **labels)
        self.metrics.add("earshot_streams", **labels)
        try:
            with refused():
                session = await asyncio.to_thread(engine.open, options)
            yield Client(self, session, engine.name)
        finally:
            self.metrics.add("earshot_streams", -1, **labels)
            self._open -= 1
            if not self._open:
                self._idle.set()

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[asyncio.Timeout]:
        """Give a client `patience` seconds, less if the server ends. Raises RefusedError."""
        try:
            async with asyncio.timeout(0 if self._ending else self.limits.patience) as deadline:
                self._deadlines.add(deadline)
                try:
                    yield deadline
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            if self._ending:
                raise RefusedError("this server ends", 503, 1012) from None
            raise RefusedError(
                f"nothing came for {self.limits.patience:g} s; send audio, or end the stream", 408
            ) from None

    async def drain(self) -> None:
        """Take no more streams, leave those that are open some time, then have them finish."""
        self.draining = True
        self.metrics.add("earshot_draining")
        if self._open:
            logger.warning(
                "the server ends; open streams: %d, which are left %g s (a second signal: none)",
                self._open,
                self.limits.drain,
            )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self.limits.drain)
        self._ending = True
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            deadline.reschedule(now)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self.limits.drain)

    @property
    def ending(self) -> bool:
        """Whether streams are to finish now."""
        return self._ending


class Client:
    """A session within the limits of the service. Raises RefusedError where they end."""

    def __init__(self, service: Service, session: Session, model: str) -> None:
        self.card = session.card
        self.model = model
        self._service = service
        self._session = session

    @property
    def seconds(self) -> float:
        """How much audio was taken."""
        return self._session.seconds

    async def push(self, samples: np.ndarray) -> list[Event]:
        """Take float32 (n,); return the events that it brings."""
        self._count(samples)
        with refused():
            return self._counted(await self._session.push(samples))

    async def finish(self, samples: np.ndarray = NOTHING) -> list[Event]:
        """Take the last samples; return the last events."""
        self._count(samples)
        with refused():
            return self._counted(await self._session.finish(samples))

    async def restart(self) -> list[Event]:
        """End the stream, return its last events, and begin a new one."""
        events = await self.finish()
        await self._session.reset()
        return events

    def _count(self, samples: np.ndarray) -> None:
        limit = self._service.limits.seconds
        seconds = len(samples) / self.card.sample_rate
        if self.seconds + seconds > limit:
            raise RefusedError(f"a stream takes {limit:g} s of audio; open another one", 413, 1009)
        self._service.metrics.add("earshot_audio_seconds_total", seconds, model=self.model)

    def _counted(self, events: list[Event]) -> list[Event]:
        for event in events:
            if not isinstance(event, Partial):
                kind = type(event).__name__.lower()
                self._service.metrics.add("earshot_events_total", model=self.model, kind=kind)
        return events
