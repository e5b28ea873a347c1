"""N-grams in arrays, while a model is made of them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from asr.decode.lm.lexicon import Lexicon
from asr.decode.lm.ngrams import MARKS, NOWHERE, Level, NgramModel

LEAST_MASS = 1e-9  # of probability, where rounding would leave nothing or less


@dataclass(frozen=True)
class Grams:
    """The n-grams of one length, sorted by context and last word; all arrays are (n,).

    contexts: the place of the context among those that are a word shorter, 0 for single words;
    words: the number of the last word; log_p, backoff: as in a Level; share: how often it occurs
    for each word of the text.
    """

    contexts: np.ndarray
    words: np.ndarray
    log_p: np.ndarray
    backoff: np.ndarray
    share: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    def keys(self, size: int) -> np.ndarray:
        """Ascending numbers of the n-grams, of words below `size`."""
        return self.contexts.astype(np.int64) * size + self.words

    def kept(self, keep: np.ndarray) -> "Grams":
        """Those that `keep`, bool (n,), says."""
        fields = (self.contexts, self.words, self.log_p, self.backoff, self.share)
        return Grams(*(field[keep] for field in fields))

    def sums(self, values: np.ndarray, contexts: int) -> np.ndarray:
        """The sum of values over all that follows each context, (contexts,)."""
        return np.bincount(self.contexts, values, contexts)


def place_type(count: int) -> type[np.signedinteger]:
    """The type of places among so many n-grams: half the memory where that is enough."""
    return np.int32 if count < 2**31 else np.int64


def find(keys: np.ndarray, contexts: np.ndarray, words: np.ndarray, size: int) -> np.ndarray:
    """Where n-grams are, by the places of their contexts; `NOWHERE` if they are not."""
    kind = place_type(len(keys))
    if not len(keys):
        return np.full(len(words), NOWHERE, kind)
    wanted = contexts.astype(np.int64) * size + words
    places = np.searchsorted(keys, wanted).astype(kind)
    places[places == len(keys)] = 0
    places[(keys[places] != wanted) | (contexts == NOWHERE)] = NOWHERE
    return places


@dataclass(frozen=True)
class Model:
    """An n-gram model in the making: its words by number, after the MARKS, and its levels.

    The numbers of a level may be replaced; its n-grams stay what they are.
    """

    vocabulary: list[str]
    levels: list[Grams]

    @property
    def size(self) -> int:
        """How many numbers of words there are."""
        return len(self.vocabulary) + len(MARKS)

    @cached_property
    def ends(self) -> list[list[np.ndarray]]:
        """For each level: where the last word, the last two words ... of its n-grams are.

        The whole n-gram is not among them.
        """
        ends: list[list[np.ndarray]] = [[]]
        keys: list[np.ndarray] = []
        for level in self.levels[1:]:
            keys += [below.keys(self.size) for below in self.levels[1 : len(ends)][len(keys) :]]
            shorter = [
                find(below, own[level.contexts], level.words, self.size)
                for below, own in zip(keys, ends[-1], strict=True)
            ]
            ends.append([level.words, *shorter])
        return ends

    def lower(self, n: int) -> np.ndarray:
        """log p(last word | context less its first word) of the n-grams of level n >= 1."""
        level, ends, before = self.levels[n], self.ends[n], self.ends[n - 1]
        log_p = self.levels[0].log_p[level.words]
        for k in range(1, n):
            places, contexts = ends[k], before[k - 1][level.contexts]
            log_p += np.where(contexts == NOWHERE, 0.0, self.levels[k - 1].backoff[contexts])
            np.copyto(log_p, self.levels[k].log_p[places], where=places != NOWHERE)
        return log_p

    def where(self, keep: Sequence[np.ndarray]) -> "Model":
        """The model with the n-grams that `keep`, bool (n,) for each level, says.

        The context of one that is kept must be kept.
        """
        levels = [self.levels[0].kept(keep[0])]
        for level, own, below in zip(self.levels[1:], keep[1:], keep, strict=False):
            kept = level.kept(own)
            moved = np.cumsum(below, dtype=kept.contexts.dtype) - 1
            levels.append(replace(kept, contexts=moved[kept.contexts]))
        return Model(self.vocabulary, levels)

    def masses(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The probability that contexts leave to words that do not follow them in level n >= 1.

        By their own level, and by the shorter contexts; at least `LEAST_MASS`.
        """
        level, contexts = self.levels[n], len(self.levels[n - 1])
        own = 1.0 - level.sums(np.exp(level.log_p), contexts)
        lower = 1.0 - level.sums(np.exp(self.lower(n)), contexts)
        return np.maximum(own, LEAST_MASS), np.maximum(lower, LEAST_MASS)

    def normalise(self) -> None:
        """Set the weights for which what follows each context adds up to one."""
        for n in range(1, len(self.levels)):
            own, lower = self.masses(n)
            self.levels[n - 1] = replace(self.levels[n - 1], backoff=np.log(own / lower))

    def finished(self, path: str) -> NgramModel:
        """The model as it is used."""
        levels: list[Level] = []
        for level, following in itertools.zip_longest(self.levels, self.levels[1:]):
            first, backoff = None, None
            if following is not None:
                first = np.searchsorted(following.contexts, np.arange(len(level) + 1))
                backoff = level.backoff
            levels.append(Level(level.words, first, level.log_p, backoff))
        return NgramModel(Lexicon.build(self.vocabulary, len(MARKS)), levels, path)
