"""N-gram models as guides of a beam search: over words that labels spell, or over the labels."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from asr.decode.alphabet import SEPARATOR, Alphabet
from asr.decode.lm.fusion import CACHED_ROWS, CachedRows, Fusion
from asr.decode.lm.language_model import Weights, check_alphabet
from asr.decode.lm.lexicon import EDGE, NO_WORD, ROOT, Spelling
from asr.decode.lm.ngrams import END, MARKS, NOWHERE, SPACES, UNKNOWN, Context, NgramModel
from asr.decode.lm.pronounced import PronouncedModel

logger = logging.getLogger(__name__)
END_NUMBER, UNKNOWN_NUMBER = MARKS.index(END), MARKS.index(UNKNOWN)


def language_model(alphabet: Alphabet, model: NgramModel, weights: Weights) -> Fusion:
    """Return the way to use an n-gram with these labels.

    Its own vocabulary decides: if it has single characters only, or the labels are whole words,
    the labels are its words; otherwise its words are spelled by the labels.
    """
    model = in_the_case_of(alphabet, model)
    if model.of_characters or not alphabet.spells:
        return LabelModel(alphabet, model, weights)
    return WordModel(alphabet, model, weights)


def in_the_case_of(alphabet: Alphabet, model: NgramModel) -> NgramModel:
    """Lower the words of a model if the labels have no capitals, as those of word lists are."""
    labels = (label for k, label in enumerate(alphabet.labels) if k != alphabet.blank)
    letters = model.lexicon.letters
    if letters == letters.lower() or any(label != label.lower() for label in labels):
        return model
    lowered = model.lowered()
    if lowered:
        capitals = sum(word != word.lower() for word in model.vocabulary)
        logger.warning(
            f"{model.path}: {capitals} of its words have capitals and are read in lower case, "
            "like the labels of the acoustic model"
        )
    return lowered or model


class WordState(NamedTuple):
    """Where a word n-gram is: what came before, and what is known of the word being spelled.

    node: of the lexicon, or `NOWHERE` in a word that is not in it; run: of its last letters;
    spelled: log p of its letters as a spelling, while it may still be a word of the lexicon.
    """

    context: Context
    node: int
    run: int
    spelled: float


class Node(NamedTuple):
    """A node of the lexicon in the labels of a model.

    below: what follows it, by their labels; row: what each of these labels adds, (labels,), -inf
    for others; word: the number of the word that ends here; begun: what its letters have added.
    """

    below: dict[int, int]
    row: np.ndarray
    word: int
    begun: float


class WordModel:
    """An n-gram of words for labels that are characters.

    A word of the lexicon counts alpha * log p(word | context) + beta; a part of it counts as if the
    best word that begins so followed, whatever the context. Any other word counts as <unk> with its
    spelling, alpha * (log p(<unk> | context) + log p(letters)) + beta + oov, as soon as its letters
    leave the lexicon.
    """

    def __init__(
        self, alphabet: Alphabet, model: NgramModel | PronouncedModel, weights: Weights
    ) -> None:
        lexicon = model.lexicon
        sayable = {name for k, name in enumerate(alphabet.labels) if k != alphabet.blank}
        check_alphabet(model.path, lexicon.spelt_with(sayable - {SEPARATOR}), model.known)
        self._weights = weights
        self._model = model
        self._lexicon, self._spelling = lexicon, lexicon.spelling
        self._blank, self._separator = alphabet.blank, alphabet.separator
        # A label that no word of the lexicon has is spelled like the edge of a word.
        letters = {letter: k for k, letter in enumerate(lexicon.letters, start=1)}
        letters[SEPARATOR] = EDGE
        self._letters = np.array([letters.get(name, EDGE) for name in alphabet.labels])
        self._labels = {
            letters[name]: k for k, name in enumerate(alphabet.labels) if name in letters
        }
        self._follow = lru_cache(CACHED_ROWS)(model.follow)
        self._node = lru_cache(CACHED_ROWS)(self._node_in_labels)

    def start(self) -> WordState:
        return WordState(self._model.start, ROOT, Spelling.START, 0.0)

    def _node_in_labels(self, number: int) -> Node:
        """What a search asks about a node again and again."""
        alpha, beta, _ = self._weights
        row = np.full(len(self._letters), -np.inf)
        if number == NOWHERE:
            return Node({}, row, NO_WORD, 0.0)
        begun = 0.0 if number == ROOT else alpha * self._model.look_ahead[number] + beta
        begin, end = int(self._lexicon.first[number]), int(self._lexicon.first[number + 1])
        letters = self._lexicon.letter[begin:end].tolist()
        below = {
            self._labels[letter]: place
            for place, letter in enumerate(letters, start=begin)
            if letter in self._labels
        }
        places = np.array([*below.values()], int)
        row[list(below)] = alpha * self._model.look_ahead[places] + beta - begun
        return Node(below, row, int(self._lexicon.word[number]), begun)

    def rows(self, states: Sequence[WordState]) -> np.ndarray:
        runs = np.array([state.run for state in states])[:, None] * self._spelling.letters
        rows = self._weights.alpha * self._spelling.log_p[runs + self._letters].astype(float)
        rows += np.array([self._left(state) for state in states])[:, None]
        inside = np.stack([self._node(state.node).row for state in states])
        rows = np.where(inside > -np.inf, inside, rows)
        if self._separator is not None:
            rows[:, self._separator] = [self._ended(state) for state in states]
        rows[:, self._blank] = 0.0
        return rows

    def _left(self, state: WordState) -> float:
        """What it adds that a word leaves the lexicon, if it has not; but for the next letter."""
        if state.node == NOWHERE:
            return 0.0
        alpha, beta, oov = self._weights
        unknown = self._follow(state.context, UNKNOWN_NUMBER)[0] + state.spelled
        return alpha * unknown + beta + oov - self._node(state.node).begun

    def _ended(self, state: WordState) -> float:
        """What it adds that the word ends."""
        if state.node == ROOT:
            return 0.0
        alpha, beta, _ = self._weights
        node = self._node(state.node)
        if node.word != NO_WORD:
            return alpha * self._follow(state.context, node.word)[0] + beta - node.begun
        edge = float(self._spelling.log_p[state.run * self._spelling.letters + EDGE])
        return alpha * edge + self._left(state)

    def _after(self, state: WordState) -> Context:
        """The context of the next word."""
        if state.node == ROOT:
            return state.context
        return self._follow(state.context, self._node(state.node).word or UNKNOWN_NUMBER)[1]

    def advance(self, state: WordState, label: int) -> WordState:
        if label == self._separator:
            return WordState(self._after(state), ROOT, Spelling.START, 0.0)
        letter = int(self._letters[label])
        run = self._spelling.after(state.run, letter)
        node = self._node(state.node).below.get(label, NOWHERE)
        if node == NOWHERE:
            return WordState(state.context, NOWHERE, run, 0.0)
        place = state.run * self._spelling.letters + letter
        spelled = state.spelled + float(self._spelling.log_p[place])
        return WordState(state.context, node, run, spelled)

    def final(self, state: WordState) -> float:
        end, _ = self._follow(self._after(state), END_NUMBER)
        return self._ended(state) + self._weights.alpha * end


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
        names = list(alphabet.labels)
        if alphabet.separator is not None:
            spaces = (space for space in SPACES if model.knows(space))
            names[alphabet.separator] = next(spaces, names[alphabet.separator])
        known = [model.lexicon.number(name) for name in names]
        spelt = sum(number is not None for number in known)
        check_alphabet(model.path, spelt, model.known)
        self._numbers = np.array([number or UNKNOWN_NUMBER for number in known])
        word = np.full(len(names), not alphabet.spells)
        if alphabet.separator is not None:
            word[alphabet.separator] = True
        self._bonus = weights.beta * word + weights.oov * (self._numbers == UNKNOWN_NUMBER)

    def start(self) -> LabelState:
        return LabelState(self._model.start, None)

    def _row(self, state: LabelState) -> np.ndarray:
        row = self._weights.alpha * self._model.row(state.context)[self._numbers] + self._bonus
        row[self._alphabet.blank] = 0.0
        return row

    def advance(self, state: LabelState, label: int) -> LabelState:
        _, context = self._model.follow(state.context, int(self._numbers[label]))
        return LabelState(context, state.context if label == self._alphabet.separator else None)

    def final(self, state: LabelState) -> float:
        alpha, beta, _ = self._weights
        last_word = beta * self._alphabet.spells
        if state.before is None:
            return alpha * self._model.follow(state.context, END_NUMBER)[0] + last_word
        separator = self._alphabet.separator
        assert separator is not None  # only a separator leaves a context behind
        undone = float(self.row(LabelState(state.before, None))[separator])
        return alpha * self._model.follow(state.before, END_NUMBER)[0] + last_word - undone
