"""OpenAI's POST /v1/audio/transcriptions: a file in, its transcript out, whole or as it is known.

Of the fields of a form, `file`, `model`, `response_format`, `timestamp_granularities[]` and
`stream` are obeyed; others are named in the header `earshot-ignored` of the answer. Of
verbose_json, `tokens` and `language` are empty and `temperature`, `seek` and `no_speech_prob` are
0: these models have no such thing.
"""

import asyncio
import json
import math
import sys
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from asr.events import Event, Utterance
from asr.recognise import Transcript
from asr.serve.refusal import RefusedError
from asr.serve.service import Client, Service
from asr.transcripts.formats import Format, document
from features.audio import AudioError, stream_audio

IGNORED = "earshot-ignored"  # the header that names the fields of a form which are not obeyed
FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
OBEYED = {"file", "model", "response_format", "timestamp_granularities[]", "stream"}
FIELD_LIMIT = 65536  # bytes of a field that is no file
PACE = 8192  # bytes that buy a body another second: one that is sent drop by drop is refused


class InMemory(MultiPartParser):
    """Keeps an upload in memory: nothing is stored, not even for a moment."""

    spool_max_size = sys.maxsize  # bytes; beyond, the file would go to disk


async def transcriptions(request: Request) -> Response:
    """Transcribe the file of a form."""
    service: Service = request.app.state.service
    try:
        form = await _form(request, service)
        answer = _Answer(service, form)
        return await answer.streamed() if answer.stream else await answer.whole()
    except RefusedError as refusal:
        service.metrics.add("earshot_refused_total", status=str(refusal.status))
        return error_response(refusal)


async def openai_models(request: Request) -> Response:
    """The models, as OpenAI's /v1/models has them."""
    service: Service = request.app.state.service
    return JSONResponse({"object": "list", "data": [_entry(name) for name in service.engines]})


async def openai_model(request: Request) -> Response:
    """One of them, by its name."""
    service: Service = request.app.state.service
    name = request.path_params["name"]
    if name in service.engines:
        return JSONResponse(_entry(name))
    names = ", ".join(service.engines)
    return error_response(RefusedError(f"there is no model '{name}'; this server has {names}", 404))


def _entry(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "earshot"}


def error_response(refusal: RefusedError) -> Response:
    """Return a refusal as OpenAI's clients expect it."""
    kind = "invalid_request_error" if refusal.status < 500 else "server_error"
    code = "model_not_found" if refusal.status == 404 else None
    fields = {"message": str(refusal), "type": kind, "param": None, "code": code}
    return JSONResponse({"error": fields}, refusal.status)


