"""The server, as the clients of others see it: OpenAI's package, vosk-server's, and our own."""

import errno
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
import soxr
import webvtt
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import asr
from asr.serve.live import FIELDS
from asr.transcripts.formats import Format, document, event_fields
from tests.support.commands import ROOT, hide_packages, run_asr
from tests.support.serving import COMMANDS, SPEECH, Serving, pcm, pieces, serving
from tests.support.tiny_models import SAMPLE_RATE, tones


@pytest.fixture(scope="module")
def server(speech_model: Path, keyword_model: Path) -> Iterator[Serving]:
    with serving(speech_model, keyword_model) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def recording() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, SPEECH, SAMPLE_RATE, format="FLAC")
    return file.getvalue()


def get(server: Serving, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(server.url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


# OpenAI's /v1/audio/transcriptions, by its own client


def test_openai_client_gets_the_text(client: openai.OpenAI, recording: bytes) -> None:
    result = client.audio.transcriptions.create(model="speech", file=("talk.flac", recording))
    assert result.text == "ab c ba"


def test_openai_client_gets_words_and_segments_with_times(
    client: openai.OpenAI, recording: bytes, speech_model: Path
) -> None:
    result = client.audio.transcriptions.create(
        model="speech",
        file=("talk.flac", recording),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    expected = asr.transcribe(asr.load(speech_model), SPEECH)
    assert [(w.word, w.start, w.end) for w in result.words or []] == [
        (w.text, round(w.start, 3), round(w.end, 3)) for w in expected.words
    ]
    assert [(s.text, s.start) for s in result.segments or []] == [
        (s.text, round(s.start, 3)) for s in expected.segments
    ]
    assert result.duration == round(expected.duration, 3)


@pytest.mark.parametrize("format", ["text", "srt", "vtt"])
def test_openai_client_gets_text_and_subtitles(
    client: openai.OpenAI, recording: bytes, format: Any, speech_model: Path
) -> None:
    text: Any = client.audio.transcriptions.create(
        model="speech", file=("talk.flac", recording), response_format=format
    )
    transcript = asr.transcribe(asr.load(speech_model), SPEECH)
    assert text == document(transcript, "", Format("txt" if format == "text" else format))
    if format == "vtt":
        assert [cue.text for cue in webvtt.from_string(text)] == ["ab c", "ba"]


def test_openai_client_gets_utterances_as_they_end(client: openai.OpenAI, recording: bytes) -> None:
    events = client.audio.transcriptions.create(
        model="speech", file=("talk.flac", recording), stream=True
    )
    received = [(e.type, getattr(e, "delta", None) or getattr(e, "text", "")) for e in events]
    assert received == [
        ("transcript.text.delta", "ab c"),
        ("transcript.text.delta", " ba"),
        ("transcript.text.done", "ab c ba"),
    ]


def test_openai_client_lists_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["speech", "keywords"]
    assert client.models.retrieve("keywords").id == "keywords"
    with pytest.raises(openai.NotFoundError, match="no model 'whisper-1'; this server has speech"):
        client.models.retrieve("whisper-1")


def test_openai_client_learns_what_is_wrong(client: openai.OpenAI, recording: bytes) -> None:
    def create(**fields: Any) -> None:
        client.audio.transcriptions.create(**{"model": "speech", "file": recording} | fields)

    with pytest.raises(openai.NotFoundError, match="no model 'whisper-9'; this server has speech"):
        create(model="whisper-9")
    with pytest.raises(openai.BadRequestError, match="spots keywords; ask for speech"):
        create(model="keywords")
    with pytest.raises(openai.BadRequestError, match="cannot be decoded"):
        create(file=b"this is no sound")
    with pytest.raises(openai.BadRequestError, match="response_format is none of"):
        create(response_format="diarized_json")


def test_fields_that_are_not_obeyed_are_named(client: openai.OpenAI, recording: bytes) -> None:
    raw = client.audio.transcriptions.with_raw_response.create(
        model="speech", file=recording, prompt="names", language="de"
    )
    assert raw.headers["earshot-ignored"] == "language, prompt"


# vosk-server's protocol, as its clients speak it


def vosk_answers(server: Serving, config: str, path: str = "") -> list[dict[str, Any]]:
    """What a client gets that sends 0.2 s at a time and waits for each answer."""
    with connect(server.ws + path) as websocket:
        websocket.send(config)
        answers = []
        for piece in pieces(SPEECH):
            websocket.send(piece)
            answers.append(json.loads(websocket.recv()))
        websocket.send('{"eof" : 1}')
        answers.append(json.loads(websocket.recv()))
        with pytest.raises(ConnectionClosed):
            websocket.recv()
    return answers


@pytest.mark.parametrize("path", ["", "/vosk"])
def test_vosk_client_gets_partials_and_results(server: Serving, path: str) -> None:
    answers = vosk_answers(server, '{ "config" : { "sample_rate" : 16000 } }', path)
    results = [answer for answer in answers if "text" in answer]
    assert [answer["text"] for answer in results] == ["ab c", "ba"]
    assert [word["word"] for word in results[0]["result"]] == ["ab", "c"]
    assert results[0]["result"][0].keys() == {"word", "start", "end", "conf"}
    partials = [answer["partial"] for answer in answers if "partial" in answer]
    assert "ab" in partials and "b" in partials and len(answers) == len(pieces(SPEECH)) + 1


def test_vosk_client_gets_alternatives_and_may_limit_the_words(server: Serving) -> None:
    config = '{"config": {"max_alternatives": 20, "sample_rate": 16000%s}}'
    for words in ("", ', "words": 0'):
        answers = vosk_answers(server, config % words)
        best, *others = next(a["alternatives"] for a in answers if "alternatives" in a)
        assert best["text"] == "ab c" and 1 <= len(others) < 16
        times = [word["word"] for word in best.get("result", [])]
        assert times == ([] if words else ["ab", "c"])
        assert all(other.keys() == {"text", "confidence"} for other in others)
    answers = vosk_answers(
        server, '{"config": {"phrase_list": ["ab ca", "[unk]"], "sample_rate": 16000}}'
    )
    texts = [answer["text"] for answer in answers if answer.get("text")]
    assert set(" ".join(texts).split()) <= {"ab", "ca"}


def test_vosk_client_without_a_config_sends_8_khz(server: Serving) -> None:
    with connect(server.ws) as websocket:
        websocket.send(pcm(soxr.resample(tones("a", "b"), SAMPLE_RATE, 8000)))
        websocket.recv()
        websocket.send('{"eof" : 1}')
        assert json.loads(websocket.recv())["text"] == "ab"


def test_vosk_client_may_reset(server: Serving) -> None:
    with connect(server.ws) as websocket:
        websocket.send('{"config": {"sample_rate": 16000}}')
        texts = []
        for _ in range(2):
            websocket.send(pcm(tones("a", "b")))
            websocket.recv()
            websocket.send('{"reset" : 1}')
            texts.append(json.loads(websocket.recv())["text"])
    assert texts == ["ab", "ab"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ('{"config": {"sample_rate": 5}}', "a sample rate of 5 Hz"),
        ('{"config": {"sample_rate": "fast"}}', "a sample rate of fast Hz"),
        ('{"config": 3}', "config must be an object"),
        ('{"config": {"model": "/etc/passwd"}}', "there is no model '/etc/passwd'"),
        ('{"config": {"max_alternatives": -1}}', "max_alternatives must be"),
        ('{"config": {"phrase_list": "ab"}}', "phrase_list must be a list"),
        ("{", "must be a JSON object"),
    ],
)
def test_vosk_client_is_refused_with_the_reason(server: Serving, config: str, reason: str) -> None:
    with connect(server.ws) as websocket:
        websocket.send(config)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.send(b"\0\0")
            websocket.recv()
    assert closed.value.rcvd and reason in closed.value.rcvd.reason


# Our own WebSocket


def converse(
    websocket: ClientConnection, wanted: dict[str, Any], messages: list[bytes]
) -> list[dict[str, Any]]:
    """Return all that the server says, up to `finished`."""
    websocket.send(json.dumps(wanted))
    for message in messages:
        websocket.send(message)
    websocket.send('{"type": "finish"}')
    said = [json.loads(message) for message in websocket]
    assert said[0]["type"] == "ready" and said[-1]["type"] == "finished", said
    return said


def events_in(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [fields for fields in said if fields["type"] not in ("ready", "ack", "finished")]


def test_own_protocol_gives_the_events_of_a_stream(server: Serving, speech_model: Path) -> None:
    with connect(f"{server.ws}/v1/stream") as websocket:
        said = converse(websocket, {"n_best": 2}, pieces(SPEECH, 777))
    options = asr.DecodeOptions(n_best=2)
    expected = asr.transcribe(asr.load(speech_model), SPEECH, options=options).segments
    utterances = [fields for fields in said if fields["type"] == "utterance"]
    assert utterances == [event_fields(utterance) for utterance in expected]
    acknowledged = [fields for fields in said if fields["type"] == "ack"]
    assert [fields["message"] for fields in acknowledged] == list(
        range(1, len(pieces(SPEECH, 777)) + 1)
    )
    assert said[-1]["seconds"] == round(len(SPEECH) / SAMPLE_RATE, 3)


def test_own_protocol_spots_trained_and_typed_keywords(
    server: Serving, keyword_model: Path, speech_model: Path
) -> None:
    with connect(f"{server.ws}/v1/stream") as websocket:
        trained = converse(websocket, {"model": "keywords"}, pieces(COMMANDS))
    found = asr.spot(asr.load(keyword_model), COMMANDS)
    assert events_in(trained) == [event_fields(event) for event in found] != []
    with connect(f"{server.ws}/v1/stream") as websocket:
        typed = converse(websocket, {"keywords": ["ba"]}, pieces(SPEECH))
    options = asr.SpotOptions(keywords=(asr.Keyword("ba"),))
    found = asr.spot(asr.load(speech_model), SPEECH, options=options)
    assert events_in(typed) == [event_fields(event) for event in found] != []


@pytest.mark.parametrize(
    "keyword", ["BA=0.6", "ba (B AH) (B AA)=0.6", {"text": "Ba (B AH)", "threshold": 0.6}]
)
def test_own_protocol_reads_keywords_as_the_commands_do(
    server: Serving, speech_model: Path, keyword: Any
) -> None:
    with connect(f"{server.ws}/v1/stream") as websocket:
        said = converse(websocket, {"keywords": [keyword]}, pieces(SPEECH))
    options = asr.SpotOptions(keywords=(asr.Keyword("ba", 0.6),))
    found = asr.spot(asr.load(speech_model), SPEECH, options=options)
    assert events_in(said) == [event_fields(event) for event in found] != []


@pytest.mark.parametrize(
    ("form", "convert"),
    [
        ({"format": "f32le"}, lambda audio: audio.astype("<f4").tobytes()),
        ({"format": "s32le"}, lambda audio: (audio * 2.0**31).astype("<i4").tobytes()),
        ({"channels": 2}, lambda audio: pcm(np.repeat(audio, 2))),
        ({"sample_rate": 48000}, lambda audio: pcm(np.repeat(audio, 3))),
    ],
)
def test_sound_of_any_format_is_recognised(
    server: Serving, form: dict[str, Any], convert: Any
) -> None:
    with connect(f"{server.ws}/v1/stream") as websocket:
        said = converse(websocket, form | {"partials": False}, [convert(SPEECH)])
    assert [fields["text"] for fields in events_in(said)] == ["ab c", "ba"]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"rate": 16000}, "unknown fields rate"),
        ({"channels": 0}, "0 channels"),
        ({"format": "mp3"}, "format 'mp3' is none of"),
        ({"n_best": 99}, "n_best is at most 16"),
        ({"n_best": True}, "n_best is of the wrong type"),
        ({"keywords": [{"text": 3}]}, "a word must be a text"),
        ({"keywords": ["zzz"]}, "the model cannot say 'z'"),
        ({"keywords": ["ba=much"]}, "threshold 'much' is no number; give 'ba=0.6'"),
        ({"keywords": ["ba (QQ)"]}, "'QQ'"),
        ({"keywords": ["a"], "n_best": 2}, "n_best are about transcribing"),
        ({"model": "keywords", "words": ["a"]}, "words are about transcribing"),
        ({"model": "nobody"}, "there is no model 'nobody'"),
    ],
)
def test_own_protocol_says_what_is_wrong(
    server: Serving, wanted: dict[str, Any], reason: str
) -> None:
    with connect(f"{server.ws}/v1/stream") as websocket:
        websocket.send(json.dumps(wanted))
        said = json.loads(websocket.recv())
    assert said["type"] == "error" and reason in said["message"]


