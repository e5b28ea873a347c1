"""Greedy CTC decoding, incremental: the best label of each frame, repeats and blanks removed.

Source: Graves et al., "Connectionist Temporal Classification" (ICML 2006), best path decoding.
"""

from collections.abc import Iterable

import numpy as np

from asr.card import ENDPOINT, Endpoint
from asr.decode.alphabet import SEPARATOR, Alphabet, Span
from asr.decode.endpoint import Endpointer
from asr.events import Event, Partial, Word
from asr.runtime.scorers import Scores


class GreedyDecoder:
    """Turns the frames of a CTC model into words, carrying what is open from push to push."""

    def __init__(self, alphabet: Alphabet, rules: Endpoint = ENDPOINT) -> None:
        self._alphabet = alphabet
        self._endpointer = Endpointer(alphabet, rules)
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state; the next frame is frame 0."""
        self._endpointer.reset()
        self._frame = 0
        self._last = self._alphabet.blank
        self._begin_utterance()

    def push(self, scores: Scores) -> list[Event]:
        """Decode; at most one Partial, the newest, follows the utterances."""
        log_probs = scores.log_probs
        events: list[Event] = []
        for label, row in zip(log_probs.argmax(axis=1).tolist(), log_probs, strict=True):
            self._rows.append(row)
            self._advance(label)
            if self._endpointer.ends(label):
                events += self._end_utterance()
        return [*events, *self._partial()]

    def finish(self) -> list[Event]:
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
        if text == self._reported:
            return []
        self._reported = text
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
        self._rows: list[np.ndarray] = []
        self._spans: list[Span] = []
        self._read = 0  # spans when the text was last looked at
        self._reported = ""

    def _end_utterance(self) -> list[Event]:
        spans, rows, first = self._spans, self._rows, self._first
        self._begin_utterance()
        return [*self._alphabet.utterance(spans, np.stack(rows), first)] if spans else []
