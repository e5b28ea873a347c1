"""Sound that holds none of a user's words: what a model of words learns to stay silent at.

`negatives.zip` has sentences of many speakers in 40 languages (with texts where they are English,
so that a sentence with one of the words can be left out) and noises; `make.py` made it.
"""

import zipfile
from pathlib import Path

import numpy as np
import soundfile

from asr.files import whole_file
from asr.training.config import SourceConfig

ARCHIVE = Path(__file__).with_name("negatives.zip")
MAKE_ROOM = "free some space and repeat"
SAMPLE_RATE = 16_000
STILLNESS = {"zeros": 0.0, "hiss": 1e-4}  # levels (RMS) of sound that is almost none
STILL_SECONDS = 20.0
SPEECH_SOURCE = "bundled speech"
SPEECH = "Common Voice"
NOISE = "noises of Blanket, Mycroft Precise and ESC-50"


def bundled_negatives(folder: Path, weight: float) -> tuple[SourceConfig, ...]:
    """Unpack the negatives into a folder, once, and return them as sources of a training.

    weight: of the speech (`SourceConfig.weight`). Raises WriteError.
    """
    manifest = folder / "speech" / "manifest.jsonl"
    if not manifest.exists():
        _unpack(folder)
    return (
        SourceConfig(
            path=str(manifest.parent),
            name=SPEECH_SOURCE,
            licence="CC0",
            attribution=SPEECH,
            speaker="{speaker}",
            validation=20.0,
            weight=weight,
        ),
        SourceConfig(
            path=str(folder / "noise"),
            name="bundled noise",
            licence="CC0, public domain, CC BY 3.0, CC BY 4.0",
            attribution=NOISE,
            kind="noise",
        ),
    )


def _unpack(folder: Path) -> None:
    """Write all files; the manifest, which says that all are there, last."""
    _write_stillness(folder / "noise")
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in sorted(archive.namelist(), key=lambda name: name.endswith(".jsonl")):
            with whole_file(folder / name, MAKE_ROOM) as part:
                part.write_bytes(archive.read(name))


def _write_stillness(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, level in STILLNESS.items():
        samples = level * rng.standard_normal(round(STILL_SECONDS * SAMPLE_RATE))
        with whole_file(folder / f"{name}.flac", MAKE_ROOM) as part:
            soundfile.write(part, samples, SAMPLE_RATE, format="FLAC")
