"""The trigger of trained keywords: from the scores of a classifier to one detection for each."""

from collections import deque
from functools import reduce
from typing import NamedTuple

import numpy as np

from asr.card import ModelCard
from asr.decode.base import DecodeError, chosen
from asr.decode.keywords.typed import NEAR, SpotOptions
from asr.events import Detection, Event, NearMiss
from asr.runtime.scorers import Scores

PEAK_SECONDS = 1.0  # without a higher score, after which a near miss has passed its peak


class KeywordTrigger:
    """Fires when a smoothed posterior crosses the threshold that the card has for its label.

    Posteriors are averaged over the last `smoothing` seconds (as much as there is of them). A
    label fires once per crossing and re-arms when it falls below the threshold; after any firing
    nothing fires for `refractory` seconds; labels in `background` never fire.

    options: which of the keywords fire, and from which score if not from that of the card; whether
    near misses are reported: peaks of at least NEAR of a threshold that nothing came of. Raises
    DecodeError if the model has not learnt a keyword.
    """

    def __init__(self, card: ModelCard, options: SpotOptions | None = None) -> None:
        if card.trigger is None:
            raise ValueError(f"model {card.name} has no trigger settings")
        rules = chosen(card.trigger, options)
        thresholds = _thresholds(card, options)
        self._labels = card.labels
        self._sample_rate = card.sample_rate
        self._smoothing = round(rules.smoothing * card.sample_rate)
        limits = np.array([thresholds.get(label, np.inf) for label in card.labels], "f4")
        self._crossings = Crossings(limits, round(rules.refractory * card.sample_rate))
        wanted = options is not None and options.near_misses
        self._near = NearPeaks(limits, round(PEAK_SECONDS * card.sample_rate)) if wanted else None
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state."""
        self._recent: deque[tuple[int, np.ndarray]] = deque()
        self._crossings.reset()
        if self._near:
            self._near.reset()
        self.smoothed = np.zeros(len(self._labels), np.float32)

    def push(self, scores: Scores) -> list[Event]:
        """Take the scores of one more block or window; at most one keyword fires, or nearly did.

        One that fires in the silence after the audio fires at its end.
        """
        end = scores.end + scores.silence
        self._recent.append((end, np.exp(scores.log_probs[-1])))
        while self._recent[0][0] <= end - self._smoothing and len(self._recent) > 1:
            self._recent.popleft()
        self.smoothed = reduce(np.add, (recent for _, recent in self._recent)) / len(self._recent)
        fired = self._crossings.push(end, self.smoothed)
        near = self._near.push(scores.end, self.smoothed, fired) if self._near else None
        if fired is None:
            return self._missed(near)
        time, score = scores.end / self._sample_rate, float(self.smoothed[fired])
        return [Detection(time, self._labels[fired], score)]

    def finish(self) -> list[Event]:
        """At most a near miss: the scorer's closing silence has decided what the audio ended in."""
        return self._missed(self._near.finish() if self._near else None)

    def _missed(self, near: "NearPeak | None") -> list[Event]:
        if near is None:
            return []
        time, label = near.end / self._sample_rate, self._labels[near.label]
        return [NearMiss(time, label, near.score, None, None, near.reason)]


class Crossings:
    """Which label fires as smoothed posteriors go by: see `KeywordTrigger`.

    thresholds: (labels,), infinite for those that never fire; refractory: in samples.
    """

    def __init__(self, thresholds: np.ndarray, refractory: int) -> None:
        self._thresholds = thresholds
        self._refractory = refractory
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state."""
        self._fired = np.zeros(len(self._thresholds), bool)  # and not yet back below the threshold
        self._quiet_until = 0

    def push(self, end: int, smoothed: np.ndarray) -> int | None:
        """Take the posteriors (labels,) up to sample `end`; return the label that fires."""
        above = smoothed >= self._thresholds
        self._fired &= above
        if not above.any() or end < self._quiet_until:
            return None
        candidates = np.where(above & ~self._fired, smoothed, 0.0)
        best = int(candidates.argmax())
        if not candidates[best]:
            return None
        self._fired[best] = True
        self._quiet_until = end + self._refractory
        return best


class NearPeak(NamedTuple):
    """Where a posterior came near its threshold: its label, its height, and the sample up to which
    sound had come."""

    label: int
    score: float
    end: int
    reason: str


class NearPeaks:
    """Finds where posteriors come near their thresholds and nothing fires.

    A label is followed from NEAR of its threshold on. It nearly fired if nothing has fired when it
    falls below that again, or has had no higher score for `wait` samples; of several labels that
    one with the highest score. thresholds: as in `Crossings`.
    """

    def __init__(self, thresholds: np.ndarray, wait: int) -> None:
        self._thresholds = thresholds
        self._wait = wait
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state."""
        count = len(self._thresholds)
        self._followed, self._settled = np.zeros(count, bool), np.zeros(count, bool)
        self._peaks, self._ends = np.zeros(count, np.float32), np.zeros(count, int)

    def push(self, end: int, smoothed: np.ndarray, fired: int | None) -> NearPeak | None:
        """Take the posteriors (labels,) up to sample `end`, and what fired with them."""
        near = smoothed >= NEAR * self._thresholds
        begun = near & ~self._followed
        self._followed |= near
        self._settled[begun], self._peaks[begun] = False, 0.0
        higher = near & (smoothed > self._peaks)
        self._peaks[higher], self._ends[higher] = smoothed[higher], end
        self._settled |= self._followed & (fired is not None)
        found = self._highest(~near | (self._ends + self._wait <= end))
        self._followed &= near
        return found

    def finish(self) -> NearPeak | None:
        """The end of the audio passes every peak."""
        return self._highest(np.ones(len(self._followed), bool))

    def _highest(self, passed: np.ndarray) -> NearPeak | None:
        open_ones = self._followed & ~self._settled & passed
        if not open_ones.any():
            return None
        self._settled |= self._followed
        label = int(np.where(open_ones, self._peaks, 0.0).argmax())
        score, threshold = float(self._peaks[label]), float(self._thresholds[label])
        reason = f"below the threshold of {threshold:.0%}"
        if score >= threshold:
            reason = "in the refractory period"
        return NearPeak(label, score, int(self._ends[label]), reason)


def _thresholds(card: ModelCard, options: SpotOptions | None) -> dict[str, float]:
    """The keywords that fire, and from which score."""
    known = {label.lower(): label for label in card.labels if label not in card.background}
    if options is None:
        return {label: card.threshold_of(label) for label in known.values()}
    for keyword in options.keywords:
        if keyword.text not in known:
            raise DecodeError(
                f"{card.name} has not learnt '{keyword.text}', only {', '.join(known)}; a model "
                "that transcribes, such as english, finds any word"
            )
    return {
        (label := known[keyword.text]): keyword.threshold or card.threshold_of(label)
        for keyword in options.keywords
    }
