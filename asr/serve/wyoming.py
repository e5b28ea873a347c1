"""Wyoming, the protocol of Home Assistant's voice services, over TCP: wake words and transcripts.

A client asks with `describe`, `transcribe` or `detect`, then sends `audio-start`, `audio-chunk`
and `audio-stop`. It gets a `transcript` (and `transcript-chunk` as utterances end), or a
`detection` for each wake word and `not-detected` if there was none. Every keyword of a model that
spots is a wake word by its label; so are the keywords that the server was started with.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.info import AsrModel, AsrProgram, Attribution, Info, WakeModel, WakeProgram
from wyoming.ping import Pong
from wyoming.wake import Detection, NotDetected

import asr.events as events
from asr import __version__
from asr.decode.keywords.typed import Keyword, SpotOptions
from asr.serve.engine import Engine
from asr.serve.pcm import Pcm
from asr.serve.refusal import RefusedError
from asr.serve.service import Client, Service

LINE_LIMIT = 65536  # bytes; of a header, and of the data that may follow it
PAYLOAD_LIMIT = 2**20
LINGER_SECONDS = 2.0
WIDTHS = {1: "u8", 2: "s16le", 4: "s32le"}
EARSHOT = Attribution(name="Earshot", url="")


async def start(service: Service, host: str, port: int, shared: bool = False) -> asyncio.Server:
    """Listen; `shared`: at a port that other processes listen at, too. Raises OSError."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Connection(service, reader, writer).run()

    return await asyncio.start_server(
        serve, host, port, limit=LINE_LIMIT, reuse_port=shared or None
    )


@dataclass
class _Listening:
    """What sound goes to, from audio-start to audio-stop: a stream, or one for each model with
    wake words that were asked for."""

    stack: contextlib.AsyncExitStack
    clients: list[Client]
    wake: bool
    pcm: list[Pcm] = field(default_factory=list)
    form: tuple[Any, ...] | None = None
    texts: list[str] = field(default_factory=list)
    detected: bool = False


