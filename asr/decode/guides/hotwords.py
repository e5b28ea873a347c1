"""Hotwords: words and phrases that a beam search prefers."""

from collections.abc import Iterable

import numpy as np

from asr.decode.alphabet import Alphabet
from asr.decode.lm.fusion import CachedRows

Match = tuple[int, ...] | None


class Hotwords(CachedRows):
    """Raises hypotheses that spell given phrases, by `boost` for each label that matches.

    The state is what of a phrase has been matched, from a word's beginning; None in a word that
    matches nothing. A boost is kept when the phrase is complete, word end included, and taken back
    when the match breaks before.
    """

    def __init__(self, alphabet: Alphabet, phrases: Iterable[str], boost: float) -> None:
        super().__init__()
        self._alphabet = alphabet
        end = () if alphabet.separator is None else (alphabet.separator,)
        self._phrases = {alphabet.must_spell(p, "hotword") + end for p in phrases}
        self._prefixes = {p[:k] for p in self._phrases for k in range(len(p) + 1)}
        self._pending = {match: boost * self._open_labels(match) for match in self._prefixes}
        self._boost = boost

    def start(self) -> Match:
        return ()

    def _open_labels(self, match: tuple[int, ...]) -> int:
        """How many labels of a match are not paid for by a complete phrase inside it."""
        complete = (k for k in range(len(match), 0, -1) if match[:k] in self._phrases)
        return len(match) - next(complete, 0)

    def _row(self, match: Match) -> np.ndarray:
        row = np.array([self._gain(match, label) for label in range(len(self._alphabet.labels))])
        row[self._alphabet.blank] = 0.0
        return row

    def _gain(self, match: Match, label: int) -> float:
        """What `label` adds: the change of what is pending, and what a complete phrase keeps."""
        grown = None if match is None else (*match, label)
        following = self.advance(match, label)
        kept = self._pending[grown[:-1]] + self._boost if grown in self._phrases else 0.0
        return self._held(following) - self._held(match) + kept

    def _held(self, match: Match) -> float:
        return 0.0 if match is None else self._pending[match]

    def advance(self, match: Match, label: int) -> Match:
        """The longest end of the text that begins a word and can become a phrase."""
        separates = not self._alphabet.spells or label == self._alphabet.separator
        if match is None:
            return () if separates else None
        grown = (*match, label)
        for first in range(len(grown)):
            begins = first == 0 or self._begins_word(grown, first)
            if begins and grown[first:] in self._prefixes:
                return grown[first:]
        return () if separates else None

    def _begins_word(self, labels: tuple[int, ...], position: int) -> bool:
        return not self._alphabet.spells or labels[position - 1] == self._alphabet.separator

    def final(self, match: Match) -> float:
        separator = self._alphabet.separator
        if separator is None or not match or match[-1] == separator:
            return -self._held(match)
        return self._gain(match, separator) - self._held(self.advance(match, separator))
