"""What guides a beam search besides the sound: language models, word lists, hotwords.

A `Fusion` adds a log-score to a hypothesis whenever it grows by a label, and one when it ends. It
sees the labels that make up the text, with exactly one separator between two words and at most one
at the end; whether or not the last separator is there must not change the sum.
"""

import functools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.lm.arpa import END, SPACES, Context, NgramModel

CACHED_ROWS = 2**14
ROOT = 0
LEAST_KNOWN = 0.5  # the share of a language model's words that the labels must be able to spell


class Fusion(Protocol):
    """States are immutable. Forbidden growth and forbidden ends score -inf."""

    def start(self) -> Any:
        """The state of the empty text."""
        ...

    def rows(self, states: Sequence[Any], /) -> np.ndarray:
        """What growing by each label adds, (states, labels); 0 for the blank."""
        ...

    def advance(self, state: Any, label: int, /) -> Any:
        """The state after `label`."""
        ...

    def final(self, state: Any, /) -> float:
        """What ending the text here adds."""
        ...


class LanguageModel(Protocol):
    """What says how likely the next word is. The type of contexts is its own affair."""

    path: str
    vocabulary: list[str]

    @property
    def of_characters(self) -> bool:
        """Whether all of its words are single characters."""
        ...

    @property
    def start(self) -> Any:
        """The context at the beginning of a sentence."""
        ...

    def knows(self, word: str, /) -> bool:
        """Whether a word is in the vocabulary."""
        ...

    def score(self, context: Any, word: str | None, /) -> tuple[float, Any]:
        """log p(word | context), None being a word that is not known, and the next context."""
        ...


def sentence_scores(model: LanguageModel, words: Iterable[str]) -> Iterator[tuple[float, bool]]:
    """Yield log p of each word of a sentence, then of its end, and whether the model knows it."""
    context = model.start
    for word in (*words, END):
        known = model.knows(word)
        score, context = model.score(context, word if known else None)
        yield score, known


class CachedRows:
    """Computes the row of a hashable state once."""

    def __init__(self) -> None:
        self.row = functools.lru_cache(CACHED_ROWS)(self._row)

    def _row(self, state: Any) -> np.ndarray:
        raise NotImplementedError

    def rows(self, states: Sequence[Hashable]) -> np.ndarray:
        return np.stack([self.row(state) for state in states])


class Sum:
    """Several guides at once."""

    def __init__(self, parts: Sequence[Fusion]) -> None:
        self._parts = parts

    def start(self) -> tuple[Any, ...]:
        return tuple(part.start() for part in self._parts)

    def rows(self, states: Sequence[tuple[Any, ...]]) -> np.ndarray:
        columns = zip(*states, strict=True)
        rows = (part.rows(own) for part, own in zip(self._parts, columns, strict=True))
        return functools.reduce(np.add, rows)

    def advance(self, state: tuple[Any, ...], label: int) -> tuple[Any, ...]:
        return tuple(part.advance(own, label) for part, own in zip(self._parts, state, strict=True))

    def final(self, state: tuple[Any, ...]) -> float:
        return sum(part.final(own) for part, own in zip(self._parts, state, strict=True))


class Trie:
    """Words by their label numbers. Nodes are numbers, `ROOT` is the first."""

    def __init__(self) -> None:
        self.children: list[dict[int, int]] = [{}]
        self.words: list[str | None] = [None]

    def add(self, labels: Sequence[int], word: str) -> None:
        """Add a word."""
        node = ROOT
        for label in labels:
            node = self.children[node].setdefault(label, len(self.children))
            if node == len(self.children):
                self.children.append({})
                self.words.append(None)
        self.words[node] = word


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


class Weights(NamedTuple):
    """How a language model counts: score = alpha * log p + beta * words + oov * unknown words."""

    alpha: float
    beta: float
    oov: float


class WordState(NamedTuple):
    """Where a word n-gram is: what came before, and the node of the word that is being spelled."""

    context: Context
    node: int


