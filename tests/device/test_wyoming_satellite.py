"""A satellite of Home Assistant, whose wake words and transcripts come from `asr serve`.

The satellite is the program of the package wyoming-satellite, which wants an old wyoming and so an
environment of its own: it is found where its command is on the PATH. The test is what Home
Assistant is to it: it takes the sound that the satellite sends once it is awake, and has it
transcribed.
"""

import asyncio
import contextlib
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.satellite import RunSatellite

from tests.support.serving import PAUSE, SPEECH, WAIT_SECONDS, Serving, pcm, serving
from tests.support.tiny_models import SAMPLE_RATE, tones

SATELLITE = shutil.which("wyoming-satellite")
CHUNK = 1024  # samples of a message of the satellite
FORMAT = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}
WAKE_WORD = np.concatenate([PAUSE, tones("low", seconds=0.35)])
AFTER_WAKING = round((len(SPEECH) + 3 * SAMPLE_RATE) / CHUNK)  # messages
MICROPHONE = """
import os, pathlib, sys, time
wake_word, speech, spoken = map(pathlib.Path, sys.argv[1:])
sound = wake_word.read_bytes()
while True:
    if spoken.exists():
        sound, spoken = speech.read_bytes(), pathlib.Path("never")
    try:
        sys.stdout.buffer.write(sound[:2048].ljust(2048, bytes(1)))
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the satellite is gone
        os._exit(0)
    sound = sound[2048:]
    time.sleep(0.064)
"""


@pytest.fixture
def server(speech_model: Path, keyword_model: Path) -> Iterator[Serving]:
    with serving(speech_model, keyword_model) as started:
        yield started


@contextlib.contextmanager
def satellite(server: Serving, folder: Path) -> Iterator[int]:
    """Start a satellite that records the wake word, and SPEECH once the file `speaks` is there.

    It gives the port at which it waits for Home Assistant.
    """
    assert SATELLITE
    files = [folder / name for name in ("microphone.py", "wake_word.raw", "speech.raw", "speaks")]
    files[0].write_text(MICROPHONE)
    files[1].write_bytes(pcm(WAKE_WORD))
    files[2].write_bytes(pcm(SPEECH))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    microphone = shlex.join([sys.executable, *map(str, files)])
    python = Path(SATELLITE).resolve().parent / "python"  # the command itself is broken in 1.0.0
    command = [str(python), "-m", "wyoming_satellite", "--no-zeroconf"]
    command += ["--uri", f"tcp://127.0.0.1:{port}", "--mic-command", microphone]
    command += ["--wake-uri", f"tcp://127.0.0.1:{server.wyoming}", "--wake-word-name", "low"]
    with subprocess.Popen(command) as process:
        try:
            yield port
        finally:
            process.terminate()


async def connected(port: int) -> AsyncTcpClient:
    """A client of a program that may still have to start."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        client = AsyncTcpClient("127.0.0.1", port)
        try:
            await client.connect()
            return client
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def next_event(client: AsyncTcpClient, kind: str) -> Event:
    while True:
        event = await asyncio.wait_for(client.read_event(), 2 * WAIT_SECONDS)
        assert event is not None
        if event.type == kind:
            return event


async def silence(client: AsyncTcpClient) -> None:
    """Wait for the end of the wake word, which the satellite is awake before."""
    while any(AudioChunk.from_event(await next_event(client, "audio-chunk")).audio):
        pass


async def conversation(server: Serving, port: int, speaks: Path) -> str:
    """Do as Home Assistant does, and as who speaks to it; return the transcript."""
    home = await connected(port)
    await home.write_event(RunSatellite().event())
    assert (await next_event(home, "run-pipeline")).data["start_stage"] == "asr"
    await silence(home)
    speaks.touch()
    async with AsyncTcpClient("127.0.0.1", server.wyoming or 0) as recogniser:
        await recogniser.write_event(Transcribe().event())
        await recogniser.write_event(AudioStart(**FORMAT).event())
        for _ in range(AFTER_WAKING):
            await recogniser.write_event(await next_event(home, "audio-chunk"))
        await recogniser.write_event(AudioStop().event())
        transcript = await next_event(recogniser, "transcript")
    await home.write_event(transcript)
    await home.disconnect()
    return Transcript.from_event(transcript).text


@pytest.mark.skipif(not SATELLITE, reason="wyoming-satellite is not installed")
def test_a_satellite_wakes_and_its_sound_is_transcribed(server: Serving, tmp_path: Path) -> None:
    with satellite(server, tmp_path) as port:
        assert asyncio.run(conversation(server, port, tmp_path / "speaks")) == "ab c ba"
