"""Speech without a microphone: texts read aloud by eSpeak NG and Flite, as a manifest to train on.

Synthetic voices do not replace people; beside recordings they teach words that few people said.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr.files import read_lines, whole_file
from asr.training.progress import tracked
from features.audio import read_audio
from features.errors import EarshotError

SAMPLE_RATE = 16_000
MAKE_ROOM = "free some space and repeat, or name another folder"
ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc")
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
FLITE_VOICES = ("awb", "rms", "slt", "kal16")
FLITE_SHARE = 0.4
SPEED = (0.8, 1.25)  # of the engine's own
ESPEAK_WORDS_PER_MINUTE = 165
ESPEAK_PITCH = (30, 70)


class SynthesisError(EarshotError, RuntimeError):
    """No voice to read with, or nothing to read."""


@dataclass(frozen=True)
class Reading:
    """One text in one voice; `command` writes it as a WAV file to the path appended to it."""

    text: str
    voice: str
    command: tuple[str, ...]


def synthesise(texts: Path, out: Path, takes: int = 1, seed: int = 0) -> Path:
    """Read every line of `texts` aloud, `takes` times in voices drawn by `seed`.

    Writes `<out>/<number>.flac` and, last, `<out>/manifest.jsonl`, which is returned. What is there
    already is not read again. Raises SynthesisError or WriteError.
    """
    for engine in ("espeak-ng", "flite"):
        if shutil.which(engine) is None:
            raise SynthesisError(f"{engine} is not installed; on Debian: apt install {engine}")
    lines = [" ".join(line.split()) for line in read_lines(texts, "texts, one a line")]
    readings = draw_readings([line for line in lines if line.strip("- ")] * takes, seed)
    if not readings:
        raise SynthesisError(f"{texts}: has no text in it; write one text a line")
    paths = [out / f"{number:05d}.flac" for number in range(len(readings))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        durations = pool.map(read_aloud, readings, paths)
        shown = tracked(durations, "reading aloud", len(readings))
        entries = [
            {
                "audio_filepath": path.name,
                "duration": duration,
                "text": reading.text.lower(),
                "speaker": reading.voice,
            }
            for path, reading, duration in zip(paths, readings, shown, strict=True)
        ]
    manifest = out / "manifest.jsonl"
    with whole_file(manifest, MAKE_ROOM) as part:
        part.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return manifest


def draw_readings(texts: Sequence[str], seed: int) -> list[Reading]:
    """A voice, a speed and a pitch for every text, always the same for a seed."""
    rng = np.random.default_rng(seed)
    return [_draw_reading(text, rng) for text in texts]


def _draw_reading(text: str, rng: np.random.Generator) -> Reading:
    speed = rng.uniform(*SPEED)
    # Engines take a lone small "a" for the article; capital letters are always spelled. What
    # begins with a dash would be an option of the engine.
    spoken = " ".join(word.upper() if len(word) == 1 else word for word in text.split())
    spoken = spoken.lstrip("-")
    if rng.random() < FLITE_SHARE:
        voice = str(rng.choice(FLITE_VOICES))
        stretch = f"duration_stretch={1.0 / speed:.3f}"
        command = ("flite", "-voice", voice, "--setf", stretch, "-t", spoken, "-o")
        return Reading(text, f"flite-{voice}", command)
    voice = f"{rng.choice(ACCENTS)}+{rng.choice(VARIANTS)}"
    rate, pitch = round(ESPEAK_WORDS_PER_MINUTE * speed), rng.integers(*ESPEAK_PITCH)
    command = ("espeak-ng", "-v", voice, "-s", str(rate), "-p", str(pitch), spoken, "-w")
    return Reading(text, f"espeak-{voice}", command)


def read_aloud(reading: Reading, path: Path) -> float:
    """Write the reading to `path` as FLAC unless it is there; return its duration in seconds."""
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            spoken = Path(folder, "spoken.wav")
            result = subprocess.run(
                [*reading.command, str(spoken)], capture_output=True, text=True, check=False
            )
            if result.returncode or not spoken.exists():
                raise SynthesisError(
                    f"{reading.command[0]} could not read '{reading.text}' "
                    f"({result.stderr.strip() or 'no sound'}); check the text and its installation"
                )
            with whole_file(path, MAKE_ROOM) as part:
                soundfile.write(part, read_audio(spoken, SAMPLE_RATE), SAMPLE_RATE, format="FLAC")
    return soundfile.info(path).duration