class WordModel(CachedRows):
    """An n-gram of words for labels that are characters: a word counts when it is complete.

    A word that the model does not know costs `oov` as soon as its spelling leaves the vocabulary.
    """

    OUTSIDE = -1  # the node of a word that is not in the vocabulary

    def __init__(self, alphabet: Alphabet, model: NgramModel, weights: Weights) -> None:
        super().__init__()
        self._alphabet = alphabet
        self._model = model
        self._weights = weights
        self._trie = Trie()
        spelt = [(alphabet.spell(word), word) for word in model.vocabulary]
        check_alphabet(model, sum(labels is not None for labels, _ in spelt))
        for labels, word in spelt:
            if labels is not None:
                self._trie.add(labels, word)

    def start(self) -> WordState:
        return WordState(self._model.start, ROOT)

    def _row(self, state: WordState) -> np.ndarray:
        row = np.zeros(len(self._alphabet.labels))
        if state.node != self.OUTSIDE:
            row += self._weights.oov
            row[list(self._trie.children[state.node])] = 0.0
            row[self._alphabet.blank] = 0.0
        if self._alphabet.separator is not None:
            row[self._alphabet.separator] = self._complete(state)[0]
        return row

    def _complete(self, state: WordState) -> tuple[float, Context]:
        """What the end of the word that is being spelled adds, and the context after it."""
        if state.node == ROOT:
            return 0.0, state.context
        word = None if state.node == self.OUTSIDE else self._trie.words[state.node]
        score, context = self._model.score(state.context, word)
        left_now = word is None and state.node != self.OUTSIDE
        alpha, beta, oov = self._weights
        return alpha * score + beta + oov * left_now, context

    def advance(self, state: WordState, label: int) -> WordState:
        if label == self._alphabet.separator:
            return WordState(self._complete(state)[1], ROOT)
        if state.node == self.OUTSIDE:
            return state
        return WordState(state.context, self._trie.children[state.node].get(label, self.OUTSIDE))

    def final(self, state: WordState) -> float:
        score, context = self._complete(state)
        return score + self._weights.alpha * self._model.score(context, END)[0]


class LabelState(NamedTuple):
    """Where an n-gram of labels is; before: the context in front of a separator just seen."""

    context: Context
    before: Context | None


class LabelModel(CachedRows):
    """An n-gram whose words are the labels of the model: characters, or whole words."""

    def __init__(self, alphabet: Alphabet, model: NgramModel, weights: Weights) -> None:
        super().__init__()
        self._alphabet = alphabet
        self._model = model
        self._weights = weights
        known = set(model.vocabulary)
        space = next((space for space in SPACES if space in known), None)
        names = list(alphabet.labels)
        if alphabet.separator is not None:
            names[alphabet.separator] = space or names[alphabet.separator]
        self._names = [name if name in known else None for name in names]
        check_alphabet(model, len(known & set(names)))

    def start(self) -> LabelState:
        return LabelState(self._model.start, None)

    def _row(self, state: LabelState) -> np.ndarray:
        row = np.array([self._score(state.context, label) for label in range(len(self._names))])
        row[self._alphabet.blank] = 0.0
        return row

    def _score(self, context: Context, label: int) -> float:
        name = self._names[label]
        alpha, beta, oov = self._weights
        word = not self._alphabet.spells or label == self._alphabet.separator
        return alpha * self._model.score(context, name)[0] + beta * word + oov * (name is None)

    def advance(self, state: LabelState, label: int) -> LabelState:
        _, context = self._model.score(state.context, self._names[label])
        return LabelState(context, state.context if label == self._alphabet.separator else None)

    def final(self, state: LabelState) -> float:
        alpha, beta, _ = self._weights
        last_word = beta * self._alphabet.spells
        if state.before is None:
            return alpha * self._model.score(state.context, END)[0] + last_word
        separator = self._alphabet.separator
        assert separator is not None  # only a separator leaves a context behind
        undone = self._score(state.before, separator)
        return alpha * self._model.score(state.before, END)[0] + last_word - undone


def check_alphabet(model: LanguageModel, spelt: int) -> None:
    """Raise DecodeError if too little of a language model can be spelt with the labels."""
    if spelt < LEAST_KNOWN * len(model.vocabulary):
        raise DecodeError(
            f"{model.path}: the labels of the acoustic model spell only {spelt} of its "
            f"{len(model.vocabulary)} words; give a language model of the same alphabet and case"
        )


def language_model(alphabet: Alphabet, model: NgramModel, weights: Weights) -> Fusion:
    """Return the way to use an n-gram with these labels.

    Its own vocabulary decides: if it has single characters only, or the labels are whole words,
    the labels are its words; otherwise its words are spelled by the labels.
    """
    if model.of_characters or not alphabet.spells:
        return LabelModel(alphabet, model, weights)
    return WordModel(alphabet, model, weights)


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
