"""How much a label was recognised over time, and why it was or was not reported."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asr.card import ModelCard
from asr.decode.alphabet import Alphabet
from asr.decode.base import chosen
from asr.decode.keywords.trained import KeywordTrigger
from asr.decode.keywords.typed import (
    Keyword,
    KeywordSpotter,
    PeakFinder,
    SpotOptions,
)
from asr.decode.options import DecodeOptions, build_decoder
from asr.events import Detection, NearMiss, Utterance, Word
from asr.model import Model
from asr.runtime.scorers import Scores, scorer_for
from features.errors import EarshotError

NEARBY = 0.4  # seconds around a moment, in which words end that were recognised there


class ExplainError(EarshotError, ValueError):
    """There is nothing to explain."""


@dataclass(frozen=True)
class Trace:
    """times: seconds (n,); scores: (n,), what `threshold` is compared with; found: at which of the
    times the label was reported; reason: one sentence."""

    times: np.ndarray
    scores: np.ndarray
    threshold: float
    found: tuple[float, ...]
    reason: str

    @property
    def moment(self) -> float:
        """When the score was highest, in seconds."""
        return float(self.times[self.scores.argmax()])


class Evidence(Protocol):
    """How a label is scored."""

    label: str

    def scores(self, runs: list[Scores]) -> np.ndarray:
        """The score of the label over the runs of a stream, (n,)."""
        ...

    def trace(self, runs: list[Scores]) -> Trace:
        """These scores, their times, and what came of them."""
        ...


def stream_scores(model: Model, waveform: np.ndarray) -> list[Scores]:
    """The runs of a stream over float32 (samples,), with the silence that a trigger needs."""
    return scorer_for(model, model.card.closing_silence).finish(waveform)


def evidence_for(model: Model, runs: list[Scores], label: str | None) -> Evidence:
    """Choose how to score a label.

    label: of a model that transcribes any word or phrase. If None: the keyword with the highest
    posterior, or the recognised word with the lowest confidence. Raises EarshotError.
    """
    if model.card.task == "classify":
        return TrainedEvidence(model.card, label or _highest(model.card, runs))
    return TypedEvidence(model, label or _least_certain(model.card, runs))


def smoothed(card: ModelCard, runs: list[Scores]) -> np.ndarray:
    """The posteriors of a classifier as its trigger averages them, (runs, labels)."""
    trigger, rows = KeywordTrigger(card), []
    for run in runs:
        trigger.push(run)
        rows.append(trigger.smoothed)
    return np.array(rows)


def recognised(card: ModelCard, runs: list[Scores]) -> list[Word]:
    """The words that a model which transcribes recognises by itself."""
    decoder = build_decoder(card, DecodeOptions())
    events = [*(event for run in runs for event in decoder.push(run)), *decoder.finish()]
    return [word for event in events if isinstance(event, Utterance) for word in event.words]


def _highest(card: ModelCard, runs: list[Scores]) -> str:
    highest = smoothed(card, runs).max(axis=0)
    words = [k for k, name in enumerate(card.labels) if name not in card.background]
    return card.labels[max(words, key=lambda k: highest[k])]


def _least_certain(card: ModelCard, runs: list[Scores]) -> str:
    words = recognised(card, runs)
    if not words:
        raise ExplainError(f"{card.name} recognises nothing here; ask why not with --label WORD")
    return min(words, key=lambda word: word.confidence).text


class TrainedEvidence:
    """The smoothed posterior of a keyword, as its trigger has it."""

    def __init__(self, card: ModelCard, label: str) -> None:
        known = {name.lower(): name for name in card.labels}
        if label.lower() not in known or card.trigger is None:
            raise ExplainError(
                f"{card.name} has no label '{label}', only {', '.join(card.labels)}; a model that "
                "transcribes, such as english, explains any word"
            )
        self.label = known[label.lower()]
        self._card, self._threshold = card, card.threshold_of(self.label)
        self._number = card.labels.index(self.label)

    def scores(self, runs: list[Scores]) -> np.ndarray:
        return smoothed(self._card, runs)[:, self._number]

    def trace(self, runs: list[Scores]) -> Trace:
        trigger, scores = KeywordTrigger(self._card), smoothed(self._card, runs)
        events = [event for run in runs for event in trigger.push(run)]
        fired = [event for event in events if isinstance(event, Detection)]
        rate = self._card.sample_rate
        return Trace(
            times=np.array([(run.end + run.silence) / rate for run in runs]),
            scores=scores[:, self._number],
            threshold=self._threshold,
            found=tuple(event.time for event in fired if event.label == self.label),
            reason=self._reason(scores, fired),
        )

    def _reason(self, scores: np.ndarray, fired: list[Detection]) -> str:
        own = [event for event in fired if event.label == self.label]
        at = int(scores[:, self._number].argmax())
        peak, rival = float(scores[at, self._number]), int(scores[at].argmax())
        beside = f"; '{self._card.labels[rival]}' had {scores[at, rival]:.0%} then"
        if own:
            return f"'{self.label}' was detected at {own[0].time:.2f} s with {own[0].score:.0%}"
        if self.label in self._card.background:
            return f"'{self.label}' is never reported; it reached {peak:.0%}"
        if peak >= self._threshold:
            return f"'{self.label}' reached {peak:.0%}, but in the refractory period{beside}"
        needed = f"it reached {peak:.0%} of the {self._threshold:.0%} that it needs"
        return f"'{self.label}' was not detected: {needed}{beside}"


class TypedEvidence:
    """How well the best path through a word fits the sound that ends now (see `PeakFinder`)."""

    def __init__(self, model: Model, label: str) -> None:
        self.label = " ".join(label.lower().split())
        options = SpotOptions(keywords=(Keyword(self.label),), near_misses=True)
        self._options = options.beside(model.language_model)
        self._card = model.card
        self._threshold = model.card.threshold_of(self.label)
        rules = chosen(model.card.spotting, self._options)
        self._finder = PeakFinder(model.card, self._options.keywords, rules)

    def scores(self, runs: list[Scores]) -> np.ndarray:
        self._finder.reset()
        return np.array([float(scores[0]) for run in runs for scores, _ in self._finder.score(run)])

    def trace(self, runs: list[Scores]) -> Trace:
        spotter, scores = KeywordSpotter(self._card, self._options), self.scores(runs)
        events = [*(event for run in runs for event in spotter.push(run)), *spotter.finish()]
        found = [event for event in events if isinstance(event, Detection)]
        near = [event for event in events if isinstance(event, NearMiss)]
        seconds = Alphabet.of(self._card).frame_seconds
        return Trace(
            times=(np.arange(len(scores)) + 1.0) * seconds,
            scores=scores,
            threshold=self._threshold,
            found=tuple(event.end for event in found if event.end is not None),
            reason=self._reason(scores, found, near, runs),
        )

    def _reason(
        self,
        scores: np.ndarray,
        found: list[Detection],
        near: list[NearMiss],
        runs: list[Scores],
    ) -> str:
        at = (int(scores.argmax()) + 1) * Alphabet.of(self._card).frame_seconds
        words = [w for w in recognised(self._card, runs) if at - NEARBY < w.end < at + NEARBY]
        beside = f"; recognised there: {' '.join(word.text for word in words) or 'nothing'}"
        if found:
            first = found[0]
            return (
                f"'{self.label}' was spotted at {first.start:.2f} s with {first.score:.0%}{beside}"
            )
        best = max(near, key=lambda event: event.score, default=None)
        why = best.reason if best else f"below the threshold of {self._threshold:.0%}"
        reached = f"it reached {scores.max():.0%} at {at:.2f} s, {why}"
        return f"'{self.label}' was not spotted: {reached}{beside}"
