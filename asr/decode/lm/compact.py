"""N-gram models in a compact file, which is mapped into memory and read where it is asked.

Probabilities are one of 256 values each. A file has a fixed head (MAGIC, version, the length and
the CRC-32 of what follows), a header in JSON that says where its arrays are, and the arrays.
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.decode.base import DecodeError
from asr.decode.lm.lexicon import Lexicon, Pronunciations, Spelling
from asr.decode.lm.ngrams import MARKS, Level, NgramModel
from asr.decode.lm.values import Values
from asr.files import ReadError, parse_json, whole_file

MAGIC = b"earshot lm\r\n\x1a\0"
VERSION = 1
HEAD = struct.Struct("<14sHII")
ALIGNMENT = 8
KIND = "a language model"
SAID = "said "  # before the names of the arrays of the lexicon of pronunciations
CODES = 256  # values that a probability can have
BLOCK = 64  # offsets that are counted from one base
SAMPLE = 2**22  # values that a book is made of, at most
LLOYD_STEPS = 20


@dataclass(frozen=True)
class Coded:
    """Numbers that are kept as the places of their values in a book."""

    codes: np.ndarray
    book: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, place: Any) -> Any:
        return self.book[self.codes[place]]


@dataclass(frozen=True)
class Offsets:
    """Ascending numbers: a base for each `BLOCK` of them, and how far each is above its base."""

    base: np.ndarray
    above: np.ndarray

    def __len__(self) -> int:
        return len(self.above)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            place = np.arange(len(self))[place]
        return self.base[place // BLOCK] + self.above[place]


def read_compact(path: str | os.PathLike[str]) -> NgramModel:
    """Open a compact file. Raises DecodeError if it is no whole one, or ReadError."""
    return _Reader(path).model()


def is_compact(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a compact one does. What cannot be read does not."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


class _Reader:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = str(path)
        try:
            with Path(path).open("rb") as file:
                self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ReadError(f"{path}: cannot be read as {KIND} ({reason}); name a file") from None
        self._header = self._checked_header()

    def _checked_header(self) -> dict[str, Any]:
        size = len(self._content)
        if size < HEAD.size:
            raise self._error(f"is cut off after {size} bytes; copy it again")
        magic, version, length, checksum = HEAD.unpack(self._content[: HEAD.size])
        if magic != MAGIC:
            raise self._error("is no compact language model; make one with 'asr lm compact'")
        if version != VERSION:
            raise self._error(
                f"is a compact language model of version {version}, and this program reads "
                f"version {VERSION}; make it again with 'asr lm compact'"
            )
        text = self._content[HEAD.size : HEAD.size + length]
        if len(text) == length and zlib.crc32(text) != checksum:
            raise self._error("is damaged; copy it again")
        self._begin = HEAD.size + length
        header = parse_json(text.decode()) if len(text) == length else {"data": 1}
        if size != self._begin + header["data"]:
            raise self._error(f"is cut off after {size} bytes, or too long; copy it again")
        return header

    def _error(self, problem: str) -> DecodeError:
        return DecodeError(f"{self._path}: {problem}")

    def _array(self, name: str) -> np.ndarray:
        kind, length, offset = self._header["arrays"][name]
        return np.frombuffer(self._content, kind, length, self._begin + offset)

    def _coded(self, name: str) -> Coded:
        return Coded(self._array(name), self._array(f"{name} book"))

    def _offsets(self, name: str) -> Values:
        if f"{name} base" in self._header["arrays"]:
            return Offsets(self._array(f"{name} base"), self._array(name))
        return self._array(name)

    def model(self) -> NgramModel:
        """The model in the file."""
        order = self._header["order"]
        levels: list[Level] = []
        for n in range(1, order + 1):
            first = self._offsets(f"first {n}") if n < order else None
            backoff = self._coded(f"backoff {n}") if n < order else None
            log_p = self._coded(f"log_p {n}")
            words = self._array(f"words {n}") if n > 1 else np.arange(len(log_p))
            levels.append(Level(words, first, log_p, backoff))
        lexicon = self._lexicon(self._header["letters"])
        look_ahead = Coded(self._array("look_ahead"), self._array("log_p 1 book"))
        return NgramModel(lexicon, levels, self._path, look_ahead, self._pronunciations())

    def _lexicon(self, letters: str, name: str = "") -> Lexicon:
        return Lexicon(
            letters,
            self._array(f"{name}lexicon letter"),
            self._offsets(f"{name}lexicon first"),
            self._array(f"{name}lexicon word"),
            Spelling(self._coded(f"{name}spelling"), len(letters) + 1),
        )

    def _pronunciations(self) -> Pronunciations | None:
        if "phonemes" not in self._header:
            return None
        return Pronunciations(
            self._lexicon(self._header["phonemes"], SAID),
            len(MARKS),
            self._offsets("alike first"),
            self._array("alike"),
            Coded(self._array(f"{SAID}look_ahead"), self._array("log_p 1 book")),
        )


def write_compact(model: NgramModel, path: Path) -> None:
    """Write a model as a compact file. Raises WriteError."""
    places: dict[str, tuple[str, int, int]] = {}
    data = bytearray()
    for name, values in _arrays(model):
        places[name] = (values.dtype.str, len(values), len(data))
        data += values.tobytes()
        data += bytes(-len(data) % ALIGNMENT)
    fields = {
        "order": model.order,
        "letters": model.lexicon.letters,
        "arrays": places,
        "data": len(data),
    }
    if model.pronunciations:
        fields["phonemes"] = model.pronunciations.lexicon.letters
    header = json.dumps(fields).encode()
    header += b" " * (-(HEAD.size + len(header)) % ALIGNMENT)
    with whole_file(path) as part, part.open("wb") as file:
        file.write(HEAD.pack(MAGIC, VERSION, len(header), zlib.crc32(header)))
        file.write(header)
        file.write(data)


def _arrays(model: NgramModel) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a file and their names."""
    for n, level in enumerate(model.levels, start=1):
        yield from _coded(f"log_p {n}", level.log_p[:])
        if n > 1:
            yield f"words {n}", _narrow(level.words[:])
        if level.first is not None and level.backoff is not None:
            yield from _offsets(f"first {n}", level.first[:])
            yield from _coded(f"backoff {n}", level.backoff[:])
    yield from _lexicon(model.lexicon)
    # Its values are some of those of single words: it has their book.
    (_, codes), (_, book) = _coded("", model.levels[0].log_p[:])
    best = model.lexicon.best_below(book[codes])
    yield "look_ahead", np.searchsorted(book, best).astype(np.uint8)
    if said := model.pronunciations:
        yield from _lexicon(said.lexicon, SAID)
        yield from _offsets("alike first", said.first[:])
        yield "alike", _narrow(said.words[:])
        nearest = np.abs(said.look_ahead[:][:, None] - book).argmin(axis=1)
        yield f"{SAID}look_ahead", nearest.astype(np.uint8)


