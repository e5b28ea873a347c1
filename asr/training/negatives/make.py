"""Make `negatives.zip`, the sound that comes with the package and holds none of a user's words.

    python -m asr.training.negatives.make RECORDINGS NOISE ESC50_LICENCE

RECORDINGS: a folder with Common Voice as common_voice/validated.jsonl (English, texts and speakers
known), other_languages/clips.jsonl (40 languages), and ESC-50 as noise/noise.jsonl; NOISE: a folder
of long noises; ESC50_LICENCE: the LICENSE file of ESC-50, from which the clips under CC0 are taken.
Everything is drawn at one seed and written as Ogg Opus of about 16 kbit/s.
"""

import io
import json
import re
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.files import read_lines, whole_file
from features.audio import read_audio

SAMPLE_RATE = 16_000
OUT = Path(__file__).with_name("negatives.zip")
ENGLISH_CLIPS, CLIPS_PER_SPEAKER, CLIPS_PER_LANGUAGE = 500, 6, 4
NOISE_CLIPS, NOISE_SECONDS, MAX_SECONDS = 100, 20.0, 8.0
COMPRESSION = 0.96  # libsndfile's scale from 256 to 6 kbit/s
CC0_CLIP = re.compile(r"^- \[(.*?)\.ogg\]: .*\[CC0\]$")


def main(recordings: Path, noise: Path, licence: Path) -> None:
    """Write OUT."""
    rng = np.random.default_rng(0)
    entries: list[dict[str, Any]] = []
    with whole_file(OUT) as part, zipfile.ZipFile(part, "w") as archive:
        for number, entry in enumerate(_speech(recordings, rng)):
            name = f"speech/{number:03d}.opus"
            _write(archive, name, read_audio(entry.pop("path"), SAMPLE_RATE), MAX_SECONDS)
            entries.append({"audio_filepath": Path(name).name, **entry})
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        archive.writestr("speech/manifest.jsonl", "".join(lines))
        for path in _noises(recordings, noise, licence, rng):
            samples = read_audio(path, SAMPLE_RATE)
            _write(archive, f"noise/{path.stem}.opus", samples, NOISE_SECONDS)
    print(f"{OUT}: {OUT.stat().st_size / 1e6:.1f} MB, {len(entries)} clips of speech")


def _speech(recordings: Path, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Sentences of many English speakers, and some in each other language."""
    english = _grouped(recordings / "common_voice/validated.jsonl", "speaker")
    clips = [c for own in english.values() for c in _some(own, CLIPS_PER_SPEAKER, rng)]
    for clip in _some(clips, ENGLISH_CLIPS, rng):
        yield {"path": clip["path"], "text": clip["text"], "speaker": clip["speaker"]}
    for language, own in _grouped(recordings / "other_languages/clips.jsonl", "language").items():
        for clip in _some(own, CLIPS_PER_LANGUAGE, rng):
            yield {"path": clip["path"], "text": "", "speaker": language}


def _grouped(manifest: Path, field: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in read_lines(manifest):
        entry = json.loads(line)
        groups[entry[field]].append(entry | {"path": manifest.parent / entry["audio_filepath"]})
    return groups


def _some(items: list[Any], count: int, rng: np.random.Generator) -> list[Any]:
    chosen = rng.permutation(len(items))[:count]
    return [items[k] for k in sorted(chosen)]


def _noises(
    recordings: Path, noise: Path, licence: Path, rng: np.random.Generator
) -> Iterator[Path]:
    """Long noises, and short ones of ESC-50 that are in the public domain."""
    yield from sorted(noise.glob("*.flac"))
    free = {match[1] for line in read_lines(licence) if (match := CC0_CLIP.match(line))}
    clips = sorted((recordings / "noise").glob("esc-50-*.wav"))
    named = [clip for clip in clips if clip.stem.removeprefix("esc-50-").rpartition("-")[0] in free]
    yield from _some(named, NOISE_CLIPS, rng)


def _write(archive: zipfile.ZipFile, name: str, samples: np.ndarray, seconds: float) -> None:
    encoded = io.BytesIO()
    soundfile.write(
        encoded,
        samples[: round(seconds * SAMPLE_RATE)],
        SAMPLE_RATE,
        format="OGG",
        subtype="OPUS",
        compression_level=COMPRESSION,
    )
    archive.writestr(name, encoded.getvalue())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
