"""Where the recordings are: folders of words, manifests and texts, speakers kept apart."""

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from asr.files import parse_json, read_lines
from asr.training.config import SourceConfig, expand
from asr.training.data.texts import plain_label
from features.audio import find_audio
from features.errors import EarshotError

INDEX = "index.jsonl"  # of a folder of shards
MANIFEST_SUFFIXES = (".jsonl", ".json")  # JSON lines both; NeMo's are named .json
ENTRY = 'write {"audio_filepath": "a.wav", "text": "its words"}'
TRAITS = ("gender", "age", "accent", "dialect", "phone")  # fields of manifests, of who speaks how

logger = logging.getLogger(__name__)


class DataError(EarshotError, ValueError):
    """Recordings or labels that a training cannot work with."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file with its text (or its label), before any audio is read.

    marked: from when to when, in seconds, a keyword is said in it, if a manifest knows.
    traits: of the speaker and the line, those of TRAITS that a manifest tells.
    """

    path: Path
    text: str
    speaker: str
    source: int
    validation: bool
    marked: tuple[float, float] | None = None
    traits: Mapping[str, str] = field(default_factory=dict)


def _digest(name: str) -> bytes:
    """The hash of a name, be it no whole text (a file name in another encoding)."""
    return hashlib.sha1(name.encode("utf-8", "surrogatepass")).digest()


def is_validation_speaker(speaker: str, percent: float) -> bool:
    """Whether a speaker is held out: the hash rule of the Speech Commands data set (Warden, 2018).

    The same speaker falls on the same side in every run and on every machine.
    """
    buckets = 2**27
    value = int(_digest(speaker).hex(), 16) % buckets
    return value * (100.0 / (buckets - 1)) < percent


def nearest_share(names: set[str], percent: float) -> set[str]:
    """Return the nearest number to a share of the names, at least one, chosen by their hashes.

    A larger share holds the same names and more. None if the share is 0, or of a single name.
    """
    if not percent or len(names) < 2:
        return set()
    count = max(1, round(len(names) * percent / 100.0))
    return set(sorted(names, key=_digest)[:count])


def read_source(index: int, source: SourceConfig) -> list[Recording]:
    """List the recordings of one source. Raises DataError, ConfigError or AudioError."""
    path = expand(source.path)
    if source.kind == "text":
        source = replace(source, speaker=source.speaker or "{text}")  # equal texts on one side
        entries = _text_entries(path)
    elif source.kind == "shards":
        source = replace(source, speaker=source.speaker or "{speaker}")
        entries = _shard_entries(path)
    elif not path.exists():
        raise DataError(f"{path}: no such folder of words or .jsonl manifest; check data.sources")
    elif manifest := manifest_of(path):
        entries = _manifest_entries(manifest)
    elif path.is_dir():
        entries = _folder_entries(path, source)
    else:
        raise DataError(f"{path}: is neither a folder of words nor a .jsonl manifest; name one")
    if source.texts:
        entries = _with_texts(source, entries)
    listed = [_recording(index, source, *entry) for entry in entries]
    recordings = _held_out(source, listed)
    if absent := set(source.validation_speakers) - {r.speaker for r in recordings}:
        raise DataError(f"{path}: has no speaker {', '.join(sorted(absent))} to hold out")
    return recordings


def manifest_of(path: Path) -> Path | None:
    """Return the manifest that a path stands for: itself, or that of a folder which holds one."""
    if path.suffix in MANIFEST_SUFFIXES:
        return path
    inside = (path / f"manifest{suffix}" for suffix in MANIFEST_SUFFIXES)
    return next((manifest for manifest in inside if manifest.is_file()), None)


def _held_out(source: SourceConfig, recordings: list[Recording]) -> list[Recording]:
    """Mark what is for validation: speakers, or recordings of the only one that there is."""
    speakers = {r.speaker for r in recordings}
    if source.validation_speakers:
        chosen = set(source.validation_speakers)
    elif source.validation_rule == "hash":
        chosen = {name for name in speakers if is_validation_speaker(name, source.validation)}
    elif len(speakers) > 1:
        chosen = nearest_share(speakers, source.validation)
    else:
        return _of_one_speaker(source, recordings)
    return [replace(r, validation=r.speaker in chosen) for r in recordings]