def _lexicon(lexicon: Lexicon, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    yield f"{name}lexicon letter", _narrow(lexicon.letter[:])
    yield from _offsets(f"{name}lexicon first", lexicon.first[:])
    yield f"{name}lexicon word", _narrow(lexicon.word[:])
    yield from _coded(f"{name}spelling", lexicon.spelling.log_p[:])


def _coded(name: str, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The codes of numbers, and the book of their values in ascending order."""
    book = _book(values)
    nearest = np.searchsorted((book[1:] + book[:-1]) / 2, values)
    yield name, nearest.astype(np.uint8)
    yield f"{name} book", book.astype(np.float32)


def _book(values: np.ndarray) -> np.ndarray:
    """At most `CODES` ascending values near which all numbers are.

    Groups of as many numbers each, whose means take what is nearest to them, again and again
    (Lloyd, "Least squares quantization in PCM", 1982). Zero, the least and the largest are kept.
    """
    sample = np.sort(values[:: max(1, len(values) // SAMPLE)].astype(float))
    book = np.unique(sample)
    if len(book) <= CODES:
        return book
    kept = [values.min(), values.max(), *([0.0] if 0.0 in book else [])]
    sums = np.concatenate([[0.0], np.cumsum(sample)])
    edges = np.arange(CODES - len(kept) + 1) * len(sample) // (CODES - len(kept))
    for _ in range(LLOYD_STEPS):
        means = np.diff(sums[edges]) / np.diff(edges)
        middles = np.searchsorted(sample, (means[1:] + means[:-1]) / 2)
        edges = np.unique(np.concatenate([[0], middles, [len(sample)]]))
    return np.unique(np.append(np.diff(sums[edges]) / np.diff(edges), kept))


def _narrow(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers in as few bytes as hold them."""
    kind = np.min_scalar_type(int(numbers.max(initial=0)))
    return numbers.astype(kind)


def _offsets(name: str, offsets: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Ascending numbers in two bytes each, with bases, as far as that is possible."""
    base = offsets[::BLOCK]
    above = offsets - np.repeat(base, BLOCK)[: len(offsets)]
    if above.max(initial=0) > np.iinfo(np.uint16).max:
        yield name, _narrow(offsets)
        return
    yield name, above.astype(np.uint16)
    yield f"{name} base", base.astype(np.int64)
