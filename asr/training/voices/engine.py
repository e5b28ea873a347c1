"""What a program that reads aloud gives: a new one is a module with an `Engine`, and a line in
`asr.training.voices`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Manner:
    """How a text is read. speed: 1 is the engine's own; pitch: from -1, low, to 1, high; where an
    engine has none to choose, it is left out."""

    speed: float = 1.0
    pitch: float = 0.0


@dataclass(frozen=True)
class Command:
    """A program that writes a WAV file, and what it is given on standard input."""

    arguments: tuple[str, ...]
    text: str = ""


class Engine(Protocol):
    """A program that reads texts aloud."""

    name: str

    def voices(self, language: str) -> Sequence[str]:
        """Its voices for a language (`en`, `de`, ...); none if it is not installed."""
        ...

    def command(self, text: str, voice: str, manner: Manner, path: Path) -> Command:
        """What reads a text and writes it to a WAV file."""
        ...
