"""Recurrent language models in the beam search: one .onnx file, run by onnxruntime.

Shallow fusion (Gulcehre et al., 2015): score = log p(text | sound) + alpha * log p(text).
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from asr.card import CardError, LanguageCard
from asr.decode.alphabet import SEPARATOR, Alphabet
from asr.decode.lm.language_model import Weights, check_alphabet
from asr.decode.lm.ngrams import END, SPACES
from asr.runtime.session import LOG_PROBS, NEXT, State, open_session

LABELS = "labels"
BOTH_ENDS = 0  # the label of the beginning and of the end of a text


class History:
    """A text so far. What follows it is computed when first asked for, and kept.

    before: the text without its last label; None if there is none, or if the last label is one
    that the model does not know.
    """

    __slots__ = ("_grown", "before", "label", "log_probs", "state")

    def __init__(
        self,
        before: "History | None",
        label: int,
        state: State | None = None,
        log_probs: np.ndarray | None = None,
    ) -> None:
        self.before = before
        self.label = label
        self.state = state
        self.log_probs = log_probs
        self._grown: dict[int, History] = {}

    def grow(self, label: int) -> "History":
        """The text with one more label; the same object every time, not to compute it again."""
        if label not in self._grown:
            self._grown[label] = History(self, label)
        return self._grown[label]

    def twin(self) -> "History":
        """A text after which the same follows."""
        return History(None, self.label, self.state, self.log_probs)


class NeuralModel:
    """p(label | all labels before it), with the interface of an NgramModel of these labels.

    vocabulary: the labels, without the mark of both ends.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        self._session = open_session(Path(path))
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.card = LanguageCard.from_metadata(metadata, self.path)
        for mismatch in _mismatches(self._session, self.card):
            raise CardError(f"{path}: its graph and its card differ ({mismatch}); export it again")
        self.vocabulary = list(self.card.labels[1:])
        self._numbers = {label: k for k, label in enumerate(self.card.labels)} | {END: BOTH_ENDS}
        self._states = {node.name: node.shape[1:] for node in self._session.get_inputs()[1:]}
        self._outputs = [LOG_PROBS, *(NEXT + name for name in self._states)]
        zeros = {name: np.zeros((1, *shape), np.float32) for name, shape in self._states.items()}
        log_probs, state = self.step(np.full((1, 1), BOTH_ENDS), zeros)
        self._empty = History(None, BOTH_ENDS, _row(state, 0), log_probs[0])

    def __reduce__(self) -> tuple[type["NeuralModel"], tuple[str]]:
        return NeuralModel, (self.path,)  # other processes open the file themselves

    @property
    def of_characters(self) -> bool:
        """Whether all of its labels are single characters."""
        return all(len(label) == 1 for label in self.vocabulary)

    @property
    def start(self) -> History:
        """The empty text; a new one each time, so that nothing is kept for longer than a text."""
        return self._empty.twin()

    def number(self, word: str) -> int | None:
        """The number of a label; None if the model does not know it."""
        return self._numbers.get(SEPARATOR if word in SPACES else word)

    def knows(self, word: str) -> bool:
        """Whether a word is one of its labels."""
        return self.number(word) is not None

    def score(self, context: History, word: str | None) -> tuple[float, History]:
        """Return log p(word | context) and the context of the word after it.

        None is a word that the model does not know: as likely as the least likely label, and
        nothing follows from it.
        """
        log_probs = self.log_probs([context])[0]
        number = None if word is None else self.number(word)
        if number is None:
            return float(log_probs.min()), context.twin()
        return float(log_probs[number]), context.grow(number)

    def log_probs(self, texts: Sequence[History]) -> np.ndarray:
        """Return what follows each text, float32 (texts, labels), all that is new in one run."""
        new = list(dict.fromkeys(text for text in texts if text.log_probs is None))
        if new:
            self._compute(new)
        return np.stack([text.log_probs for text in texts])  # pyright: ignore

    def _compute(self, texts: Sequence[History]) -> None:
        """Fill in texts whose beginnings are computed, as those of growing texts always are."""
        before: list[Any] = [text.before and text.before.state for text in texts]
        state = {name: np.stack([own[name] for own in before]) for name in self._states}
        log_probs, following = self.step(np.array([[text.label] for text in texts]), state)
        for k, text in enumerate(texts):
            text.log_probs, text.state = log_probs[k].copy(), _row(following, k)

    def step(self, labels: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Read one label of each text, int64 (batch, 1), in the states (batch, ...).

        Returns log-probabilities of what follows, float32 (batch, labels), and the next states.
        """
        arrays: Any = self._session.run(self._outputs, {LABELS: labels, **state})
        return arrays[0], dict(zip(self._states, arrays[1:], strict=True))


def _row(state: State, k: int) -> State:
    """The state of one text of a batch, which must not keep that of the others alive."""
    return {name: array[k].copy() for name, array in state.items()}


def _mismatches(session: ort.InferenceSession, card: LanguageCard) -> Iterator[str]:
    """Say where the graph breaks the contract that its card promises."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    expected = [LOG_PROBS, *(NEXT + node.name for node in inputs[1:])]
    if not inputs or inputs[0].name != LABELS or inputs[0].type != "tensor(int64)":
        yield "the first input must be labels, int64 [batch, 1]"
    elif [node.name for node in outputs] != expected:
        yield f"its outputs must be {', '.join(expected)}"
    elif outputs[0].shape[1:] != [len(card.labels)]:
        yield f"log_probs must be [batch, {len(card.labels)}], the labels of the card"
    elif any(a.shape[1:] != b.shape[1:] for a, b in zip(inputs[1:], outputs[1:], strict=True)):
        yield "the shapes of its states change"


class NeuralGuide:
    """A `Fusion` of a language model whose labels are those of the acoustic model.

    It counts as an n-gram of labels does (`LabelModel`); all hypotheses of a frame are one run.
    """

    def __init__(self, alphabet: Alphabet, model: NeuralModel, weights: Weights) -> None:
        self._alphabet = alphabet
        self._model = model
        self._alpha, self._beta, oov = weights
        numbers = [model.number(label) for label in alphabet.labels]
        known = len({*numbers} - {None, BOTH_ENDS})
        check_alphabet(model.path, known, len(model.vocabulary))
        self._numbers = numbers
        self._columns = np.array([number or BOTH_ENDS for number in numbers])
        self._unknown = np.array([number is None for number in numbers])
        self._bonus = oov * self._unknown
        if alphabet.separator is not None:
            self._bonus[alphabet.separator] += self._beta
        elif not alphabet.spells:
            self._bonus += self._beta

    def start(self) -> History:
        return self._model.start

    def rows(self, states: Sequence[History]) -> np.ndarray:
        log_probs = self._model.log_probs(states).astype(float)
        least = log_probs.min(axis=1, keepdims=True)
        rows = np.where(self._unknown, least, log_probs[:, self._columns])
        rows = self._alpha * rows + self._bonus
        rows[:, self._alphabet.blank] = 0.0
        return rows

    def advance(self, state: History, label: int) -> History:
        number = self._numbers[label]
        return state.twin() if number is None else state.grow(number)

    def final(self, state: History) -> float:
        separator = self._alphabet.separator
        if state.before and separator is not None and state.label == self._numbers[separator]:
            return self.final(state.before) - float(self.rows([state.before])[0, separator])
        end = float(self._model.log_probs([state])[0, BOTH_ENDS])
        return self._alpha * end + self._beta * self._alphabet.spells
