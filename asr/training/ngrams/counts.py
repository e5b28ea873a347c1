"""How often n-grams occur in texts of any size: what fits is sorted, what was sorted is merged."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.decode.lm.ngrams import MARKS, NOWHERE, START
from asr.training.ngrams.texts import Report

CHUNK = 2**23  # n-grams that are sorted at a time
SAMPLED = 2**10  # every which of them says where to cut what is merged
START_NUMBER = MARKS.index(START)


@dataclass(frozen=True)
class Counted:
    """The n-grams of one length and how often each occurs.

    keys: the place of its context among the n-grams that are one word shorter, times `size`, plus
    the number of its last word; sorted, (n,). counts: (n,).
    """

    keys: np.ndarray
    counts: np.ndarray


def count_ngrams(
    text: np.ndarray, numbers: np.ndarray, size: int, order: int, folder: Path, report: Report
) -> list[Counted]:
    """Count the n-grams of 1 to `order` words in START w1 ... wn END.

    text: words as in a Text, which stand for `numbers` below `size`. folder: for what does not fit
    into memory.
    """
    words = _Words(text, numbers)
    single = sum(np.bincount(words[c], minlength=size) for c in _chunks(len(text), 0))
    levels = [Counted(np.arange(size), np.asarray(single))]
    places: np.ndarray | _Words = words
    for n in range(2, order + 1):
        runs = _Runs(folder)
        for chunk in _chunks(len(text), 1):
            keys, _ = _keys(words, places, chunk, size)
            runs.add(*np.unique(keys, return_counts=True))
        levels.append(runs.merged())
        report(f"{len(levels[-1].keys):,} different {n}-grams")
        if n < order:
            places = _places(words, places, size, levels[-1].keys, folder)
    return levels


class _Words:
    """A text in the numbers of another vocabulary."""

    def __init__(self, text: np.ndarray, numbers: np.ndarray) -> None:
        self._text = text
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._text)

    def __getitem__(self, chunk: slice) -> np.ndarray:
        return self._numbers[self._text[chunk]]


def _chunks(length: int, begin: int) -> Iterator[slice]:
    return (slice(k, min(k + CHUNK, length)) for k in range(begin, length, CHUNK))


def _keys(
    words: _Words, places: "np.ndarray | _Words", chunk: slice, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The keys of the n-grams that end in a chunk, and which words end one.

    places: where the shorter n-gram that ends at each word is in its level.
    """
    last = words[chunk]
    before = places[slice(chunk.start - 1, chunk.stop - 1)].astype(np.int64)
    inside = (before != NOWHERE) & (last != START_NUMBER)
    return before[inside] * size + last[inside], inside


def _places(
    words: _Words, places: "np.ndarray | _Words", size: int, keys: np.ndarray, folder: Path
) -> np.ndarray:
    """Where the n-gram that ends at each word is among `keys`, on the disk."""
    kind = np.int32 if len(keys) < 2**31 else np.int64
    length = len(words)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        np.array([NOWHERE], kind).tofile(file)
        for chunk in _chunks(length, 1):
            own, inside = _keys(words, places, chunk, size)
            distinct, which = np.unique(own, return_inverse=True)
            found = np.full(len(inside), NOWHERE, kind)
            found[inside] = np.searchsorted(keys, distinct)[which]
            found.tofile(file)
    return np.memmap(file.name, kind, "r")


class _Runs:
    """Sorted keys with their counts, on the disk, to be merged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[Counted] = []

    def add(self, keys: np.ndarray, counts: np.ndarray) -> None:
        """Take keys, each once and sorted, and their counts."""
        self._runs.append(self._stored([(keys, counts)]))

    def merged(self) -> Counted:
        """All of them in one; as many keys at a time as fit."""
        if len(self._runs) == 1:
            return self._runs[0]
        return self._stored(self._merged_parts())

    def _merged_parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        total = sum(len(run.keys) for run in self._runs)
        parts = -(-total // CHUNK)
        sample = np.sort(np.concatenate([run.keys[::SAMPLED] for run in self._runs]))
        borders = sample[np.arange(1, parts) * len(sample) // max(parts, 1)]
        cuts = [[0, *np.searchsorted(run.keys, borders), len(run.keys)] for run in self._runs]
        for part in range(parts):
            slices = [slice(own[part], own[part + 1]) for own in cuts]
            pairs = list(zip(self._runs, slices, strict=True))
            keys = np.concatenate([run.keys[own] for run, own in pairs])
            counts = np.concatenate([run.counts[own] for run, own in pairs])
            yield _summed(keys, counts)

    def _stored(self, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Counted:
        with (
            tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as keys,
            tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as counts,
        ):
            for own_keys, own_counts in pairs:
                own_keys.astype(np.int64).tofile(keys)
                own_counts.astype(np.int64).tofile(counts)
        return Counted(*(_stored_array(file.name) for file in (keys, counts)))


def _stored_array(path: str) -> np.ndarray:
    """The numbers of a file."""
    if not Path(path).stat().st_size:  # nothing cannot be mapped
        return np.zeros(0, np.int64)
    return np.memmap(path, np.int64, "r")


def _summed(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys, sorted, each with the sum of its counts."""
    order = np.argsort(keys, kind="stable")  # which merges what is sorted already
    keys, counts = keys[order], counts[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.add.reduceat(counts, first) if len(first) else counts
