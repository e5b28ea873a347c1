"""eSpeak NG: formant synthesis, in over a hundred languages; it also reads phonemes."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from asr.training.voices.engine import Command, Manner

PROGRAM = "espeak-ng"
ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc")
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")
WORDS_PER_MINUTE = 165
PITCH, PITCH_RANGE = 50, 30


class Espeak:
    """eSpeak NG; a text in double brackets is read as phonemes, by its own mnemonics."""

    name = "espeak"

    def voices(self, language: str) -> Sequence[str]:
        if shutil.which(PROGRAM) is None:
            return ()
        accents = ACCENTS if language == "en" else (language,)
        if language != "en" and not _speaks(language):
            return ()
        return tuple(f"{accent}+{variant}" for accent in accents for variant in VARIANTS)

    def command(self, text: str, voice: str, manner: Manner, path: Path) -> Command:
        rate = round(WORDS_PER_MINUTE * manner.speed)
        pitch = round(PITCH + PITCH_RANGE * manner.pitch)
        options = ("-v", voice, "-s", str(rate), "-p", str(pitch), "-w", str(path), "--stdin")
        return Command((PROGRAM, *options), text)


def _speaks(language: str) -> bool:
    listed = subprocess.run([PROGRAM, "--voices"], capture_output=True, text=True, check=False)
    names = {line.split()[1] for line in listed.stdout.splitlines()[1:]}
    return language in names


def phonemes(text: str, language: str) -> list[list[str]]:
    """The phonemes of each word of a text, in the mnemonics of eSpeak NG, with their stress."""
    command = [PROGRAM, "-q", "-x", "--sep=_", "-v", language, "--stdin"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    words = re.split(r"\s+", result.stdout.strip())
    return [[phoneme for phoneme in word.split("_") if phoneme] for word in words if word]


def spoken(words: Sequence[Sequence[str]]) -> str:
    """Phonemes as a text that eSpeak NG reads."""
    return f"[[{' '.join(''.join(word) for word in words)}]]"
