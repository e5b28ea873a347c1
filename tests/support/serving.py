"""Start `asr serve` as a user does, and speak to it."""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.audio import from_int16, to_int16
from tests.support.commands import ASR, environment
from tests.support.tiny_models import SAMPLE_RATE, tones

WAIT_SECONDS = 60
PAUSE = np.zeros(SAMPLE_RATE, np.float32)
SPEECH = from_int16(  # "ab c", "ba"
    to_int16(np.concatenate([tones("a", "b", " ", "c"), PAUSE, tones("b", "a")]))
)
COMMANDS = from_int16(to_int16(tones("low", "_unknown_", "high", seconds=0.35, pause=0.45)))


@dataclass
class Serving:
    """A server that runs: its ports and its process."""

    process: subprocess.Popen[str]
    http: int
    wyoming: int | None
    warnings: list[str]  # while it started

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.http}"


@contextlib.contextmanager
def serving(*models: Path, options: tuple[object, ...] = (), **changes: str) -> Iterator[Serving]:
    """Serve models on free ports until the block ends."""
    named = [argument for model in models for argument in ("--model", str(model))]
    command = [*ASR, "serve", "--port", "0", "--wyoming", "0", *named, *map(str, options)]
    process = subprocess.Popen(
        command, env=environment(**changes), stderr=subprocess.PIPE, text=True
    )
    try:
        yield _started(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(WAIT_SECONDS)
        if process.stderr:
            process.stderr.close()


def _started(process: subprocess.Popen[str]) -> Serving:
    assert process.stderr is not None
    lines: list[str] = []
    while not (lines and lines[-1].startswith("Wyoming at port ")):
        lines.append(process.stderr.readline().strip())
        assert lines[-1], lines
    http = re.search(r":(\d+); ", "\n".join(lines))
    assert http, lines
    warnings = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
    return Serving(process, int(http[1]), int(lines[-1].rsplit(" ", 1)[1]), warnings)


def pcm(audio: np.ndarray) -> bytes:
    """16-bit little-endian."""
    return to_int16(audio).astype("<i2").tobytes()


def pieces(audio: np.ndarray, length: int = 3200) -> list[bytes]:
    """The sound as messages of 16-bit samples."""
    return [pcm(audio[start : start + length]) for start in range(0, len(audio), length)]
