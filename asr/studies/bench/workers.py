"""Peers, each in a process of its own: one that crashes ends itself only, and its memory and its
processor time are its own.

Processor time is counted, not time that passes: on a machine that others use as well it is still
that of the peer.
"""

import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from asr.studies.bench import others
from asr.studies.bench.others import LENGTH, RATE, Peer
from features.errors import EarshotError

SECOND = np.zeros(RATE, np.float32)  # what a peer is started with
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class PeerError(EarshotError, RuntimeError):
    """A peer is installed and does not work here."""


class Answer(NamedTuple):
    """What a peer makes of sound, and seconds of processor time that it took for that."""

    answer: Any
    seconds: float


class Worker:
    """A peer in a process of its own, as a context that ends it.

    kind: the class of the peer; arguments: of its constructor. Raises PeerError.
    start_seconds: of processor time until it has recognised one second, importing included;
    memory: bytes at most so far, None where the system does not say.
    """

    def __init__(self, kind: type[Peer], *arguments: str) -> None:
        self._kind = kind
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        place = kind.__name__
        if kind.__module__ != others.__name__:
            place = f"{kind.__module__}:{place}"
        self._process = subprocess.Popen(
            [sys.executable, "-P", others.__file__, place, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": _import_path()},
        )
        self.memory: int | None = None
        self._total = 0.0
        try:
            self.ask(SECOND)
        except PeerError:
            self.close()
            raise
        self.start_seconds = self._total

    def ask(self, samples: np.ndarray) -> Answer:
        """What the peer makes of float32 (samples,) at RATE. Raises PeerError."""
        assert self._process.stdin and self._process.stdout
        line = b""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(LENGTH.pack(len(samples)))
            self._process.stdin.write(samples.astype("<f4").tobytes())
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"{self._kind.__name__} does not work here: {self._why()}")
        reply = json.loads(line)
        self.memory, self._total = reply["memory"], reply["total"]
        return Answer(reply["answer"], reply["seconds"])

    def _why(self) -> str:
        """What ended the process: a signal, or the last line that it wrote."""
        code = self._process.wait()
        if code < 0:
            return f"it ends with {signal.Signals(-code).name}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ends with exit code {code}"

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _import_path() -> str:
    """Where this process imports from, for another one."""
    return os.pathsep.join(path or str(Path.cwd()) for path in sys.path)


def missing(peer: type[Peer]) -> list[str]:
    """What pip has to install before a peer can be measured."""
    return [package for module, package in peer.packages.items() if not _installed(module)]


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def described(peer: Peer) -> dict[str, Any]:
    """What is known of a peer before it runs: version, licence, bytes of its model."""
    packages = peer.packages.values()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    size = sum(path.stat().st_size for path in peer.files() if path.is_file())
    return {"version": ", ".join(versions), "licence": peer.licence, "size": size}
