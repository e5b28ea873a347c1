"""Several processes at one port: streams are shared out, counted together, and one that dies is
replaced while the streams of the other go on."""

import contextlib
import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.commands import run_asr
from tests.support.serving import SPEECH, WAIT_SECONDS, Serving, pieces, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
STREAMS = 12  # that all of them come to one process has a probability of 1 in 2048


def processes(server: Serving) -> list[int]:
    """The processes that serve."""
    first = server.process.pid
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    serves = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return [int(pid) for pid in serves]


def count(server: Serving, name: str) -> int:
    """The sum of a metric over its labels."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=WAIT_SECONDS) as answer:
        found = re.findall(rf"^{name}{{.*}} (\d+)$", answer.read().decode(), re.M)
    return sum(map(int, found))


def wait_for_count(server: Serving, name: str, expected: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while count(server, name) != expected:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def finished(websocket: ClientConnection) -> list[str]:
    for piece in pieces(SPEECH)[1:]:
        websocket.send(piece)
    websocket.send('{"type": "finish"}')
    said = [json.loads(message) for message in websocket]
    assert said[-1]["type"] == "finished"
    return [fields["text"] for fields in said if fields["type"] == "utterance"]


def begun(server: Serving, stack: contextlib.ExitStack) -> ClientConnection:
    address = f"{server.ws}/v1/stream"
    websocket = stack.enter_context(connect(address, open_timeout=WAIT_SECONDS))
    websocket.send('{"partials": false}')
    websocket.send(pieces(SPEECH)[0])
    assert json.loads(websocket.recv(WAIT_SECONDS))["type"] == "ready"
    return websocket


@pytest.mark.slow
def test_processes_share_the_port_and_one_that_dies_is_replaced(speech_model: Path) -> None:
    options = ("--workers", 2)
    with serving(speech_model, options=options) as server, contextlib.ExitStack() as stack:
        first, second = processes(server)
        streams = [begun(server, stack) for _ in range(STREAMS)]
        wait_for_count(server, "earshot_streams", STREAMS)
        os.kill(first, signal.SIGKILL)
        lost = 0
        for websocket in streams:
            try:
                assert finished(websocket) == ["ab c", "ba"]
            except ConnectionClosed:
                lost += 1
        assert 0 < lost < STREAMS
        assert server.process.stderr is not None
        line = server.process.stderr.readline()
        assert line == "warning: a process that served ended with -9; another takes its place\n"
        deadline = time.monotonic() + WAIT_SECONDS
        while len(processes(server)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert second in processes(server)
        assert finished(begun(server, stack)) == ["ab c", "ba"]
        wait_for_count(server, "earshot_streams", 0)
        wait_for_count(server, "earshot_streams_total", STREAMS + 1)
        # Nobody else can take the port unnoticed, although it is shared.
        again = run_asr("serve", "-m", speech_model, "--port", server.http, "--workers", 2)
        assert again.returncode == 2 and "choose another port" in again.stderr
        last = begun(server, stack)
        server.process.send_signal(signal.SIGTERM)
        assert finished(last) == ["ab c", "ba"]
        assert server.process.wait(WAIT_SECONDS) == 0


def test_a_server_that_cannot_start_says_why(speech_model: Path) -> None:
    result = run_asr("serve", "-m", speech_model, "--workers", 2, "--wyoming", "192.0.2.1:0")
    assert result.returncode == 2 and "cannot listen on 192.0.2.1" in result.stderr
