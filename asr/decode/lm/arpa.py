"""N-gram language models in the ARPA format, read and written.

The format is described in the ngram-format manual page of SRILM.
"""

import gzip
import io
import os
import re
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asr.decode.base import DecodeError
from asr.decode.lm.ngrams import LN_10, MARKS, UNKNOWN, NgramModel, Ngrams, assemble
from asr.files import ReadError, read_bytes, whole_file

GZIP_MAGIC, KENLM_MAGIC = b"\x1f\x8b", b"mmap lm "
BLANKS = " \t\r"  # what stands between fields; all other characters are parts of words
LARGEST = 1000.0  # of a log10 probability or weight; where there should be zero, files have -99
COUNT = re.compile(r"ngram[ \t]+([0-9]{1,3})[ \t]*=[ \t]*([0-9]{1,15})")
KIND = "an ARPA file"
SHOWN = 60  # characters of a line in a message
WRITTEN = 2**18  # n-grams that are written at a time


def read_arpa(path: str | os.PathLike[str]) -> NgramModel:
    """Read an ARPA file, plain or gzip. Raises DecodeError if it is not whole, or ReadError."""
    content = read_bytes(path, KIND)
    if content.startswith(KENLM_MAGIC):
        raise DecodeError(f"{path}: is a binary KenLM model; give the ARPA file it was made from")
    if content.startswith(GZIP_MAGIC):
        content = _decompressed(content, path)
    return _Parser(str(path), content).model()


def _decompressed(content: bytes, path: str | os.PathLike[str]) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error):
        raise DecodeError(f"{path}: is a truncated or damaged gzip file; copy it again") from None


class _Parser:
    def __init__(self, path: str, content: bytes) -> None:
        self._path = path
        self._lines = self._numbered(content)
        self._number = 0
        self._words = {mark: k for k, mark in enumerate(MARKS)}

    def model(self) -> NgramModel:
        """Read the whole file."""
        if not any(line == "\\data\\" for line in self._lines):
            raise DecodeError(
                f"{self._path}: has no \\data\\ line, so it is no ARPA file; make one with "
                "'asr lm build'"
            )
        counts, line = self._counts()
        sections: list[Ngrams] = []
        for order, count in enumerate(counts, start=1):
            if line != f"\\{order}-grams:":
                raise self._error(f"has {_shown(line)} where \\{order}-grams: should be")
            section, line = self._section(order, count)
            sections.append(section)
        if line != "\\end\\":
            raise self._error(f"has {_shown(line)} where \\end\\ should be")
        return assemble([*self._words][len(MARKS) :], sections, self._path)

    def _numbered(self, content: bytes) -> Iterator[str]:
        """Yield what is on the lines that are not empty."""
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="\n")
        try:
            for self._number, line in enumerate(text, start=1):
                if stripped := line.strip(BLANKS + "\n"):
                    yield stripped
        except UnicodeDecodeError:
            raise ReadError(
                f"{self._path}: cannot be read as {KIND} (what follows line {self._number} is not "
                "UTF-8); save it as text in UTF-8"
            ) from None

    def _next(self) -> str:
        line = next(self._lines, None)
        if line is None:
            raise self._error("ends before its \\end\\ line: it is truncated")
        return line

    def _counts(self) -> tuple[list[int], str]:
        counts: list[int] = []
        while (line := self._next()).startswith("ngram"):
            match = COUNT.fullmatch(line)
            if not match or int(match[1]) != len(counts) + 1:
                raise self._error(f"does not count {len(counts) + 1}-grams in {_shown(line)}")
            counts.append(int(match[2]))
        if not counts:
            raise self._error("has no 'ngram 1=' line after \\data\\")
        return counts, line

    def _section(self, order: int, count: int) -> tuple[Ngrams, str]:
        """Read the n-grams of one order; return them and the line after them."""
        numbers, log_p, backoff = array("i"), array("d"), array("d")
        while not (line := self._next()).startswith("\\"):
            fields = [field for field in line.replace("\t", " ").split(" ") if field]
            if len(fields) not in (order + 1, order + 2):
                raise self._error(f"has {len(fields)} fields in a line of {order}-grams")
            numbers.extend(self._numbers(fields[1 : order + 1]))
            log_p.append(self._value(fields[0], most=0.0))
            backoff.append(self._value(fields[order + 1]) if len(fields) > order + 1 else 0.0)
        if len(log_p) != count:
            raise self._error(f"has {len(log_p)} {order}-grams, and its head says {count}")
        table = np.array(numbers, np.int32).reshape(-1, order)
        return (table, LN_10 * np.array(log_p), LN_10 * np.array(backoff)), line

    def _numbers(self, words: list[str]) -> list[int]:
        """The numbers of words, which single ones get as they come."""
        words = [UNKNOWN if word == "<UNK>" else word for word in words]
        if len(words) == 1:
            self._words.setdefault(words[0], len(self._words))
        try:
            return [self._words[word] for word in words]
        except KeyError as error:
            raise self._error(f"has {_shown(error.args[0])}, which is no 1-gram of it") from None

    def _value(self, field: str, most: float = LARGEST) -> float:
        """A log10 probability or weight."""
        try:
            value = float(field)
        except ValueError:
            raise self._error(f"has {_shown(field)} where a number should be") from None
        if not -LARGEST <= value <= most:  # false for nan
            raise self._error(f"has {_shown(field)} where a log10 up to {most:g} should be")
        return value

    def _error(self, problem: str) -> DecodeError:
        return DecodeError(f"{self._path}, line {self._number}: {problem}; get a whole ARPA file")


def _shown(text: str) -> str:
    """A line of a file in quotes, as much of it as fits a message."""
    return f"'{text[:SHOWN]}'"


def write_arpa(model: NgramModel, path: Path) -> None:
    """Write a model as an ARPA file. Raises WriteError."""
    names = np.array([*MARKS, *model.vocabulary], object)
    lengths = range(1, model.order + 1)
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        counts = "".join(f"ngram {n}={len(model.levels[n - 1])}\n" for n in lengths)
        file.write(f"\\data\\\n{counts}")
        for n in lengths:
            file.write(f"\n\\{n}-grams:\n")
            for begin in range(0, len(model.levels[n - 1]), WRITTEN):
                places = np.arange(begin, min(begin + WRITTEN, len(model.levels[n - 1])))
                file.writelines(_lines(model, n, places, names))
        file.write("\n\\end\\\n")


def _lines(model: NgramModel, n: int, places: np.ndarray, names: np.ndarray) -> Iterator[str]:
    """The lines of n-grams by their places."""
    level = model.levels[n - 1]
    words = (names[column] for column in model.words_at(n - 1, places))
    log_p = (level.log_p[places] / LN_10).tolist()
    if level.backoff is None:
        for own, *ngram in zip(log_p, *words, strict=True):
            yield f"{own:.7f}\t{' '.join(ngram)}\n"
        return
    backoff = (level.backoff[places] / LN_10).tolist()
    for own, weight, *ngram in zip(log_p, backoff, *words, strict=True):
        yield f"{own:.7f}\t{' '.join(ngram)}\t{weight:.7f}\n"
