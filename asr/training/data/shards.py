"""Recordings in tar files, for sets that are larger than the disk's cache of decoded audio.

`asr shard` writes a folder for each source of a recipe:

    shard-000000.tar    000000000.flac, 000000000.json, 000000001.flac, ...: the WebDataset layout
    index.jsonl         first the rate, then a line for each recording: where it is, and its fields

Sound is FLAC, 16 bits, at the rate of the recipe's model: nothing that training reads is lost. The
index is what a manifest is: small, read whole. Sound is read when its batch is due, and an epoch
goes through the shards in an order of its own, a few at a time (`plan.py`).
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile

from asr.files import parse_json, read_lines, whole_file
from asr.training.config import Config
from asr.training.data.sources import INDEX, DataError, Recording, read_source
from features.audio import AudioError, from_int16, read_audio, to_int16

SHARD_BYTES = 128 * 1024 * 1024  # of a tar file: one is opened rarely and read at a stretch
REMEDY = "write the shards again with 'asr shard'"


@dataclass(frozen=True)
class Place:
    """Where a recording is: bytes of a tar file; samples: its length at the rate of the shards."""

    shard: int
    offset: int
    size: int
    samples: int


class TarPcm:
    """What `PcmCache` is to decoded audio, to tar files: samples of a list of recordings."""

    def __init__(self, folder: Path, places: Sequence[Place]) -> None:
        self._folder = folder
        self._places = places
        self._open: dict[int, IO[bytes]] = {}

    def length(self, number: int) -> int:
        """Samples of recording `number`."""
        return self._places[number].samples

    def shard(self, number: int) -> int:
        """The tar file that recording `number` is in."""
        return self._places[number].shard

    def read(self, number: int) -> np.ndarray:
        """float32 (samples,) in [-1, 1] of recording `number`. Raises DataError."""
        place = self._places[number]
        if place.shard not in self._open:  # opened late, so that every loader has a file of its own
            if len(self._open) >= 64:  # of the shards that an epoch has left behind
                self._open.pop(next(iter(self._open))).close()
            self._open[place.shard] = (self._folder / shard_name(place.shard)).open("rb")
        file = self._open[place.shard]
        file.seek(place.offset)
        try:
            samples, _ = soundfile.read(io.BytesIO(file.read(place.size)), dtype="int16")
        except soundfile.LibsndfileError:
            raise DataError(
                f"{self._folder / shard_name(place.shard)}: is damaged at byte {place.offset}; "
                f"copy it again, or {REMEDY}"
            ) from None
        return from_int16(samples)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": {}}

    @classmethod
    def build(cls, folder: Path, recordings: Sequence[Recording], sample_rate: int) -> "TarPcm":
        """Find recordings of `read_source` in their shards. Raises DataError if one is cut off."""
        head, lines = read_index(folder)
        if head["sample_rate"] != sample_rate:
            raise DataError(
                f"{folder}: its shards have {head['sample_rate']} Hz and the model wants "
                f"{sample_rate}; {REMEDY}"
            )
        for number, size in enumerate(head["sizes"]):
            path = folder / shard_name(number)
            there = path.stat().st_size if path.is_file() else 0
            if there != size:
                raise DataError(
                    f"{path}: is cut off ({there} of {size} bytes); copy it again, or {REMEDY}"
                )
        fields = ("shard", "offset", "size", "samples")
        places = {line["key"]: Place(*(line[name] for name in fields)) for line in lines}
        return cls(folder, [places[recording.path.name] for recording in recordings])


def shard_name(number: int) -> str:
    """The name of a tar file."""
    return f"shard-{number:06}.tar"


def read_index(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what the index of a folder says of all shards, and of each recording."""
    path = folder / INDEX
    try:
        head, *lines = [parse_json(line) for line in read_lines(path, "an index of shards")]
        if not head["sizes"]:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: is no index of shards; {REMEDY}") from None
    return head, lines


def write_shards(config: Config, out: Path) -> Iterator[tuple[Path, int, int]]:
    """Write the speech of a configuration; yield folder, recordings and shards of each source.

    A source whose index is there is left as it is. Raises DataError, WriteError, ConfigError.
    """
    for number, source in enumerate(config.data.sources):
        if source.kind != "speech":
            continue
        folder = out / "".join(c if c.isalnum() else "-" for c in source.name.lower())
        if not (folder / INDEX).exists():
            _write_source(read_source(number, source), folder, config.model.mfcc.sample_rate)
        head, lines = read_index(folder)
        yield folder, len(lines), len(head["sizes"])


def _write_source(recordings: Sequence[Recording], folder: Path, sample_rate: int) -> None:
    encoded = _encoded(recordings, sample_rate)
    lines: list[dict[str, Any]] = []
    sizes = []
    for number in count():
        path = folder / shard_name(number)
        written = _write_tar(path, number, encoded)
        if not written:
            path.unlink()
            break
        lines += written
        sizes.append(path.stat().st_size)
    if not lines:
        raise DataError(f"{folder}: none of its recordings can be read; nothing to write")
    with whole_file(folder / INDEX) as part, part.open("w", encoding="utf-8") as file:
        for line in ({"sample_rate": sample_rate, "sizes": sizes}, *lines):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _encoded(
    recordings: Sequence[Recording], sample_rate: int
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield fields and FLAC of each recording; what cannot be read is named and left out."""
    for number, recording in enumerate(recordings):
        try:
            samples = to_int16(read_audio(recording.path, sample_rate))
        except AudioError as error:
            print(f"{error}: left out", flush=True)
            continue
        target = io.BytesIO()
        soundfile.write(target, samples, sample_rate, "PCM_16", format="FLAC")
        fields = {
            "key": f"{number:09}",
            "text": recording.text,
            "speaker": recording.speaker,
            "samples": len(samples),
            **recording.traits,
        }
        if recording.marked:
            fields |= dict(zip(("keyword_start", "keyword_end"), recording.marked, strict=True))
        yield fields, target.getvalue()


def _write_tar(
    path: Path, number: int, encoded: Iterator[tuple[dict[str, Any], bytes]]
) -> list[dict[str, Any]]:
    """Write a tar file, as large as one should be; return the lines of the index."""
    lines: list[dict[str, Any]] = []
    with whole_file(path) as part, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
        for fields, sound in encoded:
            json_bytes = json.dumps(fields, ensure_ascii=False).encode()
            for suffix, content in (("json", json_bytes), ("flac", sound)):
                member = tarfile.TarInfo(f"{fields['key']}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            padded = -(-len(sound) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            where = {"shard": number, "offset": tar.offset - padded, "size": len(sound)}
            lines.append(fields | where)
            if tar.offset >= SHARD_BYTES:
                break
    return lines
