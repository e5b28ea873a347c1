"""What clients do wrong harms nobody but them: other streams go on, lose nothing, and the server
stays up."""

import contextlib
import io
import json
import os
import random
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.commands import run_asr
from tests.support.serving import SPEECH, WAIT_SECONDS, Serving, pcm, pieces, serving
from tests.support.tiny_models import SAMPLE_RATE

FRAMES = int(os.environ.get("EARSHOT_FUZZ", "300"))  # of each protocol
PATIENCE = 600  # seconds
HOUR = 3600 * 2 * SAMPLE_RATE  # bytes of 16-bit sound


@pytest.fixture(scope="module")
def server(speech_model: Path, keyword_model: Path) -> Iterator[Serving]:
    patient = ("--patience", PATIENCE)  # a bystander may wait for long on a machine that is busy
    with serving(speech_model, keyword_model, options=patient) as started:
        yield started


@pytest.fixture
def bystander(server: Serving) -> Iterator[Callable[[], list[str]]]:
    """A client that streams slowly while others misbehave; returns what it got in the end."""
    with connect(f"{server.ws}/v1/stream", ping_interval=None) as websocket:
        websocket.send('{"partials": false}')
        rest = iter(pieces(SPEECH, 1600))
        websocket.send(next(rest))

        def finish() -> list[str]:
            for piece in rest:
                websocket.send(piece)
            websocket.send('{"type": "finish"}')
            said = [json.loads(message) for message in websocket]
            return [fields["text"] for fields in said if fields["type"] == "utterance"]

        yield finish


def metrics(server: Serving) -> bytes:
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        return answer.read()


def damaged(texts: list[str], chance: random.Random) -> str | bytes:
    """A message that is nearly one of `texts`, or none at all."""
    text = bytearray(chance.choice(texts).encode())
    for _ in range(chance.randint(0, 4)):
        place = chance.randrange(len(text))
        match chance.randint(0, 3):
            case 0:
                text[place] = chance.randrange(32, 127)
            case 1:
                del text[place:]
            case 2:
                text[place:place] = b'"\\u0000[{' * chance.randint(1, 3)
            case 3:
                text[place:place] = str(10 ** chance.randint(1, 400)).encode()
        text = text or bytearray(b" ")
    if chance.random() < 0.3:
        return chance.randbytes(chance.randint(0, 2000))
    return text.decode("utf-8", "replace")


def test_malformed_websocket_messages_harm_nobody(
    server: Serving, bystander: Callable[[], list[str]]
) -> None:
    chance = random.Random(1)
    texts = [
        '{"config": {"sample_rate": 16000, "words": true, "max_alternatives": 2}}',
        '{"eof": 1}',
        '{"reset": 1}',
        '{"model": "speech", "sample_rate": 8000, "keywords": [{"text": "ab", "threshold": 0.5}]}',
        '{"n_best": 3, "words": ["ab"], "hotwords": ["c"], "format": "f32le", "channels": 2}',
        '{"type": "finish"}',
    ]
    sent = 0
    while sent < FRAMES:
        path = chance.choice(["/v1/stream", "/vosk"])
        with connect(server.ws + path, close_timeout=1) as websocket:
            try:
                for _ in range(chance.randint(1, 12)):
                    websocket.send(damaged(texts, chance))
                    sent += 1
            except ConnectionClosed:
                continue
    assert bystander() == ["ab c", "ba"]


@pytest.mark.parametrize("protocol", ["http", "wyoming"])
def test_malformed_bytes_harm_nobody(
    server: Serving, bystander: Callable[[], list[str]], protocol: str
) -> None:
    chance = random.Random(2)
    texts = {
        "http": [
            "GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
            "multipart/form-data; boundary=x\r\nContent-Length: 90\r\n\r\n--x\r\n"
            'Content-Disposition: form-data; name="file"; filename="../../a"\r\n\r\nRIFF\r\n--x--',
            "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x02{}",
        ],
        "wyoming": [
            '{"type": "describe"}\n',
            '{"type": "detect", "data": {"names": ["low"]}}\n{"type": "audio-stop"}\n',
            '{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, '
            '"payload_length": 4}\n1234',
            '{"type": "transcribe", "data_length": 2}\n{}',
        ],
    }[protocol]
    port = server.http if protocol == "http" else server.wyoming
    for _ in range(FRAMES):
        with socket.create_connection(("127.0.0.1", port)) as client:
            message = damaged(texts, chance)
            client.sendall(
                message.encode("latin-1", "replace") if isinstance(message, str) else message
            )
            if chance.random() < 0.2:
                client.settimeout(0.05)
                with contextlib.suppress(OSError):
                    client.recv(1000)
    assert bystander() == ["ab c", "ba"]
    assert server.process.poll() is None


