"""Synthetic voices: the programs that read aloud and are found on this machine.

A new one is a module in this package with an `Engine`, and a line in ENGINES.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from asr.files import whole_file
from asr.training.voices.engine import Engine, Manner
from asr.training.voices.espeak import Espeak
from asr.training.voices.festival import Festival
from asr.training.voices.flite import Flite
from asr.training.voices.piper import Piper
from features.audio import AudioError, read_audio
from features.duration import stated_duration
from features.errors import EarshotError

ENGINES: tuple[Engine, ...] = (Espeak(), Flite(), Festival(), Piper())
SAMPLE_RATE = 16_000
SPEED = (0.75, 1.3)
PAUSED = 0.25  # share of the readings with a pause between two words
MAKE_ROOM = "free some space and repeat, or name another folder"


class VoiceError(EarshotError, RuntimeError):
    """There is no voice to read with, or it cannot read."""


@dataclass(frozen=True)
class Voice:
    """A voice of an engine."""

    engine: Engine
    name: str

    @property
    def speaker(self) -> str:
        """What it is called among speakers."""
        return f"{self.engine.name}-{Path(self.name).stem}"


def installed_voices(language: str) -> list[Voice]:
    """All voices for a language. Raises VoiceError if there is none."""
    voices = [Voice(engine, name) for engine in ENGINES for name in engine.voices(language)]
    if not voices:
        known = ", ".join(engine.name for engine in ENGINES)
        raise VoiceError(
            f"no synthetic voice for '{language}' is installed (looked for {known}); on Debian: "
            "apt install espeak-ng flite"
        )
    return voices


@dataclass(frozen=True)
class Reading:
    """A text in a voice."""

    text: str
    voice: Voice
    manner: Manner


def draw_readings(
    texts: Sequence[str], voices: Sequence[Voice], count: int, rng: np.random.Generator
) -> Iterator[Reading]:
    """So many readings of texts in turn: engines equally often, voices at random within each, at
    any speed and pitch, some with a pause between two words."""
    engines = list(dict.fromkeys(voice.engine.name for voice in voices))
    for number in range(count):
        text = texts[number % len(texts)]
        engine = engines[rng.integers(len(engines))]
        own = [voice for voice in voices if voice.engine.name == engine]
        manner = Manner(float(rng.uniform(*SPEED)), float(rng.uniform(-1.0, 1.0)))
        words = text.split()
        if len(words) > 1 and not text.startswith("[[") and rng.random() < PAUSED:
            place = 1 + rng.integers(len(words) - 1)
            text = f"{' '.join(words[:place])}, {' '.join(words[place:])}"
        yield Reading(text, own[rng.integers(len(own))], manner)


def read_all(
    readings: Sequence[Reading], paths: Sequence[Path], *, resume: bool = False
) -> list[float]:
    """Write readings as FLAC files at SAMPLE_RATE, in threads; return their lengths in seconds.

    resume: files that are there are those of an interrupted run with the same readings, and kept.
    A voice that cannot read a text gives 0 and no file. Raises VoiceError if none could be read,
    WriteError.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seconds = list(pool.map(partial(_read, resume=resume), readings, paths))
    if readings and not any(seconds):
        text = readings[0].text
        raise VoiceError(f"no voice could read '{text}'; check the text and the installation")
    return seconds


def _read(reading: Reading, path: Path, resume: bool) -> float:
    if resume and (seconds := stated_duration(path)):
        return seconds
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder, "spoken.wav")
        voice = reading.voice
        command = voice.engine.command(reading.text, voice.name, reading.manner, spoken)
        result = subprocess.run(
            command.arguments, input=command.text, capture_output=True, text=True, check=False
        )
        if result.returncode or not spoken.exists():
            return 0.0
        try:
            samples = read_audio(spoken, SAMPLE_RATE)
        except AudioError:
            return 0.0
    with whole_file(path, MAKE_ROOM) as part:
        soundfile.write(part, samples, SAMPLE_RATE, format="FLAC")
    return len(samples) / SAMPLE_RATE
