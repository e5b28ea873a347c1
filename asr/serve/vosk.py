"""The WebSocket protocol of vosk-server: {"config": ...}, PCM, {"eof": 1}; one answer a message.

Of a config: sample_rate (8000 without one, as there), words, max_alternatives and phrase_list are
obeyed, `model` names one of this server's. The answer is {"partial": text} or, when an utterance
has ended, {"text": ..., "result": [{word, start, end, conf}]}, or {"alternatives": [{text,
confidence}]}, MOST_ALTERNATIVES at most, of which the first has a result, too.
"""

from collections.abc import Sequence
from typing import Any

from starlette.websockets import WebSocket

from asr.decode.options import DecodeOptions
from asr.events import Event, Partial, Utterance
from asr.serve.pcm import Pcm
from asr.serve.refusal import RefusedError
from asr.serve.service import Client, Service
from asr.serve.sockets import Socket, accepted, read_json

DEFAULT_RATE = 8000
MOST_ALTERNATIVES = 16
UNKNOWN = "[unk]"


async def vosk(websocket: WebSocket) -> None:
    """Serve one client."""
    service: Service = websocket.app.state.service
    async with accepted(websocket, service) as socket:
        config: dict[str, Any] = {}
        async for message in socket:
            if isinstance(message, str) and "config" in (fields := read_json(message)):
                config |= _object(fields["config"])
                continue
            await _Recogniser(service, socket, config).run(message)
            return


class _Recogniser:
    """A stream as its config wants it."""

    def __init__(self, service: Service, socket: Socket, config: dict[str, Any]) -> None:
        self._service = service
        self._socket = socket
        self._words = bool(config.get("words", True))
        self._alternatives = _count(config.get("max_alternatives", 0))
        self._engine = service.engine(config.get("model"), "ctc")
        self._options = self._decoding(config)
        self._rate = config.get("sample_rate", DEFAULT_RATE)
        self._partial = ""

    def _decoding(self, config: dict[str, Any]) -> DecodeOptions:
        changes: dict[str, Any] = {}
        if self._alternatives > 1:
            changes["n_best"] = self._alternatives
        if phrases := config.get("phrase_list"):
            if not isinstance(phrases, list) or not all(isinstance(p, str) for p in phrases):
                raise RefusedError("phrase_list must be a list of texts")
            words = " ".join(phrases).lower().replace(UNKNOWN, " ").split()
            changes["words"] = tuple(dict.fromkeys(words))
        return self._service.decoding_with(**changes)

    async def run(self, first: str | bytes) -> None:
        """Answer the first message and all that follow."""
        async with self._service.session("vosk", self._engine, self._options) as client:
            pcm = self._pcm(client)
            message: str | bytes | None = first
            try:
                while message is not None:
                    if isinstance(message, bytes):
                        events = await client.push(pcm.push(message))
                        await self._socket.send(self._answer(events))
                    elif "config" in (fields := read_json(message)):
                        raise RefusedError("a second config; open another connection for it")
                    else:
                        events = await client.push(pcm.finish())
                        await self._socket.send(self._result(events + await client.restart()))
                        if "eof" in fields:
                            return
                        pcm = self._pcm(client)
                    message = await self._socket.receive()
            except RefusedError:
                if self._service.ending:
                    await self._socket.send(self._result(await client.finish(pcm.finish())))
                raise

    def _pcm(self, client: Client) -> Pcm:
        return Pcm(client.card.sample_rate, self._rate)

    def _answer(self, events: Sequence[Event]) -> dict[str, Any]:
        """What one message of sound brings: the utterances that ended in it, or the newest text."""
        if any(isinstance(event, Utterance) for event in events):
            return self._result(events)
        partials = [event.text for event in events if isinstance(event, Partial)]
        self._partial = partials[-1] if partials else self._partial
        return {"partial": self._partial}

    def _result(self, events: Sequence[Event]) -> dict[str, Any]:
        utterances = [event for event in events if isinstance(event, Utterance)]
        self._partial = ""
        text = " ".join(utterance.text for utterance in utterances)
        words = [word for utterance in utterances for word in utterance.words]
        result = [
            {"word": w.text, "start": w.start, "end": w.end, "conf": w.confidence} for w in words
        ]
        timed = {"result": result} if self._words and result else {}
        if not self._alternatives:
            return timed | {"text": text}
        several = utterances[0].alternatives if len(utterances) == 1 else ()
        texts = [{"text": a.text, "confidence": a.score} for a in several]
        first, *others = texts or [{"text": text, "confidence": 0.0}]
        return {"alternatives": [timed | first, *others]}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RefusedError("config must be an object", 400, 1007)
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RefusedError("max_alternatives must be a number, 0 or more")
    return min(value, MOST_ALTERNATIVES)
