"""N-gram models as guides of a beam search: over words that labels spell, or over the labels."""

import logging
from typing import NamedTuple

import numpy as np

from asr.decode.alphabet import Alphabet
from asr.decode.lm.arpa import END, SPACES, Context, NgramModel
from asr.decode.lm.fusion import CachedRows, Fusion
from asr.decode.lm.language_model import Weights, check_alphabet
from asr.decode.lm.trie import ROOT, Trie

logger = logging.getLogger(__name__)


def language_model(alphabet: Alphabet, model: NgramModel, weights: Weights) -> Fusion:
    """Return the way to use an n-gram with these labels.

    Its own vocabulary decides: if it has single characters only, or the labels are whole words,
    the labels are its words; otherwise its words are spelled by the labels.
    """
    model = _in_the_case_of(alphabet, model)
    if model.of_characters or not alphabet.spells:
        return LabelModel(alphabet, model, weights)
    return WordModel(alphabet, model, weights)


def _in_the_case_of(alphabet: Alphabet, model: NgramModel) -> NgramModel:
    """Lower the words of a model if the labels have no capitals, as those of word lists are."""
    labels = (label for k, label in enumerate(alphabet.labels) if k != alphabet.blank)
    if any(label != label.lower() for label in labels):
        return model
    capitals = sum(word != word.lower() for word in model.vocabulary)
    lowered = model.lowered() if capitals else None
    if lowered:
        logger.warning(
            f"{model.path}: {capitals} of its words have capitals and are read in lower case, "
            "like the labels of the acoustic model"
        )
    return lowered or model


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
        spelt = 0
        for word in model.vocabulary:
            labels = alphabet.spell(word)
            if labels is not None and alphabet.separator not in labels:
                self._trie.add(labels, word)
                spelt += 1
        check_alphabet(model, spelt)

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
