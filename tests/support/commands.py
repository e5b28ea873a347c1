"""Run the project's programs as a user does: in a process of their own."""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASR = [sys.executable, "-c", "from asr.cli import main; main()"]
DEMO = [sys.executable, str(ROOT / "demo_mic.py")]
TIMEOUT = 600.0  # seconds
TRAINS = {  # commands that import torch and what else training needs
    "adapt",
    "bench",
    "calibrate",
    "compare",
    "cut",
    "evaluate",
    "explain",
    "export",
    "frontier",
    "new",
    "report",
    "shard",
    "train",
    "tune",
}
AT_START = ("PYTHON", "LC_", "LANG", "OMP_", "ORT_", "LD_")  # read once, as a process starts


def environment(**changes: str) -> dict[str, str]:
    """The environment with the project importable, terminal width fixed, and `changes`."""
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"} | changes


class _Template:
    """The process that forks commands, those that train or the others: see template.py."""

    def __init__(self, trains: bool) -> None:
        self._lock = threading.Lock()
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.settimeout(TIMEOUT)
        with theirs:
            program = [sys.executable, "-m", "tests.support.template", str(theirs.fileno())]
            program += ["train"] * trains
            self._process = subprocess.Popen(
                program,
                env=environment(),
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self._end)

    def run(
        self, arguments: list[str], changed: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run `asr ARGUMENTS` in an environment to its end."""
        asked = {"arguments": arguments, "environment": changed, "folder": str(Path.cwd())}
        with (
            self._lock,
            tempfile.TemporaryFile("w+", encoding="utf-8") as output,
            tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        ):
            files = [output.fileno(), errors.fileno()]
            socket.send_fds(self._requests, [json.dumps(asked).encode()], files)
            process = int(self._requests.recv(32))
            try:
                status = int(self._requests.recv(32))
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise
            for file in (output, errors):
                file.seek(0)
            return subprocess.CompletedProcess(
                ["asr", *arguments], status, output.read(), errors.read()
            )

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()


_template = functools.cache(_Template)


def run_asr(*arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `asr ARGUMENTS` to its end, forked from a process that has imported what it needs."""
    words = [*map(str, arguments)]
    if sys.platform == "linux" and not any(name.startswith(AT_START) for name in changes):
        return _template(bool(TRAINS.intersection(words[:1]))).run(words, environment(**changes))
    return _run([*ASR, *words], changes)


def run_python(code: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh interpreter."""
    return _run([sys.executable, "-c", code], changes)


def _run(command: list[str], changes: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment(**changes), capture_output=True, text=True, timeout=TIMEOUT
    )


def hide_packages(folder: Path, *names: str) -> dict[str, str]:
    """Return the environment in which importing `names` fails as if they were not installed."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(names)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""
    )
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
