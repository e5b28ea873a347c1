"""Decoded audio on disk: each file is decoded once, then read through a memory map.

16-bit samples of all files of one source, one after the other, and an index beside them. Memory
stays bounded whatever the size of the set: the operating system keeps what fits.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from asr.files import read_text, whole_file, writing
from asr.training.progress import tracked
from features.audio import AudioError, from_int16, read_audio, to_int16
from features.duration import stated_duration
from features.errors import EarshotError

logger = logging.getLogger(__name__)

SCALE = "int16"  # part of the key: a cache of another scale is made again
SAMPLE_BYTES = 2
CHUNK = 256  # files decoded ahead of the writer
ESTIMATE_FILES = 200  # whose headers say how long the others will be
MAKE_ROOM = "free some space or set data.cache to another folder"


class CacheError(EarshotError, OSError):
    """The disk has no room for decoded audio."""


class PcmCache:
    """Read access to the decoded samples of a list of files."""

    def __init__(self, path: Path, offsets: Sequence[int]) -> None:
        self.path = path
        self.offsets = offsets
        self._samples: np.ndarray | None = None

    def length(self, number: int) -> int:
        """Samples of file `number`; 0 if it could not be read."""
        return self.offsets[number + 1] - self.offsets[number]

    def read(self, number: int) -> np.ndarray:
        """float32 (samples,) in [-1, 1] of file `number`."""
        if self._samples is None:  # opened late, so that every loader process maps it by itself
            self._samples = np.memmap(self.path, dtype=np.int16, mode="r")
        part = self._samples[self.offsets[number] : self.offsets[number + 1]]
        return from_int16(part)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_samples": None}

    @classmethod
    def build(cls, paths: list[Path], sample_rate: int, folder: Path, name: str) -> "PcmCache":
        """Open the cache of these files, decoding them first if they changed.

        Raises CacheError if there is no room for it, WriteError if it cannot be written, AudioError
        if no file can be read.
        """
        stem = f"{name}-{_key(paths, sample_rate)}".replace("/", "_")
        pcm, index = folder / f"{stem}.pcm", folder / f"{stem}.json"
        if not (index.exists() and pcm.exists()):
            with writing(folder, MAKE_ROOM):
                folder.mkdir(parents=True, exist_ok=True)
            _check_room(paths, sample_rate, folder, name)
            _decode_all(paths, sample_rate, pcm, index, name)
        return cls(pcm, json.loads(read_text(index, "the index of decoded audio")))


def _key(paths: list[Path], sample_rate: int) -> str:
    digest = hashlib.sha256(f"{SCALE} {sample_rate}".encode())
    for path in paths:
        try:
            status = path.stat()
            state = f"{status.st_size}:{status.st_mtime_ns}"
        except (OSError, ValueError):  # ValueError: a name that no file can have
            state = "missing"
        name = str(path.absolute()).encode("utf-8", "surrogatepass")  # of any encoding
        digest.update(name + f":{state}".encode())
    return digest.hexdigest()[:16]


def _check_room(paths: list[Path], sample_rate: int, folder: Path, name: str) -> None:
    """Say how much will be written; raise CacheError if the disk has less room than that."""
    some = paths[:: 1 + len(paths) // ESTIMATE_FILES]
    seconds = [seconds for path in some if (seconds := stated_duration(path))]
    if not seconds:
        return
    needed = len(paths) * float(np.mean(seconds)) * sample_rate * SAMPLE_BYTES
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CacheError(
            f"{folder}: decoded audio of {name} needs about {_size(needed)} and the disk has "
            f"{_size(free)} free; {MAKE_ROOM}"
        )
    print(f"{name}: decoding {len(paths)} files, about {_size(needed)}, into {folder}", flush=True)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _decode_all(paths: list[Path], sample_rate: int, pcm: Path, index: Path, name: str) -> None:
    with whole_file(index, MAKE_ROOM) as index_part, whole_file(pcm, MAKE_ROOM) as part:
        offsets, broken = _write_samples(paths, sample_rate, part, name)
        for line in broken:
            logger.warning("%s: left out", line)
        if len(broken) == len(paths):
            raise AudioError(f"{name}: none of its {len(paths)} files can be read; {broken[0]}")
        index_part.write_text(json.dumps(offsets), encoding="utf-8")


def _write_samples(
    paths: list[Path], sample_rate: int, part: Path, name: str
) -> tuple[list[int], list[str]]:
    """Decode into one file; where each recording starts, and what could not be read."""
    offsets, broken = [0], []
    with part.open("wb") as file:
        decoded = _decoded(paths, sample_rate)
        for samples in tracked(decoded, f"decoding {name}", len(paths)):
            if isinstance(samples, AudioError):
                broken.append(str(samples))
                samples = np.zeros(0, np.int16)
            file.write(samples.tobytes())
            offsets.append(offsets[-1] + len(samples))
    return offsets, broken


def _decoded(paths: list[Path], sample_rate: int) -> Iterator[np.ndarray | AudioError]:
    """Decode in threads (the decoders release the interpreter lock), a bounded number ahead."""
    decode = partial(_decode, sample_rate=sample_rate)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), CHUNK):
            yield from pool.map(decode, paths[start : start + CHUNK])


def _decode(path: Path, sample_rate: int) -> np.ndarray | AudioError:
    try:
        waveform = read_audio(path, sample_rate)
    except AudioError as error:
        return error
    return to_int16(waveform)
