"""Greedy CTC decoding, incremental: the best label of each frame, repeats and blanks removed.

Source: Graves et al., "Connectionist Temporal Classification" (ICML 2006), best path decoding.
"""

import math

import numpy as np

from asr.card import ModelCard
from asr.decode import Partial, Utterance, Word

SEPARATOR = " "
PAUSE_SECONDS = 0.8


class GreedyDecoder:
    """Turns the frames of a CTC model into words, carrying what is open from push to push.

    Labels are characters, with " " between words, or whole words. An utterance ends after
    `PAUSE_SECONDS` without speech; the separator is no speech.
    """

    def __init__(self, card: ModelCard) -> None:
        self._labels = card.labels
        self._spells = all(
            len(label) == 1 for index, label in enumerate(card.labels) if index != card.blank
        )
        self._blank = card.blank
        self._separator = card.labels.index(SEPARATOR) if SEPARATOR in card.labels else None
        self._hop_length = card.hop_length
        self._sample_rate = card.sample_rate
        self._pause = math.ceil(PAUSE_SECONDS * card.sample_rate / card.hop_length)
        self.reset()

    def reset(self) -> None:
        """Forget everything heard; the next frame is frame 0."""
        self._frame = 0
        self._last = self._blank
        self._begin_utterance()

    def push(self, log_probs: np.ndarray) -> list[Partial | Utterance]:
        """Decode (frames, labels); at most one Partial, the newest, follows the utterances."""
        events: list[Partial | Utterance] = []
        for label in log_probs.argmax(axis=1).tolist():
            self._advance(label)
            if self._silent == self._pause:
                events += self._end_utterance()
        text = self._text()
        if text != self._told:
            self._told = text
            events.append(Partial(text, self._words[0].start, self._words[-1].end))
        return events

    def finish(self) -> list[Utterance]:
        """End the utterance that is open, if one is."""
        return self._end_utterance()

    def _advance(self, label: int) -> None:
        start, self._frame = self._seconds(self._frame), self._frame + 1
        end = self._seconds(self._frame)
        repeated, self._last = label == self._last, label
        if label in (self._blank, self._separator):
            self._silent += 1
            self._inside_word = self._inside_word and label == self._blank
            return
        self._silent = 0
        if repeated:
            word = self._words[-1]
            self._words[-1] = Word(word.text, word.start, end)
        elif self._inside_word:
            word = self._words[-1]
            self._words[-1] = Word(word.text + self._labels[label], word.start, end)
        else:
            self._words.append(Word(self._labels[label], start, end))
            self._inside_word = self._spells

    def _begin_utterance(self) -> None:
        self._words: list[Word] = []
        self._inside_word = False
        self._silent = 0
        self._told = ""

    def _end_utterance(self) -> list[Utterance]:
        words, text = tuple(self._words), self._text()
        self._begin_utterance()
        return [Utterance(text, words[0].start, words[-1].end, words)] if words else []

    def _text(self) -> str:
        return " ".join(word.text for word in self._words)

    def _seconds(self, frame: int) -> float:
        return frame * self._hop_length / self._sample_rate
