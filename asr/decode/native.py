"""The prefix beam search of the package ctc-beam-decoder, in C++, behind our interface.

It takes whole utterances, so nothing is reported before one ends. N-grams of words guide it by
KenLM; what they add to a text in the end is counted here, as a `WordModel` counts it.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from asr.card import ENDPOINT, Endpoint
from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.ctc_paths import align
from asr.decode.endpoint import Endpointer
from asr.decode.lm.compact import is_compact
from asr.decode.lm.language_model import Weights, check_alphabet, sentence_scores
from asr.decode.lm.ngram import in_the_case_of
from asr.decode.lm.ngrams import LN_10, NgramModel
from asr.events import Alternative, Event
from asr.runtime.scorers import Scores

# A text can take two places in its beam: one where it ends in a blank, one in its last label.
PLACES = 2
# A label less probable than this in a frame is left out of it, unless it is the best. A lower bound
# takes up to 2.5 times as long, and changed no text of AN4.
LEAST_LOG_PROB = -8.0
WORD_MARK = "▁"  # begins a label that is a whole word
STANDARD_ERROR = 2


class NativeSearch:
    """Finds the texts of whole utterances. It keeps nothing of them, so that streams can share it.

    Raises DecodeError if the package is not there or cannot take the language model.
    """

    def __init__(
        self, alphabet: Alphabet, beam: int, lm: NgramModel | None, weights: Weights
    ) -> None:
        self._places = PLACES * beam
        self._lm = None if lm is None else in_the_case_of(alphabet, lm)
        self._capitals = self._lm is not lm  # in the file: KenLM reads its words as they are there
        self._weights = weights
        if lm is None:
            self._decoder = _package().build_ctcdecoder(_names(alphabet))
        else:
            self._decoder = _guided(alphabet, lm, weights, self._capitals)

    def best(self, log_probs: np.ndarray) -> list[Alternative]:
        """Return the texts of (frames, labels), at least one frame, the best first."""
        beams = self._decoder.decode_beams(
            log_probs,
            beam_width=self._places,
            beam_prune_logp=-math.inf,
            token_min_logp=LEAST_LOG_PROB,
        )
        found = [
            (text.lower() if self._capitals else text, score) for text, _, _, score, _ in beams
        ]
        texts = [Alternative(text, score + self._added(text)) for text, score in found]
        return sorted(texts, key=lambda text: -text.score)

    def _added(self, text: str) -> float:
        """What the language model says to a whole text. To say nothing is always allowed."""
        if self._lm is None or not text:
            return 0.0
        alpha, beta, oov = self._weights
        words = text.split()
        scores = [*sentence_scores(self._lm, words)]
        total = sum(score for score, _ in scores)
        unknown = [word for word, (_, known) in zip(words, scores, strict=False) if not known]
        total += sum(self._lm.lexicon.spelled(word) for word in unknown)
        return alpha * total + beta * len(words) + oov * len(unknown)


def _guided(alphabet: Alphabet, lm: NgramModel, weights: Weights, capitals: bool) -> Any:
    """A decoder with a language model; the unknown costs it no more than it does in the end.

    capitals: whether it writes labels in capitals, as the words of the model are.
    It adds the offset as it is while a word is spelled, and alpha * ln(10) times it afterwards.
    """
    if is_compact(lm.path):
        raise DecodeError(
            f"{lm.path}: the native beam search takes ARPA files and no compact ones; give the "
            "ARPA file it was made from, or decode without --native"
        )
    if lm.of_characters or not alphabet.spells:
        raise DecodeError(
            f"{lm.path}: the native beam search takes models of words for labels that are "
            "characters, and no others; decode without --native"
        )
    if capitals and any(word != word.upper() for word in lm.vocabulary):
        raise DecodeError(
            f"{lm.path}: some of its words have capitals, which the labels have not, and others "
            "have none; decode without --native"
        )
    names = [name.upper() if capitals else name for name in _names(alphabet)]
    lowered = {word.lower() if capitals else word: word for word in lm.vocabulary}
    spelt = [word for text, word in lowered.items() if alphabet.spell(text)]
    check_alphabet(lm.path, len(spelt), lm.known)
    package, log_10s = _package(), weights.alpha * LN_10
    try:
        with _silent():
            return package.build_ctcdecoder(
                names,
                lm.path,
                spelt,
                alpha=weights.alpha,
                beta=weights.beta,
                unk_score_offset=weights.oov / max(1.0, log_10s),
            )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()).rpartition(" threw ")[2]
        raise DecodeError(
            f"{lm.path}: KenLM cannot read it ({reason}); decode without --native"
        ) from None


def _names(alphabet: Alphabet) -> list[str]:
    mark = "" if alphabet.spells else WORD_MARK
    names = [mark + label for label in alphabet.labels]
    names[alphabet.blank] = ""
    return names


def _package() -> Any:
    try:
        import ctc_beam_decoder
    except ModuleNotFoundError:
        raise DecodeError(
            'ctc-beam-decoder is not installed; pip install "earshot-asr[fast]", or decode without '
            "--native"
        ) from None
    return ctc_beam_decoder


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """KenLM draws its progress on the standard error of the process; nobody has asked for it."""
    kept = os.dup(STANDARD_ERROR)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), STANDARD_ERROR)
        yield
    finally:
        os.dup2(kept, STANDARD_ERROR)
        os.close(kept)


class NativeDecoder:
    """Turns the frames of a CTC model into words, an utterance at a time, by a NativeSearch.

    The interface and the ends of utterances are those of the GreedyDecoder; there are no Partials.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        search: NativeSearch,
        n_best: int = 1,
        rules: Endpoint = ENDPOINT,
    ) -> None:
        self._alphabet = alphabet
        self._search = search
        self._n_best = n_best
        self._endpointer = Endpointer(alphabet, rules)
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state; the next frame is frame 0."""
        self._endpointer.reset()
        self._first = 0
        self._seen: list[np.ndarray] = []

    def push(self, scores: Scores) -> list[Event]:
        """Decode; return the utterances that end here."""
        log_probs = scores.log_probs
        events: list[Event] = []
        for row, label in zip(log_probs, log_probs.argmax(axis=1).tolist(), strict=True):
            self._seen.append(row)
            if self._endpointer.ends(label):
                events += self._end_utterance()
        return events

    def finish(self) -> list[Event]:
        """End the utterance that is open, if one is."""
        self._endpointer.reset()
        return self._end_utterance() if self._seen else []

    def _end_utterance(self) -> list[Event]:
        log_probs, first = np.stack(self._seen), self._first
        self._seen, self._first = [], first + len(log_probs)
        best = tuple(self._search.best(log_probs)[: self._n_best])
        if not best or not best[0].text:
            return []
        labels = self._alphabet.must_spell(best[0].text, "ctc-beam-decoder")
        spans = align(log_probs, labels, self._alphabet, first)
        return [*self._alphabet.utterance(spans, log_probs, first, best)]