class _Answer:
    """What a form asks for. Raises RefusedError."""

    def __init__(self, service: Service, form: FormData) -> None:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise RefusedError("the field 'file' must be an audio file")
        self._audio = file
        self._format = str(form.get("response_format", "json"))
        if self._format not in FORMATS:
            raise RefusedError(f"response_format is none of {', '.join(FORMATS)}")
        self.stream = str(form.get("stream", "false")).lower() == "true"
        if self.stream and self._format not in ("json", "text"):
            raise RefusedError("a stream has response_format json or text")
        self._granularities = form.getlist("timestamp_granularities[]") or ["segment"]
        self._service = service
        model = form.get("model")
        self._engine = service.engine(str(model) if model else None, "ctc")
        ignored = ", ".join(sorted(form.keys() - OBEYED))
        self._headers = {IGNORED: ignored} if ignored.isascii() and ignored else {}

    async def whole(self) -> Response:
        """Return the transcript when it is complete."""
        async with self._service.session("openai", self._engine, self._service.decoding) as client:
            utterances = [utterance async for utterance in self._utterances(client)]
            text = " ".join(utterance.text for utterance in utterances)
            transcript = Transcript(text, tuple(utterances), client.seconds)
        if self._format == "json":
            return JSONResponse({"text": text}, headers=self._headers)
        if self._format == "verbose_json":
            fields = verbose(transcript, self._granularities)
            return JSONResponse(fields, headers=self._headers)
        format = Format.txt if self._format == "text" else Format(self._format)
        return PlainTextResponse(document(transcript, "", format), headers=self._headers)

    async def streamed(self) -> Response:
        """Return the utterances as they end, as server-sent events."""
        self._service.admit()  # what is refused here is refused before the answer begins

        async def events() -> AsyncIterator[str]:
            texts: list[str] = []
            try:
                opening = self._service.session("openai", self._engine, self._service.decoding)
                async with opening as client:
                    async for utterance in self._utterances(client):
                        delta = f" {utterance.text}" if texts else utterance.text
                        texts.append(utterance.text)
                        yield _server_sent({"type": "transcript.text.delta", "delta": delta})
                yield _server_sent({"type": "transcript.text.done", "text": " ".join(texts)})
            except RefusedError as refusal:
                yield _server_sent({"type": "error", "message": str(refusal)})

        return StreamingResponse(events(), media_type="text/event-stream", headers=self._headers)

    async def _utterances(self, client: Client) -> AsyncIterator[Utterance]:
        content = await self._audio.read()
        blocks = stream_audio(content, client.card.sample_rate)
        try:
            while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                for event in _utterances(await client.push(block)):
                    yield event
        except AudioError as error:
            raise RefusedError(str(error).replace("audio file in memory", "file")) from None
        for event in _utterances(await client.finish()):
            yield event


def verbose(transcript: Transcript, granularities: Sequence[Any]) -> dict[str, Any]:
    """Return the fields of verbose_json."""
    fields: dict[str, Any] = {
        "task": "transcribe",
        "language": "",  # the card of a model does not say
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
    }
    if "word" in granularities:
        fields["words"] = [
            {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
            for word in transcript.words
        ]
    if "segment" in granularities:
        fields["segments"] = [_segment(n, u) for n, u in enumerate(transcript.segments)]
    return fields


def _segment(number: int, utterance: Utterance) -> dict[str, Any]:
    """avg_logprob: of the confidence of its words; compression_ratio: of zlib, as in Whisper."""
    content = utterance.text.encode()
    logs = [math.log(word.confidence) for word in utterance.words]
    return {
        "id": number,
        "seek": 0,
        "start": round(utterance.start, 3),
        "end": round(utterance.end, 3),
        "text": utterance.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(logs) / max(1, len(logs)), 4),
        "compression_ratio": round(len(content) / len(zlib.compress(content)), 4),
        "no_speech_prob": 0.0,
    }


async def _form(request: Request, service: Service) -> FormData:
    """Read the form, within the limits of a body. Raises RefusedError."""
    limit = service.limits.upload
    too_long = RefusedError(f"a request takes {limit // 2**20} MiB; send a shorter file", 413)
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limit:
        raise too_long
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise RefusedError("send a form: multipart/form-data with the fields file and model")

    async def body() -> AsyncIterator[bytes]:
        taken = 0
        async for chunk in request.stream():
            taken += len(chunk)
            if taken > limit:
                raise too_long
            if not service.ending:
                deadline.reschedule(begun + taken / PACE)
            yield chunk

    stream: Any = body()
    parser = InMemory(
        request.headers, stream, max_files=1, max_fields=32, max_part_size=FIELD_LIMIT
    )
    try:
        async with service.waiting() as deadline:
            begun = cast(float, deadline.when())
            return await parser.parse()
    except (MultiPartException, HTTPException, UnicodeDecodeError, KeyError, ValueError) as error:
        message = getattr(error, "message", None) or getattr(error, "detail", "it is damaged")
        raise RefusedError(f"the form cannot be read ({message}); send it again") from None
    except ClientDisconnect:
        raise RefusedError("the client left", 499) from None


def _utterances(events: Sequence[Event]) -> list[Utterance]:
    return [event for event in events if isinstance(event, Utterance)]


def _server_sent(fields: dict[str, Any]) -> str:
    return f"data: {json.dumps(fields, ensure_ascii=False)}\n\n"
