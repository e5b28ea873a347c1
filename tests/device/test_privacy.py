"""What is said stays here: the commands open no socket and write no file."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile

from tests.support import tiny_models
from tests.support.commands import ASR, ROOT, environment
from tests.support.tiny_models import SAMPLE_RATE, tones

WATCHER = """
import os, sys

def watch(event, arguments):
    written = event == "open" and isinstance(arguments[0], (str, bytes)) and (
        arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    )
    changed = event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink")
    if written or changed or event.startswith(("socket.", "subprocess.", "os.posix_spawn")):
        os.write(2, f"SAW {event} {arguments}\\n".encode())

sys.addaudithook(watch)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "tmp").mkdir(parents=True)
    return folder


@pytest.fixture(params=["transcribe", "spot", "transcribe with processes"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    name, *processes = request.param.split(" with ")
    wav, model = tmp_path / "clip.wav", tmp_path / "model.onnx"
    if name == "transcribe":
        tiny_models.streaming_ctc(model)
    else:
        tiny_models.streaming_classify(model)
    soundfile.write(wav, tones("low", "high"), SAMPLE_RATE)
    several = [str(wav), "--jobs", "2"] if processes else []
    return [*ASR, name, str(wav), *several, "--model", str(model)]


def fresh(home: Path, **changes: str) -> dict[str, str]:
    """A new user's environment; Python's own cache of compiled modules is not what is tested."""
    folders = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "XDG_CACHE_HOME": str(home)}
    return environment(PYTHONDONTWRITEBYTECODE="1", **folders | changes)


def test_python_opens_no_socket_and_no_file_for_writing(
    home: Path, tmp_path: Path, command: list[str]
) -> None:
    watcher = tmp_path / "watcher"
    watcher.mkdir()
    (watcher / "sitecustomize.py").write_text(WATCHER)
    result = subprocess.run(
        command,
        env=fresh(home, PYTHONPATH=f"{watcher}:{ROOT}"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0 and result.stdout
    assert result.stderr == ""
    assert [path.name for path in home.rglob("*")] == ["tmp"]


def can_trace() -> bool:
    """Return whether strace is there and allowed, which it is not in every container."""
    if not shutil.which("strace"):
        return False
    return not subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.skipif(not can_trace(), reason="strace is not installed, or not allowed")
def test_the_kernel_sees_no_socket_and_no_file_for_writing(
    home: Path, tmp_path: Path, command: list[str]
) -> None:
    log = tmp_path / "calls"
    watched = "trace=%network,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2"
    result = subprocess.run(
        ["strace", "-ff", "-o", str(log), "-e", watched, *command],
        env=fresh(home),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0 and result.stdout, result.stderr
    logs = "".join(path.read_text() for path in tmp_path.glob("calls.*"))  # one for each process
    calls = [line for line in logs.splitlines() if not re.search(r"\+\+\+|---", line)]
    assert len(calls) > 100  # it did watch
    writing = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|creat\(|mkdir|rename")
    opening = re.compile(r"\bopen(at)?\(")
    suspicious = [line for line in calls if not opening.search(line) or writing.search(line)]
    assert [line for line in suspicious if '"/dev/null"' not in line] == []
    assert [path.name for path in home.rglob("*")] == ["tmp"]