def test_clients_that_vanish_leave_no_stream_open(
    server: Serving, bystander: Callable[[], list[str]]
) -> None:
    for _ in range(5):
        with connect(f"{server.ws}/v1/stream") as websocket:
            websocket.send("{}")
            websocket.send(pieces(SPEECH)[0])
            websocket.socket.shutdown(socket.SHUT_RDWR)
    assert bystander() == ["ab c", "ba"]
    assert b'earshot_streams{model="speech",protocol="earshot"} 0\n' in metrics(server)


@pytest.mark.parametrize(
    ("path", "messages", "reason"),
    [
        ("/v1/stream", ['{"sample_rate": 5}'], "a sample rate of 5 Hz"),
        ("/v1/stream", ["{}", b"\0"], "1 bytes are no whole number of samples"),
        ("/v1/stream", ["{}", bytes(320), "{}"], "after the first message comes sound"),
        ("/v1/stream", [bytes(320)], "the first message must be JSON"),
        ("/vosk", [bytes(321)], "321 bytes are no whole number of samples"),
        ("/vosk", [bytes(320), '{"config": {"words": true}}'], "a second config"),
    ],
)
def test_a_client_that_breaks_the_protocol_is_answered_and_harms_nobody(
    server: Serving,
    bystander: Callable[[], list[str]],
    path: str,
    messages: list[str | bytes],
    reason: str,
) -> None:
    with connect(server.ws + path) as websocket:
        for message in messages:
            websocket.send(message)
        said = "".join(map(str, websocket_messages(websocket)))
    assert reason in said
    assert bystander() == ["ab c", "ba"]


def websocket_messages(websocket: ClientConnection) -> Iterator[str | bytes]:
    """What comes until the server closes, and the reason that it gives."""
    try:
        while True:
            yield websocket.recv(WAIT_SECONDS)
    except ConnectionClosed as closed:
        yield closed.rcvd.reason if closed.rcvd else ""


def test_clients_of_all_protocols_may_vanish_in_the_middle(
    server: Serving, bystander: Callable[[], list[str]]
) -> None:
    upload = (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF'
    )
    chunk = (
        b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, '
        b'"payload_length": 640}\n'
    )
    for port, message in ((server.http, upload), (server.wyoming, chunk + bytes(640) + chunk)):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(message)
    with connect(f"{server.ws}/vosk") as websocket:
        websocket.send(pieces(SPEECH)[0])
        websocket.recv(WAIT_SECONDS)
        websocket.socket.shutdown(socket.SHUT_RDWR)
    assert bystander() == ["ab c", "ba"]
    deadline = time.monotonic() + WAIT_SECONDS
    while re.search(rb"^earshot_streams{.*} [1-9]", metrics(server), re.M):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_an_hour_in_a_burst_does_not_stop_others(
    server: Serving, bystander: Callable[[], list[str]]
) -> None:
    stop = threading.Event()

    def burst() -> None:
        with connect(f"{server.ws}/vosk") as websocket:
            try:
                while not stop.is_set():
                    websocket.send(bytes(2**19))
            except ConnectionClosed:
                return

    thread = threading.Thread(target=burst)
    thread.start()
    try:
        assert bystander() == ["ab c", "ba"]
    finally:
        stop.set()
        thread.join(60)


@pytest.mark.slow
def test_a_client_that_does_not_read_is_cut_off(speech_model: Path) -> None:
    with serving(speech_model, options=("--patience", 1)) as server:
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(("127.0.0.1", server.http))
        with connect(f"{server.ws}/v1/stream", sock=small, max_queue=1) as websocket:
            websocket.send("{}")
            frame = bytes.fromhex("8282000000000000")  # a sample, masked with zeros
            with contextlib.suppress(OSError):
                small.sendall(50_000 * frame)  # each is answered, and no answer is read
            deadline = time.monotonic() + PATIENCE
            while b'refused_total{status="408"}' not in metrics(server):
                assert time.monotonic() < deadline
                time.sleep(0.1)


