"""Where the recordings are: folders of words, manifests and texts, speakers kept apart."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from asr.training.config import SourceConfig, expand
from features.audio import find_audio
from features.errors import EarshotError


class DataError(EarshotError, ValueError):
    """Recordings or labels that a training cannot work with."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file with its text (or its label), before any audio is read.

    marked: from when to when, in seconds, a keyword is said in it, if a manifest knows.
    """

    path: Path
    text: str
    speaker: str
    source: int
    validation: bool
    marked: tuple[float, float] | None = None


def is_validation_speaker(speaker: str, percent: float) -> bool:
    """Whether a speaker is held out: the hash rule of the Speech Commands data set (Warden, 2018).

    The same speaker falls on the same side in every run and on every machine.
    """
    buckets = 2**27
    value = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % buckets
    return value * (100.0 / (buckets - 1)) < percent


def read_source(index: int, source: SourceConfig) -> list[Recording]:
    """List the recordings of one source. Raises DataError, ConfigError or AudioError."""
    path = expand(source.path)
    if source.kind == "text":
        source = replace(source, speaker=source.speaker or "{text}")  # equal texts on one side
        entries = _text_entries(path)
    elif path.suffix == ".jsonl":
        entries = _manifest_entries(path)
    elif path.is_dir():
        entries = _folder_entries(path, source)
    else:
        raise DataError(f"{path}: no such folder of words or .jsonl manifest; check data.sources")
    recordings = [_recording(index, source, *entry) for entry in entries]
    if absent := set(source.validation_speakers) - {r.speaker for r in recordings}:
        raise DataError(f"{path}: has no speaker {', '.join(sorted(absent))} to hold out")
    return recordings


def _folder_entries(root: Path, source: SourceConfig) -> Iterator[tuple[Path, str, dict]]:
    for path in find_audio(root):
        word = path.parent.name
        if not word.startswith("_"):  # the names of background labels stay as they are
            word = word.replace("_", " ")
        yield path, "" if source.kind == "noise" else word, {}


def _text_entries(path: Path) -> Iterator[tuple[Path, str, dict]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text, one a line ({error})") from None
    for line in lines:
        if text := line.strip():
            yield path, text, {"text": text}


def _manifest_entries(manifest: Path) -> Iterator[tuple[Path, str, dict]]:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{manifest}: cannot be read as a manifest ({error})") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            path, text = manifest.parent / fields["audio_filepath"], fields.get("text", "") + ""
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{manifest}, line {number}: needs a JSON object with audio_filepath and text "
                f"({error!r})"
            ) from None
        yield path, text, fields


def _recording(index: int, source: SourceConfig, path: Path, text: str, fields: dict) -> Recording:
    speaker = _speaker(source, path, fields)
    if source.validation_speakers:
        held_out = speaker in source.validation_speakers
    else:
        held_out = is_validation_speaker(speaker, source.validation)
    return Recording(
        path=path,
        text=" ".join(text.lower().split()),
        speaker=speaker,
        source=index,
        validation=held_out,
        marked=_marked(path, fields),
    )


def _marked(path: Path, fields: dict) -> tuple[float, float] | None:
    """`keyword_start` and `keyword_end` of a manifest entry, if they can be those of a word."""
    start, end = fields.get("keyword_start", 0.0), fields.get("keyword_end", 0.0)
    if not all(isinstance(time, int | float) for time in (start, end)):
        raise DataError(f"{path}: its manifest entry has no times in keyword_start, keyword_end")
    return (start, end) if 0.0 <= start < end else None


def _speaker(source: SourceConfig, path: Path, fields: dict) -> str:
    if not source.speaker:
        return str(Path(path.parent.name, path.name))
    if source.speaker.startswith("{"):
        name = source.speaker.strip("{}")
        if name not in fields:
            raise DataError(f"{path}: its manifest entry has no field '{name}' for the speaker")
        return str(fields[name])
    match = re.search(source.speaker, path.as_posix())
    if not match:
        raise DataError(f"{path}: the pattern '{source.speaker}' finds no speaker in this path")
    return match[1]
