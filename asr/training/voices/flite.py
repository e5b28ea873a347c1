"""Flite: a few voices of English, diphones and clustered units."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from asr.training.voices.engine import Command, Manner

PROGRAM = "flite"
VOICES = ("awb", "rms", "slt", "kal", "kal16")
PITCH_FACTOR = 1.3  # of the mean pitch, at the highest
MEAN_PITCH = 120.0  # Hz


class Flite:
    """Flite; of English only."""

    name = "flite"

    def voices(self, language: str) -> Sequence[str]:
        return VOICES if language == "en" and shutil.which(PROGRAM) else ()

    def command(self, text: str, voice: str, manner: Manner, path: Path) -> Command:
        stretch = f"duration_stretch={1.0 / manner.speed:.3f}"
        pitch = f"int_f0_target_mean={MEAN_PITCH * PITCH_FACTOR**manner.pitch:.1f}"
        options = ("-voice", voice, "--setf", stretch, "--setf", pitch)
        return Command((PROGRAM, *options, "-t", text.lstrip("-"), "-o", str(path)))
