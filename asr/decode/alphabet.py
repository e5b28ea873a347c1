"""What the labels of a CTC model mean: letters, words, times, and how probable a word is."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from asr.card import UNCALIBRATED, Calibration, ModelCard
from asr.decode.base import DecodeError
from asr.decode.confidence import REACH_SECONDS, confidences, readings, stretches
from asr.events import Alternative, Character, Utterance, Word

SEPARATOR = " "
PHONEMES_BLANK = 0


class Span(NamedTuple):
    """A label on a path, in frames `start` to `end` (exclusive)."""

    label: int
    start: int
    end: int


@dataclass(frozen=True)
class Alphabet:
    """The labels of a CTC model: characters with " " between words, or whole words.

    blank: the index of the label that reads nothing; frame_seconds: time between two frames;
    calibration: how words get their confidence and their beginning.
    """

    labels: tuple[str, ...]
    blank: int
    frame_seconds: float
    calibration: Calibration = UNCALIBRATED

    @classmethod
    def of(cls, card: ModelCard, *, lm: bool = False) -> "Alphabet":
        """The labels of a model's card; lm: whether a language model helps to read them."""
        if card.blank is None or card.calibration is None:
            raise ValueError(f"model {card.name} is no ctc model")
        frame_seconds = card.hop_length / card.sample_rate
        calibration = (lm and card.lm_calibration) or card.calibration
        return cls(card.labels, card.blank, frame_seconds, calibration)

    @classmethod
    def of_phonemes(cls, card: ModelCard, *, lm: bool = False) -> "Alphabet":
        """The labels of a model's second output, of a model that reads phonemes."""
        return replace(cls.of(card, lm=lm), labels=card.phonemes, blank=PHONEMES_BLANK)

    @cached_property
    def separator(self) -> int | None:
        """The index of " "; None if the model has no such label."""
        return self.labels.index(SEPARATOR) if SEPARATOR in self.labels else None

    @cached_property
    def spells(self) -> bool:
        """Whether all labels are characters."""
        return all(len(label) == 1 for k, label in enumerate(self.labels) if k != self.blank)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {label: k for k, label in enumerate(self.labels) if k != self.blank}

    def text(self, labels: Iterable[int]) -> str:
        """Return the words that label numbers spell, with one space between them."""
        glue = "" if self.spells else SEPARATOR
        return " ".join(glue.join(self.labels[label] for label in labels).split())

    def spell(self, text: str) -> tuple[int, ...] | None:
        """Return the label numbers of a text; None if it has what the model cannot say."""
        units = " ".join(text.split()) if self.spells else text.split()
        numbers = [self._index.get(unit) for unit in units]
        return None if None in numbers else tuple(n for n in numbers if n is not None)

    def must_spell(self, text: str, where: str) -> tuple[int, ...]:
        """Spell a text that came from `where`; a DecodeError names what the model lacks."""
        numbers = self.spell(text)
        if numbers is None:
            units = set(text) if self.spells else set(text.split())
            lacking = ", ".join(sorted(repr(unit) for unit in units - self._index.keys()))
            raise DecodeError(f"{where}: the model cannot say {lacking} in '{text}'; respell it")
        return numbers

    def words(self, spans: Sequence[Span], first: int) -> tuple[Word, ...]:
        """Return the words of a path, with their times; none begins before frame `first`."""
        words: list[Word] = []
        free = first * self.frame_seconds
        for part in self._parts(spans):
            words.append(self._word(part, free))
            free = words[-1].end
        return tuple(words)

    def utterance(
        self,
        spans: Sequence[Span],
        log_probs: np.ndarray,
        first: int,
        alternatives: tuple[Alternative, ...] = (),
    ) -> list[Utterance]:
        """Return the utterance of a path, or nothing if there are no words on it.

        log_probs: (frames, labels) of the utterance, whose first frame is frame `first`.
        """
        words = self.words(spans, first)
        if not words:
            return []
        sure = self._confidences(spans, log_probs, first)
        words = tuple(replace(w, confidence=c) for w, c in zip(words, sure, strict=True))
        text = " ".join(word.text for word in words)
        return [Utterance(text, words[0].start, words[-1].end, words, alternatives)]

    def _confidences(self, spans: Sequence[Span], log_probs: np.ndarray, first: int) -> list[float]:
        parts = self._parts(spans)
        own = [(part[0].start - first, part[-1].end - first) for part in parts]
        frames = stretches(own, len(log_probs), round(REACH_SECONDS / self.frame_seconds))
        labels = [[span.label for span in part] for part in parts]
        scores = readings(log_probs, frames, labels, self.blank, self.separator)
        return confidences(scores, self.calibration).tolist()

    def _parts(self, spans: Sequence[Span]) -> list[list[Span]]:
        """The spans of each word."""
        if not self.spells:
            return [[span] for span in spans]
        parts = itertools.groupby(spans, lambda span: span.label == self.separator)
        return [list(part) for apart, part in parts if not apart]

    def _word(self, spans: Sequence[Span], free: float) -> Word:
        """A word, which begins before its first label does, but not before the time `free`."""
        starts = [span.start * self.frame_seconds for span in spans]
        starts[0] = max(starts[0] - self.calibration.onset, free)
        characters = tuple(
            Character(self.labels[span.label], start, span.end * self.frame_seconds)
            for span, start in zip(spans, starts, strict=True)
        )
        text = "".join(character.text for character in characters)
        return Word(text, characters[0].start, characters[-1].end, characters=characters)
