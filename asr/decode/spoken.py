"""Beam search over phonemes: words are found by how they sound, whatever their spelling."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from asr.card import ENDPOINT, Endpoint
from asr.decode.alphabet import Alphabet, Span
from asr.decode.beam import BeamDecoder, Prefix
from asr.decode.ctc_paths import align
from asr.decode.lm.fusion import Fusion
from asr.decode.writer import Said, Writer
from asr.events import Alternative, Event, Utterance, Word
from asr.runtime.scorers import Scores

MARGIN = 10.0  # few texts are followed where the sound is clear, many where it is not


class SpokenDecoder(BeamDecoder):
    """Turns the phonemes that a model reads into words; its letters say how they are written, when
    they were said and how sure they are.

    letters, phonemes: the labels of the outputs of the model; fusion: a language model over
    pronunciations; writer: the words of each.
    """

    def __init__(
        self,
        letters: Alphabet,
        phonemes: Alphabet,
        beam: int,
        fusion: Fusion,
        writer: Writer,
        n_best: int = 1,
        rules: Endpoint = ENDPOINT,
    ) -> None:
        self._letters = letters
        self._writer = writer
        super().__init__(phonemes, beam, fusion, n_best, rules, MARGIN)

    def reset(self) -> None:
        """Go back to the initial state; the next frame is frame 0."""
        self._letter_scores = np.zeros((0, len(self._letters.labels)), np.float32)
        self._letters_from = 0
        super().reset()

    def push(self, scores: Scores) -> list[Event]:
        """Decode; at most one Partial, the newest, follows the utterances."""
        if scores.phonemes is None:
            raise ValueError("the scores have no phonemes")
        self._letter_scores = np.concatenate([self._letter_scores, scores.log_probs])
        events = super().push(Scores(scores.end, scores.phonemes, scores.silence))
        self._letter_scores = self._own_rows()
        self._letters_from = self._first
        return events

    def _own_rows(self) -> np.ndarray:
        """The scores of the letters since the utterance began."""
        return self._letter_scores[self._first - self._letters_from :]

    def _begin_utterance(self) -> None:
        self._settled: tuple[str, ...] = ()
        super()._begin_utterance()

    def _texts(self, best: list[Prefix], stable: list[Prefix]) -> tuple[str, str]:
        spans = [Span(prefix.label, prefix.frame, prefix.frame + 1) for prefix in best]
        words = self._writer.write(self._said(spans), self._own_rows(), self._settled)
        labels = [prefix.label for prefix in stable]
        count = len(self._alphabet.text(labels).split())
        self._settled = words[: max(count, len(self._settled))]
        return _joined(words), _joined(self._settled)

    def _said(self, spans: Sequence[Span]) -> list[Said]:
        """The pronunciations on a path, in frames of the utterance."""
        separator = self._alphabet.separator
        parts = groupby(spans, lambda span: span.label == separator)
        words = [list(part) for apart, part in parts if not apart]
        return [
            Said(
                self._alphabet.text(span.label for span in word),
                word[0].start - self._first,
                word[-1].end - self._first,
            )
            for word in words
        ]

    def _utterance(
        self, ranked: list[tuple[str, float, Prefix]], log_probs: np.ndarray
    ) -> list[Utterance]:
        rows = self._own_rows()[: len(log_probs)]
        paths = [align(log_probs, p.labels(), self._alphabet, self._first) for _, _, p in ranked]
        words, *others = (
            self._writer.write(self._said(path), rows, self._settled if path is paths[0] else ())
            for path in paths
        )
        texts: dict[str, float] = {}
        for written, (_, score, _) in zip([words, *others], ranked, strict=True):
            texts.setdefault(_joined(written), score)
        best = tuple(Alternative(text, score) for text, score in texts.items())
        return self._timed(words, rows, best) or self._by_sound(paths[0], words, log_probs, best)

    def _timed(
        self, words: Sequence[str], rows: np.ndarray, best: tuple[Alternative, ...]
    ) -> list[Utterance]:
        """The utterance by the letters; nothing if they cannot spell it in so many frames."""
        labels = self._letters.spell(_joined(words))
        if not labels:
            return []
        try:
            spans = align(rows, labels, self._letters, self._first)
        except ValueError:
            return []
        return self._letters.utterance(spans, rows, self._first, best)

    def _by_sound(
        self,
        spans: Sequence[Span],
        words: Sequence[str],
        log_probs: np.ndarray,
        best: tuple[Alternative, ...],
    ) -> list[Utterance]:
        """The utterance by its phonemes."""
        if not _joined(words):
            return []
        return [
            Utterance(
                _joined(words),
                said.start,
                said.end,
                tuple(
                    Word(text, word.start, word.end, word.confidence)
                    for word, text in zip(said.words, words, strict=True)
                    if text
                ),
                best,
            )
            for said in self._alphabet.utterance(spans, log_probs, self._first)
        ]


def _joined(words: Sequence[str]) -> str:
    return " ".join(word for word in words if word)
