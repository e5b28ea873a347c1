"""Wyoming, as Home Assistant speaks it: by the client of the `wyoming` package."""

import asyncio
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming.wake import Detect, Detection

from tests.support.serving import COMMANDS, SPEECH, Serving, pieces, serving
from tests.support.tiny_models import SAMPLE_RATE, tones

FORMAT = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}


@pytest.fixture(scope="module")
def server(speech_model: Path, keyword_model: Path) -> Iterator[Serving]:
    with serving(speech_model, keyword_model, options=("--keywords", "ba=0.6")) as started:
        yield started


def sound(audio: Any) -> list[Event]:
    chunks = [AudioChunk(audio=piece, **FORMAT).event() for piece in pieces(audio)]
    return [AudioStart(**FORMAT).event(), *chunks, AudioStop().event()]


def answers(server: Serving, events: Sequence[Event], last: str) -> list[Event]:
    """Send events; return what comes back, up to an event of the type `last`."""

    async def converse() -> list[Event]:
        received: list[Event] = []
        async with AsyncTcpClient("127.0.0.1", server.wyoming or 0) as client:
            for event in events:
                await client.write_event(event)
            while (event := await asyncio.wait_for(client.read_event(), 60)) is not None:
                received.append(event)
                if event.type == last:
                    break
        return received

    return asyncio.run(converse())


def test_describe_lists_models_and_wake_words(server: Serving) -> None:
    (event,) = answers(server, [Describe().event()], "info")
    info = Info.from_event(event)
    assert [model.name for model in info.asr[0].models] == ["speech"]
    assert [model.name for model in info.wake[0].models] == ["ba", "low", "high"]
    assert info.asr[0].supports_transcript_streaming


def test_transcript_comes_in_chunks_and_whole(server: Serving) -> None:
    events = [Transcribe(name="speech").event(), *sound(SPEECH)]
    received = answers(server, events, "transcript-stop")
    assert [(event.type, event.data.get("text")) for event in received] == [
        ("transcript-start", None),
        ("transcript-chunk", "ab c"),
        ("transcript-chunk", " ba"),
        ("transcript", "ab c ba"),
        ("transcript-stop", None),
    ]


def test_a_client_may_ask_again_on_the_same_connection(server: Serving) -> None:
    events = [Describe().event(), Transcribe().event(), *sound(SPEECH), *sound(SPEECH)]
    received = answers(server, [*events, Ping().event()], "pong")
    texts = [Transcript.from_event(e).text for e in received if e.type == "transcript"]
    assert texts == ["ab c ba", "ab c ba"]


def test_wake_words_are_detected_by_name(server: Serving) -> None:
    received = answers(server, [Detect().event(), *sound(COMMANDS)], "detection")
    first = Detection.from_event(received[0])
    assert first.name == "low" and isinstance(first.timestamp, int)
    received = answers(server, [Detect(names=["high"]).event(), *sound(COMMANDS)], "detection")
    assert [event.data["name"] for event in received] == ["high"]
    received = answers(server, [Detect(names=["ba"]).event(), *sound(SPEECH)], "detection")
    assert [event.data["name"] for event in received] == ["ba"]


def test_no_wake_word_is_reported_as_not_detected(server: Serving) -> None:
    low = tones("low", seconds=0.35, pause=0.45)
    received = answers(server, [Detect(names=["high"]).event(), *sound(low)], "not-detected")
    assert [event.type for event in received] == ["not-detected"]


def test_wake_word_then_command_on_two_connections(server: Serving) -> None:
    """What a satellite does: it wakes, then has what follows transcribed."""
    (woken,) = answers(server, [Detect(names=["low"]).event(), *sound(COMMANDS)], "detection")
    assert woken.data["name"] == "low"
    received = answers(server, [Transcribe().event(), *sound(SPEECH)], "transcript")
    assert received[-1].data["text"] == "ab c ba"


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([Transcribe(name="nobody").event()], "no model 'nobody'"),
        ([Detect(names=["hello"]).event()], "no wake word hello; there are ba, low, high"),
        ([AudioStop().event()], "audio-stop without sound"),
        ([AudioChunk(audio=b"\0", **FORMAT).event()], "no whole number of samples"),
        ([AudioChunk(rate=1, width=2, channels=1, audio=b"").event()], "sample rate of 1 Hz"),
        ([AudioChunk(rate=16000, width=3, channels=1, audio=b"").event()], "width must be"),
        (
            [
                AudioChunk(audio=b"", **FORMAT).event(),
                AudioChunk(audio=b"", **FORMAT | {"rate": 8000}).event(),
            ],
            "the sound changes",
        ),
        ([Event("audio-chunk", {"rate": []})], "width must be"),
        ([Event("x" * 70000)], "a header has at most 65536 bytes"),
    ],
)
def test_client_is_refused_with_the_reason(
    server: Serving, events: list[Event], reason: str
) -> None:
    received = answers(server, events, "error")
    assert reason in Error.from_event(received[-1]).text


def test_client_that_goes_on_sending_reads_why_it_is_refused(server: Serving) -> None:
    refused = [Transcribe(name="nobody").event(), *sound(SPEECH)]
    for _ in range(20):  # closed upon unread data, a connection loses the reason now and then
        received = answers(server, refused, "error")
        assert [event.type for event in received] == ["error"]


def test_wyoming_that_is_open_to_others_is_warned_about(speech_model: Path) -> None:
    with serving(speech_model, options=("--wyoming", "0.0.0.0:0")) as server:
        server.process.terminate()
        assert server.warnings == [
            "Wyoming has no token: any machine that reaches its port may use it"
        ]
    with serving(speech_model) as server:
        assert server.warnings == []


def test_announced_lengths_are_limited(server: Serving) -> None:
    async def send(header: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming)
        writer.write(header + b"\n")
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return answer

    for field in (b"data_length", b"payload_length"):
        answer = asyncio.run(send(b'{"type": "audio-chunk", "' + field + b'": 10000000000}'))
        assert field + b" must be a number up to" in answer


@pytest.mark.slow
def test_sigterm_brings_the_transcript_so_far(speech_model: Path) -> None:
    with serving(speech_model, options=("--drain", 0.2)) as server:

        async def converse() -> list[str]:
            async with AsyncTcpClient("127.0.0.1", server.wyoming or 0) as client:
                for event in sound(SPEECH)[:-1]:
                    await client.write_event(event)
                types = []
                while (event := await asyncio.wait_for(client.read_event(), 60)) is not None:
                    types.append(event.type)
                    if event.type == "transcript-start":
                        server.process.send_signal(signal.SIGTERM)
                return types

        types = asyncio.run(converse())
        assert types[-3:] == ["transcript", "transcript-stop", "error"]
        assert server.process.wait(60) == 0
