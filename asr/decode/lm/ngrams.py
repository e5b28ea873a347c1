"""N-gram models as arrays: what follows a context, backing off to shorter ones.

Source of backing off: Katz, "Estimation of probabilities from sparse data" (IEEE ASSP 1987).
The n-grams of one length are a level. They are sorted by their context, which is an n-gram of the
level before, and then by their last word: what follows a context lies together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from asr.decode.base import DecodeError
from asr.decode.lm.lexicon import Lexicon, Pronunciations
from asr.decode.lm.values import Values

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
MARKS = (UNKNOWN, START, END)  # by their numbers; words have the numbers after them
SPACES = ("<space>", "|")  # how models of characters write the space, ours first
LN_10 = math.log(10.0)
NOWHERE = -1  # in place of an n-gram that the model does not have

Context = tuple[int, ...]
"""Places of its last word, of its last two words ... in their levels, `NOWHERE` where missing."""


@dataclass(frozen=True)
class Level:
    """The n-grams of one length.

    words: the number of the last word of each, (n,); of single words their own numbers.
    first: where what follows it begins in the next level, (n + 1,); None in the last level.
    log_p: log p(last word | those before it); backoff: log of the weight of the shorter context;
    natural logarithms. A context that never backs off has a weight of 0.
    """

    words: Values
    first: Values | None
    log_p: Values
    backoff: Values | None

    def __len__(self) -> int:
        return len(self.log_p)

    def after(self, place: int) -> tuple[int, int]:
        """Where what follows an n-gram begins and ends in the next level."""
        if self.first is None or place == NOWHERE:
            return 0, 0
        return int(self.first[place]), int(self.first[place + 1])


class NgramModel:
    """p(word | the words before it). Words are numbers, which the lexicon spells.

    pronunciations: how the words are said; None where that is not known.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        levels: Sequence[Level],
        path: str,
        look_ahead: Values | None = None,
        pronunciations: Pronunciations | None = None,
    ) -> None:
        self.lexicon = lexicon
        self.path = path
        self.pronunciations = pronunciations
        self.levels = levels
        self.order = len(levels)
        self._look_ahead = look_ahead
        if not self.known:
            raise DecodeError(f"{path}: has no word; build it from a text with words in it")

    @cached_property
    def look_ahead(self) -> Values:
        """The best log p, without a context, of the words below each node of the lexicon."""
        if self._look_ahead is not None:
            return self._look_ahead
        return self.lexicon.best_below(self.levels[0].log_p[:])

    @property
    def vocabulary(self) -> list[str]:
        """The words that it knows, by their numbers, without the marks."""
        return self.lexicon.words

    @property
    def of_characters(self) -> bool:
        """Whether all of its words are single characters."""
        longest = max(map(len, SPACES))
        return self.lexicon.depth <= longest and all(
            len(word) == 1 or word in SPACES for word in self.vocabulary
        )

    def lowered(self) -> "NgramModel | None":
        """The same model with its words in lower case; None if some differ in case only."""
        words = [word.lower() for word in self.vocabulary]
        if len(set(words)) < len(words):
            return None
        return NgramModel(Lexicon.build(words, len(MARKS)), self.levels, self.path)

    @property
    def known(self) -> int:
        """How many words it knows."""
        return len(self.levels[0]) - len(MARKS)

    @property
    def start(self) -> Context:
        """The context at the beginning of a sentence."""
        return () if self.order == 1 else (MARKS.index(START),)

    def number(self, word: str) -> int | None:
        """The number of a word or of a mark; None if the model does not know it."""
        return MARKS.index(word) if word in MARKS else self.lexicon.number(word)

    def knows(self, word: str) -> bool:
        """Whether a word is in the vocabulary. The end of a sentence always is."""
        return word != UNKNOWN and self.number(word) is not None

    def score(self, context: Context, word: str | None) -> tuple[float, Context]:
        """Return log p(word | context) and the context of the word after it.

        None, as any word that the model does not know, has the probability of <unk>.
        """
        number = None if word is None else self.number(word)
        return self.follow(context, number or MARKS.index(UNKNOWN))

    def follow(self, context: Context, word: int) -> tuple[float, Context]:
        """Return log p of a word by its number, and the context after it."""
        log_p = self.levels[0].log_p[word]
        following = [word]
        for level, longer, place in zip(self.levels, self.levels[1:], context, strict=False):
            begin, end = level.after(place)
            found = begin + int(longer.words[begin:end].searchsorted(word))
            if found < end and longer.words[found] == word:
                log_p = longer.log_p[found]
                following.append(found)
            else:
                log_p += self._backoff(level, place)
                following.append(NOWHERE)
        return float(log_p), self._context(following)

    def row(self, context: Context) -> np.ndarray:
        """Return log p(word | context) of all words by their numbers, (words,)."""
        row = np.array(self.levels[0].log_p[:], float)
        for level, longer, place in zip(self.levels, self.levels[1:], context, strict=False):
            begin, end = level.after(place)
            row += self._backoff(level, place)
            row[longer.words[begin:end]] = longer.log_p[begin:end]
        return row

    def words_at(self, length: int, places: np.ndarray) -> list[np.ndarray]:
        """The words of n-grams by their places in `levels[length]`, each an array like `places`."""
        words: list[np.ndarray] = []
        for k in range(length, 0, -1):
            first = self.levels[k - 1].first
            assert first is not None  # only the last level has none
            words.append(self.levels[k].words[places])
            places = np.searchsorted(first[:], places, "right") - 1
        return [places, *words[::-1]]

    @staticmethod
    def _backoff(level: Level, place: int) -> float:
        return 0.0 if place == NOWHERE or level.backoff is None else level.backoff[place]

    def _context(self, places: list[int]) -> Context:
        """A context without the longer ends that the model does not have."""
        del places[self.order - 1 :]
        while places and places[-1] == NOWHERE:
            places.pop()
        return tuple(places)


