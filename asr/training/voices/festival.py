"""Festival: the voices that are installed beside it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from asr.training.voices.engine import Command, Manner

PROGRAM = "text2wave"
FOLDERS = (Path("/usr/share/festival/voices"), Path("/usr/local/share/festival/voices"))
LANGUAGES = {"en": ("english", "us"), "es": ("spanish",), "it": ("italian",), "fi": ("finnish",)}


class Festival:
    """Festival, through its command text2wave."""

    name = "festival"

    def voices(self, language: str) -> Sequence[str]:
        if shutil.which(PROGRAM) is None:
            return ()
        folders = (root / name for root in FOLDERS for name in LANGUAGES.get(language, (language,)))
        return tuple(
            sorted(
                voice.name for folder in folders if folder.is_dir() for voice in folder.iterdir()
            )
        )

    def command(self, text: str, voice: str, manner: Manner, path: Path) -> Command:
        setting = (
            f"(begin (voice_{voice}) (Parameter.set 'Duration_Stretch {1.0 / manner.speed:.3f}))"
        )
        return Command((PROGRAM, "-eval", setting, "-o", str(path)), text)
