"""Sentences of texts and of training recipes; many of them as numbers on the disk."""

import bz2
import gzip
import itertools
import lzma
import zlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from asr.decode.lm.ngrams import END, MARKS, SPACES, START, UNKNOWN
from asr.files import ReadError
from features.errors import EarshotError

OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
KIND = "text, one sentence a line"
BUFFER = 2**20  # words that are numbered before they are written
REPORTED = 20_000_000  # words after which their number is reported

Sentence = Sequence[str]
Report = Callable[[str], None]
"""Takes a line about what was done."""


class TextError(EarshotError, ValueError):
    """Texts that no language model can be made of."""


def read_sentences(path: Path, characters: bool = False) -> Iterator[list[str]]:
    """Yield the words (or characters) of each line of a text, lower-cased.

    path: a text, one sentence a line, plain or compressed (.gz, .xz, .bz2); a folder of these; or a
    training recipe (.toml): then the texts of the speakers that it trains on, none of those that it
    holds out, as its labels say them. Raises TextError, ReadError, or what the recipe does.
    """
    if path.is_dir():
        for file in _texts_in(path):
            yield from read_sentences(file, characters)
        return
    forbidden = {*MARKS, *SPACES}
    for number, text in enumerate(_texts(path), start=1):
        words = text.lower().split()
        if not forbidden.isdisjoint(words):
            mark = next(word for word in words if word in forbidden)
            raise TextError(f"{path}, text {number}: has {mark} as a word; take it out")
        if words and characters:
            yield [SPACES[0] if letter == " " else letter for letter in " ".join(words)]
        elif words:
            yield words


def _texts_in(folder: Path) -> list[Path]:
    endings = (".txt", *(f".txt{ending}" for ending in OPENERS))
    found = sorted(path for path in folder.iterdir() if path.name.endswith(endings))
    if not found:
        raise TextError(f"{folder}: has no text; texts end in {', '.join(endings)}")
    return found


def _texts(path: Path) -> Iterable[str]:
    return _recipe_texts(path) if path.suffix == ".toml" else _lines(path)


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text of any size, ended by line feeds only."""
    try:
        with cast("BinaryIO", OPENERS.get(path.suffix, open)(path, "rb")) as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8")
                yield text.removeprefix("\ufeff") if number == 1 else text
    except UnicodeDecodeError:
        reason = "is not UTF-8"
        raise ReadError(f"{path}: cannot be read as {KIND} ({reason}); save it as UTF-8") from None
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ReadError(f"{path}: cannot be read as {KIND} ({reason}); name a text file") from None


def _recipe_texts(recipe: Path) -> list[str]:
    from asr.training.config import read_config
    from asr.training.data.labels import Labels
    from asr.training.data.sources import read_source

    config = read_config(recipe, [])
    spoken = [source for source in enumerate(config.data.sources) if source[1].kind != "noise"]
    recordings = [recording for source in spoken for recording in read_source(*source)]
    labels = Labels.build(config, recordings)
    return [labels.plain(recording.text) for recording in recordings if not recording.validation]


@dataclass(frozen=True)
class Text:
    """Sentences as the numbers of their words, each between START and END, (words,) on the disk.

    counts: how often each word occurs, (numbers,).
    """

    words: np.ndarray
    counts: np.ndarray

    @property
    def size(self) -> int:
        """How many words and ends of sentences there are."""
        return int(self.counts.sum() - self.counts[MARKS.index(START)])


def new_vocabulary() -> dict[str, int]:
    """Words by numbers, which they get when they are first asked for; the MARKS have the first."""
    numbers = itertools.count()
    return defaultdict(lambda: next(numbers), {mark: next(numbers) for mark in MARKS})


def number_words(
    sentences: Iterable[Sentence], vocabulary: dict[str, int], path: Path, report: Report
) -> Text:
    """Write sentences as numbers to a new file `path`. Raises TextError if there is none."""
    start, end = MARKS.index(START), MARKS.index(END)
    number, buffer = vocabulary.__getitem__, array("i")
    done, said = 0, REPORTED
    with path.open("wb") as file:
        for sentence in sentences:
            buffer.append(start)
            buffer.extend(map(number, sentence))
            buffer.append(end)
            if len(buffer) > BUFFER:
                buffer.tofile(file)
                done += len(buffer)
                del buffer[:]
            if done > said:
                report(f"{done:,} words read")
                said += REPORTED
        buffer.tofile(file)
    if not path.stat().st_size:
        raise TextError("the texts have no word in them; give at least one sentence")
    words = np.memmap(path, np.int32, "r")
    return Text(words, np.bincount(words, minlength=len(vocabulary)))


def keep_most_frequent(
    texts: Sequence[tuple[Text, float]], vocabulary: list[str], most: int | None
) -> tuple[list[str], np.ndarray]:
    """Return at most so many words, the most frequent first, and the number of each old one.

    texts: with the share of each. What is not kept has the number of UNKNOWN.
    """
    frequency = np.zeros(len(vocabulary))
    for text, share in texts:
        frequency[: len(text.counts)] += share * text.counts / text.size
    words = np.arange(len(MARKS), len(vocabulary))
    kept = words[np.argsort(-frequency[words], kind="stable")][:most]
    numbers = np.full(len(vocabulary), MARKS.index(UNKNOWN), np.int32)
    numbers[: len(MARKS)] = np.arange(len(MARKS))
    numbers[kept] = np.arange(len(MARKS), len(MARKS) + len(kept))
    return [vocabulary[k] for k in kept], numbers