def over_websocket(path: str, first: str, last: str) -> Callable[[Serving, list[bytes]], str]:
    """What sends sound over a protocol and returns the text that comes back."""

    def send(server: Serving, messages: list[bytes]) -> str:
        with connect(server.ws + path, ping_interval=None, max_queue=None) as websocket:
            websocket.send(first)
            for message in messages:
                websocket.send(message)
            websocket.send(last)
            return "".join(map(str, websocket))

    return send


def over_wyoming(server: Serving, messages: list[bytes]) -> str:
    header = {"type": "audio-chunk", "data": {"rate": SAMPLE_RATE, "width": 2, "channels": 1}}
    with socket.create_connection(("127.0.0.1", server.wyoming or 0)) as client:
        for message in messages:
            line = json.dumps(header | {"payload_length": len(message)})
            client.sendall(line.encode() + b"\n" + message)
        client.sendall(b'{"type": "audio-stop"}\n')
        client.settimeout(PATIENCE)
        received = b""
        while b"transcript-stop" not in received:
            received += client.recv(65536)
    return received.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "send",
    [
        pytest.param(over_websocket("/v1/stream", "{}", '{"type": "finish"}'), id="earshot"),
        pytest.param(
            over_websocket("/vosk", '{"config": {"sample_rate": 16000}}', '{"eof": 1}'), id="vosk"
        ),
        pytest.param(over_wyoming, id="wyoming"),
    ],
)
def test_an_hour_of_silence_at_once_changes_nothing(
    server: Serving,
    bystander: Callable[[], list[str]],
    send: Callable[[Serving, list[bytes]], str],
) -> None:
    before = memory(server)
    silence = [bytes(2**18)] * (HOUR // 2**18)
    others: list[list[str]] = []
    thread = threading.Thread(target=lambda: others.append(bystander()))
    thread.start()
    text = send(server, [*silence, *pieces(SPEECH)])
    thread.join(PATIENCE)
    assert others == [["ab c", "ba"]]
    assert text.index("ab c") < text.index("ba")
    assert memory(server) - before < HOUR // 2, "an hour of sound stayed in memory"


def memory(server: Serving) -> int:
    """What the server holds in bytes; 0 where no file says."""
    status = Path(f"/proc/{server.process.pid}/status")
    text = status.read_text() if status.exists() else "VmRSS: 0"
    return 1024 * int(re.findall(r"VmRSS:\s*(\d+)", text)[0])


def test_an_upload_in_the_middle_of_sigterm_is_answered(speech_model: Path) -> None:
    """One whose sound was not all there yet is asked to come again."""
    recording = io.BytesIO()
    soundfile.write(recording, SPEECH, SAMPLE_RATE, format="WAV")
    field = b'Content-Disposition: form-data; name="file"; filename="a.wav"'
    body = b"--x\r\n%s\r\n\r\n%s" % (field, recording.getvalue())
    end = b"\r\n--x--\r\n"
    head = (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n"
        b"Content-Length: %d\r\n\r\n" % (len(body) + len(end))
    )
    with (
        serving(speech_model) as server,
        connect(f"{server.ws}/v1/stream") as other,
        socket.create_connection(("127.0.0.1", server.http)) as client,
    ):
        other.send('{"partials": false}')
        other.send(pcm(SPEECH))
        assert json.loads(other.recv(WAIT_SECONDS))["type"] == "ready"
        client.sendall(head + body)
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + WAIT_SECONDS
        while b"earshot_draining 1" not in metrics(server):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.sendall(end)
        client.settimeout(WAIT_SECONDS)
        assert client.recv(4096).startswith(b"HTTP/1.1 503 ")
        other.send('{"type": "finish"}')
        texts = [json.loads(message).get("text") for message in other]
        assert [text for text in texts if text] == ["ab c", "ba"]
        assert server.process.wait(WAIT_SECONDS) == 0


def test_a_port_in_use_is_said_for_wyoming_too(keyword_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_asr("serve", "-m", keyword_model, "--port", 0, "--wyoming", port)
    assert result.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in result.stderr