class _Connection:
    """One client, which may ask for several things in turn."""

    def __init__(
        self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._service = service
        self._reader = reader
        self._writer = writer
        self._wake: dict[str, Keyword] | None = None  # what to detect, by its name
        self._model: str | None = None
        self._listening: _Listening | None = None

    async def run(self) -> None:
        """Answer until the client leaves, or is refused."""
        try:
            async for event in self._events():
                await self._answer(event)
        except RefusedError as refusal:
            await self._refuse(refusal)
            await self._linger()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            await self._stop_listening()
            self._writer.close()

    async def _refuse(self, refusal: RefusedError) -> None:
        self._service.metrics.add("earshot_refused_total", status=str(refusal.status))
        with contextlib.suppress(RefusedError, ConnectionError):
            if self._service.ending and self._listening:
                await self._end()
            await self._send(Error(text=str(refusal), code=str(refusal.status)))

    async def _linger(self) -> None:
        """Take what still comes: a connection that is closed upon unread data is reset, and the
        client may never read why it was refused."""
        with contextlib.suppress(TimeoutError, OSError):
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._reader.read(LINE_LIMIT):
                    pass

    async def _events(self) -> AsyncIterator[Event]:
        while True:
            async with self._service.waiting():
                event = await read_event(self._reader)
            if event is None:
                return
            yield event

    async def _send(self, message: Any) -> None:
        try:
            async with asyncio.timeout(self._service.limits.patience):
                await async_write_event(message.event(), self._writer)
        except TimeoutError:
            self._writer.transport.abort()
            raise RefusedError("what is sent is not read", 408) from None

    async def _answer(self, event: Event) -> None:
        if event.type == "describe":
            await self._send(describe(self._service))
        elif event.type == "ping":
            await self._send(Pong(text=event.data.get("text")))
        elif event.type == "transcribe":
            self._wake, self._model = None, _name(event.data.get("name"))
            self._service.engine(self._model, "ctc")
        elif event.type == "detect":
            self._wake = self._wake_words(event.data.get("names"))
        elif event.type == "audio-start":
            await self._stop_listening()
            self._listening = await self._listen()
        elif event.type == "audio-chunk":
            self._listening = self._listening or await self._listen()
            await self._take(self._listening, event)
        elif event.type == "audio-stop":
            await self._end()

    def _wake_words(self, names: Any) -> dict[str, Keyword]:
        """Return the wake words of these names, all if there are none. Raises RefusedError."""
        known = wake_words(self._service)
        if not names:
            return {name: keyword for name, (keyword, _) in known.items()}
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RefusedError("names must be a list of texts")
        if unknown := [name for name in names if name not in known]:
            raise RefusedError(
                f"no wake word {', '.join(unknown)}; there are {', '.join(known)}", 404
            )
        return {name: known[name][0] for name in names}

    async def _listen(self) -> _Listening:
        """Open what was asked for last: wake words, or a transcript."""
        stack = contextlib.AsyncExitStack()
        listening = _Listening(stack, [], self._wake is not None)
        try:
            for engine, options in self._streams():
                opening = self._service.session("wyoming", engine, options)
                listening.clients.append(await stack.enter_async_context(opening))
        except BaseException:
            await stack.aclose()
            raise
        return listening

    def _streams(self) -> Sequence[tuple[Engine, Any]]:
        if self._wake is None:
            engine = self._service.engine(self._model, "ctc")
            return [(engine, self._service.decoding)]
        engines: dict[str, list[Keyword]] = {}
        for name, (keyword, engine) in wake_words(self._service).items():
            if name in self._wake:
                engines.setdefault(engine.name, []).append(keyword)
        return [
            (self._service.engines[name], SpotOptions(keywords=tuple(keywords)))
            for name, keywords in engines.items()
        ]

    async def _take(self, listening: _Listening, event: Event) -> None:
        data = event.data
        form = data.get("rate"), data.get("width"), data.get("channels")
        if listening.form is None:
            listening.form = form
            listening.pcm = [_pcm(client, *form) for client in listening.clients]
        elif form != listening.form:
            raise RefusedError(f"the sound changes from {listening.form} to {form} within a stream")
        for client, pcm in zip(listening.clients, listening.pcm, strict=True):
            brought = await client.push(pcm.push(event.payload or b""))
            await self._report(listening, brought, data.get("timestamp"))

    async def _report(
        self, listening: _Listening, brought: Sequence[events.Event], timestamp: Any
    ) -> None:
        for event in brought:
            if isinstance(event, events.Detection):
                listening.detected = True
                at = timestamp if isinstance(timestamp, int) else round(1000 * event.time)
                await self._send(Detection(name=event.label, timestamp=at))
            elif isinstance(event, events.Utterance) and not listening.wake:
                if not listening.texts:
                    await self._send(TranscriptStart())
                glue = " " if listening.texts else ""
                listening.texts.append(event.text)
                await self._send(TranscriptChunk(text=glue + event.text))

    async def _end(self) -> None:
        """Answer for all the sound since audio-start."""
        listening, self._listening = self._listening, None
        if listening is None:
            raise RefusedError("audio-stop without sound before it; send audio-start first")
        async with listening.stack:
            for number, client in enumerate(listening.clients):
                rest = [listening.pcm[number].finish()] if listening.pcm else []
                await self._report(listening, await client.finish(*rest), None)
        if listening.wake:
            if not listening.detected:
                await self._send(NotDetected())
            return
        if not listening.texts:
            await self._send(TranscriptStart())
        await self._send(Transcript(text=" ".join(listening.texts)))
        await self._send(TranscriptStop())

    async def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stack.aclose()


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """Read a header line, the data and the payload that it announces; None at the end.

    Raises RefusedError for what is no event, or is larger than one may be.
    """
    try:
        line = await reader.readline()
    except ValueError:  # of asyncio, for a line beyond the limit of the reader
        raise RefusedError(f"a header has at most {LINE_LIMIT} bytes", 413) from None
    if not line:
        return None
    header = _object(line)
    kind, data = header.get("type"), header.get("data") or {}
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise RefusedError("an event must have a type, and data that is an object")
    if length := _length(header, "data_length", LINE_LIMIT):
        data = data | _object(await reader.readexactly(length))
    length = _length(header, "payload_length", PAYLOAD_LIMIT)
    return Event(kind, data, await reader.readexactly(length) if length else None)


def describe(service: Service) -> Info:
    """Return what this server offers."""
    common: dict[str, Any] = {
        "attribution": EARSHOT,
        "installed": True,
        "version": __version__,
    }
    speech = [
        AsrModel(name=name, description=name, languages=["en"], **common)
        for name, engine in service.engines.items()
        if engine.card.task == "ctc"
    ]
    words = [
        WakeModel(name=name, description=name, phrase=name, languages=["en"], **common)
        for name in wake_words(service)
    ]
    about: dict[str, Any] = {"name": "earshot", "description": "Earshot", **common}
    transcribing = AsrProgram(models=speech, supports_transcript_streaming=True, **about)
    return Info(
        asr=[transcribing] if speech else [],
        wake=[WakeProgram(models=words, **about)] if words else [],
    )


def wake_words(service: Service) -> dict[str, tuple[Keyword, Engine]]:
    """Return the wake words of a server by name; of models with the same word the first has it."""
    found: dict[str, tuple[Keyword, Engine]] = {}
    if service.keywords:
        engine = service.engine(None, "ctc")
        found |= {keyword.text: (keyword, engine) for keyword in service.keywords}
    for engine in service.engines.values():
        card = engine.card
        if card.task == "classify":
            for label in card.labels:
                if label not in card.background:
                    found.setdefault(label, (Keyword(label), engine))
    return found


def _pcm(client: Client, rate: Any, width: Any, channels: Any) -> Pcm:
    if width not in WIDTHS:
        raise RefusedError(f"width must be 1, 2 or 4 bytes, not {width}")
    return Pcm(client.card.sample_rate, rate, WIDTHS[width], channels)


def _object(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RefusedError("an event begins with a line that is a JSON object")
    return fields


def _length(header: dict[str, Any], name: str, limit: int) -> int:
    length = header.get(name) or 0
    if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= limit:
        raise RefusedError(f"{name} must be a number up to {limit}", 413)
    return length


def _name(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise RefusedError("the name of a model must be a text")
    return value
