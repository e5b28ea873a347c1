"""Earshot's own WebSocket protocol: JSON both ways, sound as binary messages (see docs/serve.md).

The client's first message says what it wants; all fields may be left out:

    model        one of /models; by default the first that transcribes, or spots without keywords
    sample_rate  of the sound in Hz, 16000; channels 1; format s16le, or f32le, s32le, u8
    keywords     spot these and do not transcribe: ["hey lamp=0.7", "lumos (L UW M OW S)"], as
                 --keywords has them, or [{"text": "hey lamp", "threshold": 0.7}]
    n_best       how many texts an utterance is given
    words        a list of words: nothing else is recognised; hotwords: words that are expected
    partials     false: nothing about utterances that still go on

Then sound, cut in any way, and {"type": "finish"} after it. The server answers with messages that
have a `type`: `ready` (the model and what was understood), `partial`, `utterance`, `detection`,
`near_miss` (as in the JSON of 'asr transcribe' and 'asr spot'), `ack` after each message of sound
(its number, and the seconds that were taken in all), `finished`, and `error` before it closes.
"""

from collections.abc import Sequence
from typing import Any

from starlette.websockets import WebSocket

from asr.decode.keywords.typed import Keyword, SpotOptions, parse_keyword
from asr.decode.options import DecodeOptions
from asr.events import Event, Partial
from asr.serve.engine import Engine
from asr.serve.pcm import Pcm
from asr.serve.refusal import RefusedError, refused
from asr.serve.service import Client, Service
from asr.serve.sockets import Socket, accepted, read_json
from asr.transcripts.formats import event_fields

MOST_TEXTS = 16
FIELDS = {
    "type": str,
    "model": str,
    "sample_rate": (int, float),
    "channels": int,
    "format": str,
    "keywords": list,
    "n_best": int,
    "words": list,
    "hotwords": list,
    "partials": bool,
}


async def live(websocket: WebSocket) -> None:
    """Serve one client."""
    service: Service = websocket.app.state.service
    async with accepted(websocket, service) as socket:
        try:
            await _serve(service, socket)
        except RefusedError as refusal:
            await socket.send({"type": "error", "message": str(refusal), "status": refusal.status})
            raise


async def _serve(service: Service, socket: Socket) -> None:
    message = await socket.receive()
    if message is None:
        return
    if isinstance(message, bytes):
        raise RefusedError("the first message must be JSON, such as {}; sound follows it")
    wanted = _checked(read_json(message))
    engine, options = _chosen(service, wanted)
    async with service.session("earshot", engine, options) as client:
        pcm = Pcm(
            client.card.sample_rate,
            wanted.get("sample_rate", 16000),
            wanted.get("format", "s16le"),
            wanted.get("channels", 1),
        )
        await socket.send(
            {"type": "ready", "model": engine.name, "task": client.card.task} | wanted
        )
        await _converse(service, socket, client, pcm, wanted.get("partials", True))


async def _converse(
    service: Service, socket: Socket, client: Client, pcm: Pcm, partials: bool
) -> None:
    async def report(events: Sequence[Event]) -> None:
        for event in events:
            if partials or not isinstance(event, Partial):
                await socket.send(event_fields(event))

    number = 0
    try:
        while isinstance(message := await socket.receive(), bytes):
            await report(await client.push(pcm.push(message)))
            number += 1
            seconds = round(client.seconds, 3)
            await socket.send({"type": "ack", "message": number, "seconds": seconds})
    except RefusedError:
        if service.ending:
            await report(await client.finish(pcm.finish()))
        raise
    if message is None:
        return
    if read_json(message).get("type") != "finish":
        raise RefusedError('after the first message comes sound, then {"type": "finish"}')
    await report(await client.finish(pcm.finish()))
    await socket.send({"type": "finished", "seconds": round(client.seconds, 3)})


def _checked(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a first message. Raises RefusedError for others and for wrong types."""
    if unknown := wanted.keys() - FIELDS:
        names = ", ".join(sorted(unknown))
        raise RefusedError(f"unknown fields {names}; known: {', '.join(FIELDS)}")
    for name, value in wanted.items():
        if not isinstance(value, FIELDS[name]) or (isinstance(value, bool) != (name == "partials")):
            raise RefusedError(f"{name} is of the wrong type ({type(value).__name__})")
    return {name: value for name, value in wanted.items() if name != "type"}


def _chosen(
    service: Service, wanted: dict[str, Any]
) -> tuple[Engine, DecodeOptions | SpotOptions | None]:
    """Return the engine and the options that a first message asks for. Raises RefusedError."""
    name, typed = wanted.get("model"), wanted.get("keywords")
    engine = service.engines.get(name) if name else None
    task = engine.card.task if engine else "ctc"
    engine = service.engine(name, task)
    about_words = {"n_best", "words", "hotwords"} & wanted.keys()
    if about_words and (typed or task == "classify"):
        raise RefusedError(f"{', '.join(sorted(about_words))} are about transcribing, not keywords")
    if typed:
        with refused():
            return engine, SpotOptions(keywords=tuple(map(_keyword, typed)))
    if task == "classify":
        return engine, None
    n_best = wanted.get("n_best", 1)
    if n_best > MOST_TEXTS:
        raise RefusedError(f"n_best is at most {MOST_TEXTS}")
    changes: dict[str, Any] = {"n_best": n_best} if n_best != 1 else {}
    for field, option in (("words", "words"), ("hotwords", "hotword")):
        if field in wanted:
            changes[option] = tuple(_text(word).lower() for word in wanted[field])
    return engine, service.decoding_with(**changes)


def _keyword(entry: Any) -> Keyword:
    fields = {"text": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict) or not {"text"} <= fields.keys() <= {"text", "threshold"}:
        raise RefusedError('a keyword is "hey lamp=0.7", or {"text": ..., "threshold": 0.7}')
    threshold = fields.get("threshold")
    if threshold is not None and (
        isinstance(threshold, bool) or not isinstance(threshold, int | float)
    ):
        raise RefusedError("the threshold of a keyword is a number")
    keyword = parse_keyword(_text(fields["text"]))
    return keyword if threshold is None else keyword._replace(threshold=threshold)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RefusedError("a word must be a text")
    return value
