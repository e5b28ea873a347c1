"""Piper: neural voices, one file each, through its own command."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from asr.training.voices.engine import Command, Manner

PROGRAM = "piper"
FOLDER = "PIPER_VOICES"  # the environment variable that names the folder of voices


class Piper:
    """Piper, with the voices <language>_<REGION>-<name>-<quality>.onnx in $PIPER_VOICES."""

    name = "piper"

    def voices(self, language: str) -> Sequence[str]:
        folder = os.environ.get(FOLDER)
        if not folder or shutil.which(PROGRAM) is None:
            return ()
        return tuple(sorted(str(path) for path in Path(folder).glob(f"{language}[_-]*.onnx")))

    def command(self, text: str, voice: str, manner: Manner, path: Path) -> Command:
        scale = f"{1.0 / manner.speed:.3f}"
        options = ("--model", voice, "--length_scale", scale, "--output_file", str(path))
        return Command((PROGRAM, *options), text)