def test_page_about_the_server_describes_the_fields_of_our_protocol() -> None:
    page = (ROOT / "docs" / "serve.md").read_text()
    assert not [name for name in FIELDS if f"`{name}`" not in page and f'"{name}"' not in page]


def test_sound_that_is_none_is_refused_and_others_go_on(server: Serving) -> None:
    with connect(f"{server.ws}/v1/stream") as good, connect(f"{server.ws}/v1/stream") as bad:
        for websocket in (good, bad):
            websocket.send('{"format": "f32le", "partials": false}')
        good.send(SPEECH[:20000].tobytes())
        bad.send(np.full(4000, np.nan, np.float32).tobytes())
        said = [json.loads(message) for message in iter_until_closed(bad)]
        assert "NaN" in said[-1]["message"]
        good.send(SPEECH[20000:].tobytes())
        good.send('{"type": "finish"}')
        texts = [fields["text"] for fields in events_in([json.loads(m) for m in good])]
    assert texts == ["ab c", "ba"]


def iter_until_closed(websocket: ClientConnection) -> Iterator[str | bytes]:
    try:
        while True:
            yield websocket.recv()
    except ConnectionClosed:
        return


def test_many_streams_at_once_get_what_each_gets_alone(server: Serving) -> None:
    results: list[list[str]] = []

    def client() -> None:
        with connect(f"{server.ws}/v1/stream") as websocket:
            said = converse(websocket, {"partials": False}, pieces(SPEECH, 1600))
        results.append([fields["text"] for fields in events_in(said)])

    threads = [threading.Thread(target=client) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [["ab c", "ba"]] * 24


# Pages, limits, safety


def test_health_models_and_metrics(server: Serving) -> None:
    assert "\nearshot_draining 0\n" in get(server, "/metrics")[1]
    vosk_answers(server, '{"config": {}}')  # so that there is something to count
    assert get(server, "/health") == (200, '{"status":"ok"}')
    models = json.loads(get(server, "/models")[1])["models"]
    assert [(model["name"], model["task"]) for model in models] == [
        ("speech", "ctc"),
        ("keywords", "classify"),
    ]
    assert models[1]["labels"] == ["low", "high"]
    text = get(server, "/metrics")[1]
    pattern = r"(# .*|[a-z_]+(\{[a-z]+=\"[^\"]*\"(,[a-z]+=\"[^\"]*\")*\})? [0-9.e+-]+)"
    assert all(re.fullmatch(pattern, line) for line in text.splitlines())
    assert 'earshot_streams{model="speech",protocol="vosk"} 0\n' in text


def test_page_and_its_files_are_served_and_nothing_else(server: Serving) -> None:
    status, page = get(server, "/")
    assert status == 200
    for name in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert get(server, f"/{name}")[0] == 200
    for path in ("/page/page.html", "/../server.py", "/server.py", "/%2e%2e/server.py"):
        status, answer = get(server, path)
        assert status == 404 and "no GET /" in json.loads(answer)["error"]["message"]
    status, answer = get(server, "/v1/audio/transcriptions")
    assert status == 405 and "no GET /v1/audio/transcriptions" in answer


def test_pages_of_other_sites_may_not_use_the_server(server: Serving) -> None:
    assert get(server, "/models", Origin="https://evil.example")[0] == 403
    assert get(server, "/models", Host="evil.example")[0] == 403
    assert get(server, "/models", Origin=server.url)[0] == 200
    with pytest.raises(InvalidStatus):
        connect(f"{server.ws}/v1/stream", origin="https://evil.example")  # type: ignore[arg-type]


def test_pages_of_a_site_that_is_allowed_may_use_the_server(keyword_model: Path) -> None:
    site = "https://app.example"
    allowed = ("--allow-origin", "https://App.example/")
    with serving(keyword_model, options=allowed, ASR_TOKEN="secret") as server:
        preflight = urllib.request.Request(
            f"{server.url}/v1/audio/transcriptions",
            method="OPTIONS",
            headers={
                "Origin": site,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        with urllib.request.urlopen(preflight, timeout=30) as answer:
            assert answer.headers["access-control-allow-origin"] == site
            assert answer.headers["access-control-allow-headers"] == "authorization"
        bearer = {"Origin": site, "Authorization": "Bearer secret"}
        asked = urllib.request.Request(f"{server.url}/models", headers=bearer)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert answer.headers["access-control-allow-origin"] == site
        assert get(server, "/models", Origin=site)[0] == 401
        assert get(server, "/models", **bearer | {"Origin": "https://evil.example"})[0] == 403
    result = run_asr("serve", "-m", keyword_model, "--allow-origin", "app.example")
    assert result.returncode == 2 and "give scheme and host" in result.stderr


def test_token_is_needed_for_all_but_health_and_the_page(keyword_model: Path) -> None:
    with serving(keyword_model, ASR_TOKEN="secret") as server:
        assert get(server, "/health")[0] == get(server, "/")[0] == 200
        assert get(server, "/models")[0] == get(server, "/models", Authorization="Bearer x")[0]
        assert get(server, "/metrics")[0] == 401
        assert get(server, "/metrics", Authorization="Bearer secret")[0] == 200
        with pytest.raises(InvalidStatus):
            connect(f"{server.ws}/v1/stream")
        with connect(f"{server.ws}/v1/stream?token=secret") as websocket:
            websocket.send('{"model": "keywords"}')
            assert json.loads(websocket.recv())["type"] == "ready"


def test_other_machines_need_a_token(keyword_model: Path) -> None:
    result = run_asr("serve", "-m", keyword_model, "--host", "0.0.0.0", "--port", 0, ASR_TOKEN="")
    assert result.returncode == 2 and "token" in result.stderr


def test_port_in_use_is_said(keyword_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_asr("serve", "-m", keyword_model, "--port", port)
    assert result.returncode == 2
    reason = os.strerror(errno.EADDRINUSE)
    assert f"cannot listen on 127.0.0.1 port {port} ({reason}); choose" in result.stderr


def test_model_that_was_replaced_is_said_and_streams_go_on(
    speech_model: Path, keyword_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "speech.onnx"
    shutil.copy(speech_model, model)
    with serving(model) as server, connect(f"{server.ws}/v1/stream") as websocket:
        shutil.copy(keyword_model, model)
        said = converse(websocket, {"partials": False}, pieces(SPEECH))
        assert [fields["text"] for fields in events_in(said)] == ["ab c", "ba"]
        assert server.process.stderr is not None
        assert "speech.onnx has changed; restart" in server.process.stderr.readline()


def test_missing_packages_are_named(keyword_model: Path, tmp_path: Path) -> None:
    hidden = hide_packages(tmp_path / "hidden", "starlette", "uvicorn")
    result = run_asr("serve", "-m", keyword_model, **hidden)
    assert result.returncode == 2 and 'pip install "earshot-asr[serve]"' in result.stderr


@pytest.fixture(scope="module")
def strict(speech_model: Path) -> Iterator[Serving]:
    limits = ("--streams", 2, "--seconds", 5, "--upload", 1, "--patience", 1)
    with serving(speech_model, options=limits) as started:
        yield started


def test_streams_beyond_the_limit_are_refused(strict: Serving, recording: bytes) -> None:
    with connect(f"{strict.ws}/v1/stream") as one, connect(f"{strict.ws}/v1/stream") as two:
        for websocket in (one, two):
            websocket.send("{}")
            assert json.loads(websocket.recv())["type"] == "ready"
        with connect(f"{strict.ws}/v1/stream") as third:
            third.send("{}")
            assert "2 streams are open" in json.loads(third.recv())["message"]
        client = openai.OpenAI(base_url=f"{strict.url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.InternalServerError, match="2 streams are open"):
            client.audio.transcriptions.create(model="speech", file=recording)


def test_too_much_sound_and_too_large_files_are_refused(strict: Serving) -> None:
    with connect(f"{strict.ws}/v1/stream") as websocket:
        websocket.send("{}")
        for _ in range(6):
            websocket.send(bytes(2 * SAMPLE_RATE))
        said = [json.loads(message) for message in iter_until_closed(websocket)]
    assert "a stream takes 5 s of audio" in said[-1]["message"]
    client = openai.OpenAI(base_url=f"{strict.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.APIStatusError) as refused:
        client.audio.transcriptions.create(model="speech", file=bytes(2 * 2**20))
    assert refused.value.status_code == 413 and "1 MiB" in refused.value.message


@pytest.mark.slow
def test_client_that_says_nothing_is_cut_off_with_the_reason(strict: Serving) -> None:
    with connect(f"{strict.ws}/v1/stream") as websocket:
        assert "nothing came for 1 s" in json.loads(websocket.recv())["message"]
    with socket.create_connection(("127.0.0.1", strict.http)) as half:
        half.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
        half.settimeout(30)
        assert half.recv(100) == b""


def test_message_that_is_too_large_closes_the_connection(server: Serving) -> None:
    with connect(f"{server.ws}/v1/stream") as websocket:
        websocket.send("{}")
        websocket.recv()
        with pytest.raises(ConnectionClosed) as closed:
            websocket.send(bytes(2 * 2**20))
            websocket.recv()
    # A server that stops reading may reset the connection before its reason is read.
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    with connect(f"{server.ws}/v1/stream") as websocket:  # others go on
        websocket.send("{}")
        assert json.loads(websocket.recv())


def test_sigterm_lets_open_streams_finish(speech_model: Path) -> None:
    with serving(speech_model, options=("--drain", 30)) as server:
        with connect(f"{server.ws}/v1/stream") as websocket:
            websocket.send('{"partials": false}')
            websocket.send(pcm(SPEECH[:20000]))
            assert json.loads(websocket.recv())["type"] == "ready"
            server.process.send_signal(signal.SIGTERM)
            while get(server, "/health")[0] != 503:
                time.sleep(0.05)
            with connect(f"{server.ws}/v1/stream") as late:
                late.send("{}")
                assert "about to end" in json.loads(late.recv())["message"]
            websocket.send(pcm(SPEECH[20000:]))
            websocket.send('{"type": "finish"}')
            said = [json.loads(message) for message in websocket]
        assert [fields["text"] for fields in events_in(said)] == ["ab c", "ba"]
        assert server.process.wait(60) == 0
        assert server.process.stderr
        assert "open streams: 1, which are left 30 s" in server.process.stderr.read()


@pytest.mark.slow
def test_streams_that_outlast_the_drain_get_their_last_events(speech_model: Path) -> None:
    with serving(speech_model, options=("--drain", 0.2)) as server:
        with (
            connect(f"{server.ws}/v1/stream") as own,
            connect(f"{server.ws}/vosk") as vosk,
        ):
            own.send('{"partials": false}')
            vosk.send('{"config": {"sample_rate": 16000}}')
            for websocket in (own, vosk):
                websocket.send(pcm(tones("a", "b")))
            vosk.recv()
            server.process.send_signal(signal.SIGTERM)
            said = [json.loads(message) for message in iter_until_closed(own)]
            assert "ab" in [fields.get("text") for fields in said]
            assert "ab" in [json.loads(m).get("text") for m in iter_until_closed(vosk)]
            assert vosk.close_code == 1012
        assert server.process.wait(60) == 0


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_tls_by_file(keyword_model: Path, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    files = ("-keyout", str(key), "-out", str(certificate))
    made = ["openssl", "req", "-x509", "-nodes", "-days", "1"]
    made += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run([*made, *subject, *files], check=True, capture_output=True)
    trusting = ssl.create_default_context(cafile=certificate)
    with serving(keyword_model, options=("--certificate", certificate, "--key", key)) as server:
        with urllib.request.urlopen(
            f"https://localhost:{server.http}/health", context=trusting
        ) as answer:
            assert answer.status == 200
        with connect(f"wss://localhost:{server.http}/v1/stream", ssl=trusting) as websocket:
            websocket.send('{"model": "keywords"}')
            assert json.loads(websocket.recv())["type"] == "ready"
    result = run_asr("serve", "-m", keyword_model, "--certificate", key, "--key", key)
    assert result.returncode == 2 and "no certificate and its key" in result.stderr
    result = run_asr("serve", "-m", keyword_model, "--key", key)
    assert result.returncode == 2 and "both --certificate and --key" in result.stderr