Ngrams = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The numbers of their words (count, n), log p (count,) and log backoff weights (count,)."""


def assemble(words: Sequence[str], ngrams: Sequence[Ngrams], path: str) -> NgramModel:
    """Return a model of n-grams of 1, 2 ... words, each in any order.

    words: the vocabulary by number, after the MARKS; each of them is one of the single words. A
    context that is not among the n-grams gets the probability that it has by backing off. Raises
    DecodeError if an n-gram is there twice.
    """
    size = len(words) + len(MARKS)
    places = [numbers[:, 0].astype(np.int64) for numbers, _, _ in ngrams]  # of their first words
    levels = [_first_level(size, *ngrams[0])]
    _check_distinct(places[0], 1, path)
    for n in range(1, len(ngrams)):
        keys = [places[m] * size + ngrams[m][0][:, n] for m in range(n, len(ngrams))]
        distinct = np.unique(np.concatenate(keys))
        places[n:] = [np.searchsorted(distinct, own) for own in keys]
        _check_distinct(places[n], n + 1, path)
        log_p, backoff = np.full(len(distinct), np.nan), np.zeros(len(distinct))
        log_p[places[n]], backoff[places[n]] = ngrams[n][1:]
        first = np.searchsorted(distinct, np.arange(len(levels[-1]) + 1) * size)
        levels[-1] = replace(levels[-1], first=first)
        levels.append(Level(distinct % size, None, log_p, backoff))
    model = NgramModel(Lexicon.build(words, len(MARKS)), levels, path)
    _fill_in(model)
    return model


def _check_distinct(places: np.ndarray, length: int, path: str) -> None:
    if len(np.unique(places)) < len(places):
        raise DecodeError(f"{path}: has one of its {length}-grams twice; get a whole ARPA file")


def _first_level(size: int, numbers: np.ndarray, own: np.ndarray, weights: np.ndarray) -> Level:
    """The single words; a mark that is not among them is as likely as the rarest word."""
    rarest = own[numbers[:, 0] >= len(MARKS)].min(initial=0.0)
    log_p, backoff = np.full(size, rarest), np.zeros(size)
    log_p[numbers[:, 0]], backoff[numbers[:, 0]] = own, weights
    return Level(np.arange(size), None, log_p, backoff)


def _fill_in(model: NgramModel) -> None:
    """Give contexts without a probability the one that they have by backing off."""
    for length, level in enumerate(model.levels):
        log_p = np.asarray(level.log_p)
        missing = np.flatnonzero(np.isnan(log_p))
        for place, *before, last in zip(missing, *model.words_at(length, missing), strict=True):
            context: Context = ()
            for word in before:
                context = model.follow(context, int(word))[1]
            backoff = model.levels[length - 1].backoff
            assert backoff is not None  # only the last level has none
            shorter, _ = model.follow(context[: length - 1], int(last))
            log_p[place] = backoff[context[length - 1]] + shorter