def _of_one_speaker(source: SourceConfig, recordings: list[Recording]) -> list[Recording]:
    chosen = nearest_share({str(r.path) for r in recordings}, source.validation)
    if chosen and source.kind == "speech":
        logger.warning(
            "%s: has one speaker only, so %d of the recordings are held out: the figures say how "
            "well this voice is recognised, not any other",
            source.name,
            len(chosen),
        )
    return [replace(r, validation=str(r.path) in chosen) for r in recordings]


def _folder_entries(root: Path, source: SourceConfig) -> Iterator[tuple[Path, str, dict]]:
    for path in find_audio(root):
        yield path, "" if source.kind == "noise" else path.parent.name, {}


def _text_entries(path: Path) -> Iterator[tuple[Path, str, dict]]:
    for line in read_lines(path, "text, one a line"):
        if text := line.strip():
            yield path, text, {"text": text}


def _shard_entries(folder: Path) -> Iterator[tuple[Path, str, dict]]:
    """The recordings of a folder of shards: their paths are those of their keys, in it."""
    index = folder / INDEX
    if not index.is_file():
        raise DataError(f"{folder}: holds no {INDEX}; name a folder that 'asr shard' wrote")
    try:
        for line in read_lines(index, "an index of shards")[1:]:
            fields = parse_json(line)
            yield folder / fields["key"], fields["text"], fields
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{index}: is no index of shards; write the shards again with 'asr shard'"
        ) from None


def _manifest_entries(manifest: Path) -> Iterator[tuple[Path, str, dict]]:
    for number, line in enumerate(read_lines(manifest, "a manifest"), start=1):
        if not line.strip():
            continue
        where = f"{manifest}, line {number}"
        try:
            fields = parse_json(line)
        except ValueError as error:
            raise DataError(f"{where}: is no JSON ({error}); {ENTRY}") from None
        if not isinstance(fields, dict):
            raise DataError(f"{where}: is no JSON object; {ENTRY}")
        file, text = fields.get("audio_filepath"), fields.get("text", "")
        if not isinstance(file, str) or not isinstance(text, str):
            name = "text" if isinstance(file, str) else "audio_filepath"
            raise DataError(f"{where}: has no text in {name}; {ENTRY}")
        yield manifest.parent / file, text, fields


def _with_texts(
    source: SourceConfig, entries: Iterable[tuple[Path, str, dict]]
) -> Iterator[tuple[Path, str, dict]]:
    """Give recordings the texts of a table; say how many it does not name, and which it misses."""
    table = _read_texts(expand(source.texts))
    named, unnamed = set(), 0
    for path, _, fields in entries:
        text = table.get(path.stem)
        if text is None:
            unnamed += 1
            continue
        named.add(path.stem)
        yield path, text, fields
    if unnamed:
        logger.warning(
            "%s: left out %d recordings that have no line in %s", source.name, unnamed, source.texts
        )
    if missing := len(table) - len(named):
        logger.warning(
            "%s: %d lines of %s name no recording of it", source.name, missing, source.texts
        )


def _read_texts(path: Path) -> dict[str, str]:
    table: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, "a table of texts"), start=1):
        if not line.strip():
            continue
        name, tab, text = line.partition("\t")
        if not (name and tab and text.strip()):
            raise DataError(f"{path}, line {number}: needs a file name, a tab and a text")
        if name in table:
            raise DataError(
                f"{path}, line {number}: names '{name}' again; a recording has one text"
            )
        table[name] = text
    return table


def _recording(index: int, source: SourceConfig, path: Path, text: str, fields: dict) -> Recording:
    speaker = _speaker(source, path, fields)
    return Recording(
        path=path,
        text=plain_label(text),
        speaker=speaker,
        source=index,
        validation=False,
        marked=_marked(path, fields),
        traits={name: str(fields[name]) for name in TRAITS if fields.get(name)},
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
