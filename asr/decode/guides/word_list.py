"""Word lists: a beam search that recognises no other words."""

from collections.abc import Iterable

import numpy as np

from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.lm.fusion import CachedRows
from asr.decode.lm.trie import ROOT, Trie


class WordList(CachedRows):
    """Allows the words of a list only, in any order. The state is a node of their trie."""

    def __init__(self, alphabet: Alphabet, words: Iterable[str]) -> None:
        super().__init__()
        self._alphabet = alphabet
        self._trie = Trie()
        for word in words:
            self._trie.add(alphabet.must_spell(word, "word list"), word)
        if not self._trie.children[ROOT]:
            raise DecodeError("the word list is empty; give at least one word")

    def start(self) -> int:
        return ROOT

    def _row(self, node: int) -> np.ndarray:
        row = np.full(len(self._alphabet.labels), -np.inf)
        row[list(self._trie.children[node])] = 0.0
        row[self._alphabet.blank] = 0.0
        if self._alphabet.separator is not None and self._trie.words[node] is not None:
            row[self._alphabet.separator] = 0.0
        return row

    def advance(self, node: int, label: int) -> int:
        if label == self._alphabet.separator or not self._alphabet.spells:
            return ROOT
        return self._trie.children[node][label]

    def final(self, node: int) -> float:
        return 0.0 if node == ROOT or self._trie.words[node] is not None else -np.inf
