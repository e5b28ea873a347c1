"""The trigger of trained keywords: from the scores of a classifier to one detection for each."""

from collections import deque
from functools import reduce

import numpy as np

from asr.card import ModelCard
from asr.decode.base import DecodeError, chosen
from asr.decode.keywords.typed import SpotOptions
from asr.events import Detection, Event
from asr.runtime.scorers import Scores


class KeywordTrigger:
    """Fires when a smoothed posterior crosses the threshold of the card.

    Posteriors are averaged over the last `smoothing` seconds (as much as there is of them). A
    label fires once per crossing and re-arms when it falls below the threshold; after any firing
    nothing fires for `refractory` seconds; labels in `background` never fire.

    options: which of the keywords fire, and from which score if not from that of the card. Raises
    DecodeError if the model has not learnt one, or if near misses are asked for.
    """

    def __init__(self, card: ModelCard, options: SpotOptions | None = None) -> None:
        if card.trigger is None:
            raise ValueError(f"model {card.name} has no trigger settings")
        self._labels = card.labels
        rules = chosen(card.trigger, options)
        thresholds = _thresholds(card, rules.threshold, options)
        self._threshold = np.array([thresholds.get(label, np.inf) for label in card.labels], "f4")
        self._sample_rate = card.sample_rate
        self._smoothing = round(rules.smoothing * card.sample_rate)
        self._refractory = round(rules.refractory * card.sample_rate)
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state."""
        self._recent: deque[tuple[int, np.ndarray]] = deque()
        self._fired = np.zeros(len(self._labels), bool)  # and not yet back below the threshold
        self._quiet_until = 0
        self.smoothed = np.zeros(len(self._labels), np.float32)

    def push(self, scores: Scores) -> list[Event]:
        """Take the scores of one more block or window; at most one keyword fires.

        One that fires in the silence after the audio fires at its end.
        """
        end = scores.end + scores.silence
        self._recent.append((end, np.exp(scores.log_probs[-1])))
        while self._recent[0][0] <= end - self._smoothing and len(self._recent) > 1:
            self._recent.popleft()
        self.smoothed = reduce(np.add, (recent for _, recent in self._recent)) / len(self._recent)

        above = self.smoothed >= self._threshold
        self._fired &= above
        if not above.any() or end < self._quiet_until:
            return []
        candidates = np.where(above & ~self._fired, self.smoothed, 0.0)
        best = int(candidates.argmax())
        if not candidates[best]:
            return []
        self._fired[best] = True
        self._quiet_until = end + self._refractory
        score = float(self.smoothed[best])
        return [Detection(scores.end / self._sample_rate, self._labels[best], score)]

    def finish(self) -> list[Event]:
        """Nothing: the scorer's closing silence has decided what the audio ended in."""
        return []


def _thresholds(card: ModelCard, threshold: float, options: SpotOptions | None) -> dict[str, float]:
    """The keywords that fire, and from which score."""
    known = {label.lower(): label for label in card.labels if label not in card.background}
    if options is None:
        return dict.fromkeys(known.values(), threshold)
    if options.near_misses:
        raise DecodeError(f"{card.name} tells no near misses; a model that transcribes does")
    for keyword in options.keywords:
        if keyword.text not in known:
            raise DecodeError(
                f"{card.name} has not learnt '{keyword.text}', only {', '.join(known)}; a model "
                "that transcribes, such as english, finds any word"
            )
    return {
        known[keyword.text]: threshold if keyword.threshold is None else keyword.threshold
        for keyword in options.keywords
    }
