"""Greedy CTC decoding, incremental: the best label of each frame, repeats and blanks removed.

Source: Graves et al., "Connectionist Temporal Classification" (ICML 2006), best path decoding.
"""

from collections.abc import Iterable

import numpy as np

from asr.decode.alphabet import SEPARATOR, Alphabet, Endpointer, Span
from asr.events import Partial, Utterance, Word


class GreedyDecoder:
    """Turns the frames of a CTC model into words, carrying what is open from push to push."""

    def __init__(self, alphabet: Alphabet) -> None:
        self._alphabet = alphabet
        self._endpointer = Endpointer(alphabet)
        self.reset()

    def reset(self) -> None:
        """Forget everything heard; the next frame is frame 0."""
        self._endpointer.reset()
        self._frame = 0
        self._last = self._alphabet.blank
        self._begin_utterance()

    def push(self, log_probs: np.ndarray) -> list[Partial | Utterance]:
        """Decode (frames, labels); at most one Partial, the newest, follows the utterances."""
        events: list[Partial | Utterance] = []
        for label, row in zip(log_probs.argmax(axis=1).tolist(), log_probs, strict=True):
            self._heard.append(row)
            self._advance(label)
            if self._endpointer.ends(label):
                events += self._end_utterance()
        return events + self._partial()

    def finish(self) -> list[Utterance]:
        """End the utterance that is open, if one is."""
        self._endpointer.reset()
        return self._end_utterance()

    def _advance(self, label: int) -> None:
        if label == self._last:  # a label that the last utterance ended in is not read again
            if self._spans and label != self._alphabet.blank:
                self._spans[-1] = self._spans[-1]._replace(end=self._frame + 1)
        elif label != self._alphabet.blank:
            self._spans.append(Span(label, self._frame, self._frame + 1))
        self._last = label
        self._frame += 1

    def _partial(self) -> list[Partial]:
        """What is new about the open utterance. A word is stable once a separator follows it."""
        if len(self._spans) == self._read:
            return []
        self._read = len(self._spans)
        text = self._alphabet.text(span.label for span in self._spans)
        if text == self._told:
            return []
        self._told = text
        separator = self._alphabet.separator
        stable = text if self._spans[-1].label == separator else text.rpartition(SEPARATOR)[0]
        start = self._spoken(self._spans).start
        return [Partial(text, start, self._spoken(reversed(self._spans)).end, stable)]

    def _spoken(self, spans: Iterable[Span]) -> Word:
        """The first of these spans that is no separator, as a word of its own."""
        span = next(span for span in spans if span.label != self._alphabet.separator)
        return self._alphabet.words([span], self._first)[0]

    def _begin_utterance(self) -> None:
        self._first = self._frame
        self._heard: list[np.ndarray] = []
        self._spans: list[Span] = []
        self._read = 0  # spans when the text was last looked at
        self._told = ""

    def _end_utterance(self) -> list[Utterance]:
        spans, heard, first = self._spans, self._heard, self._first
        self._begin_utterance()
        return self._alphabet.utterance(spans, np.stack(heard), first) if spans else []
