"""Pronunciations to words: which of those that sound alike is meant, how others are spelled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr.decode.alphabet import Alphabet
from asr.decode.confidence import REACH_SECONDS, readings, stretches
from asr.decode.lm.lexicon import Pronunciations
from asr.decode.lm.ngram import UNKNOWN_NUMBER
from asr.decode.lm.ngrams import Context, NgramModel

ALIKE = 8  # hypotheses that are followed from word to word
LETTERS_WEIGHT = 0.5  # of what the letters say, beside the language model


class Said(NamedTuple):
    """A pronunciation, from frame `start` to `end` (exclusive) of an utterance."""

    sounds: str
    start: int
    end: int


class Written(NamedTuple):
    """The words of a hypothesis, its score, and the context after them."""

    score: float
    context: Context
    words: tuple[str, ...]


class Writer:
    """Writes what was said in words.

    Of words that sound alike the language model, and how well the letters that the model reads at
    the same time spell them, choose. What is in no lexicon is written as the letters spell it.
    """

    def __init__(
        self, letters: Alphabet, model: NgramModel, said: Pronunciations, alpha: float
    ) -> None:
        self._letters = letters
        self._model = model
        self._said = said
        self._alpha = alpha
        self._reach = round(REACH_SECONDS / letters.frame_seconds)

    def write(
        self, said: Sequence[Said], log_probs: np.ndarray, settled: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Return a text for each of the words said; it may be "" for one that is in no lexicon.

        log_probs: of the letters, (frames, labels); settled: how the first of them are written.
        """
        if len(said) == len(settled):
            return tuple(settled)
        places = [(word.start, word.end) for word in said]
        frames = stretches(places, len(log_probs), self._reach)
        best = [Written(0.0, self._context(settled), tuple(settled))]
        for word, place in [*zip(said, frames, strict=True)][len(settled) :]:
            choices = self._choices(word.sounds, log_probs[place[0] : place[1]])
            grown = [self._grown(text, *choice) for text in best for choice in choices]
            best = sorted(grown, key=lambda text: -text.score)[:ALIKE]
        return best[0].words

    def _context(self, words: Sequence[str]) -> Context:
        context = self._model.start
        for word in words:
            context = self._model.score(context, word if self._model.knows(word) else None)[1]
        return context

    def _grown(self, text: Written, number: int, word: str, fit: float) -> Written:
        log_p, context = self._model.follow(text.context, number)
        return Written(text.score + self._alpha * log_p + fit, context, (*text.words, word))

    def _choices(self, sounds: str, log_probs: np.ndarray) -> list[tuple[int, str, float]]:
        """The words that sound so: their numbers, what they are, and how well the letters fit."""
        number = self._said.lexicon.number(sounds)
        if number is None:
            return [(UNKNOWN_NUMBER, self._spelled(log_probs), 0.0)]
        lexicon = self._model.lexicon
        alike = [(word, lexicon.word_of(word)) for word in self._said.alike(number)]
        if len(alike) == 1:
            return [(*alike[0], 0.0)]
        fits = self._fits([word for _, word in alike], log_probs)
        return [(*word, fit) for word, fit in zip(alike, fits, strict=True)]

    def _fits(self, words: Sequence[str], log_probs: np.ndarray) -> list[float]:
        spelled = [self._letters.spell(word) for word in words]
        sayable = [labels for labels in spelled if labels]
        if not sayable or not len(log_probs):
            return [0.0] * len(words)
        frames = [(0, len(log_probs))] * len(sayable)
        blank, separator = self._letters.blank, self._letters.separator
        read = iter(readings(log_probs, frames, sayable, blank, separator))
        least = np.log(np.finfo(np.float32).tiny)
        fits = (max(float(next(read)), least) if labels else least for labels in spelled)
        return [LETTERS_WEIGHT * fit for fit in fits]

    def _spelled(self, log_probs: np.ndarray) -> str:
        """The letters of the best path."""
        best = log_probs.argmax(axis=1)
        begun = np.flatnonzero(np.diff(best, prepend=-1))
        labels = [label for label in best[begun].tolist() if label != self._letters.blank]
        return self._letters.text(labels)
