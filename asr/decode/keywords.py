"""The keyword trigger: from posteriors to "it was said, once, now"."""

from collections import deque
from functools import reduce

import numpy as np

from asr.card import ModelCard
from asr.decode import Detection


class KeywordTrigger:
    """Fires when a smoothed posterior crosses the threshold of the card.

    Posteriors are averaged over the last `smoothing` seconds (as much as there is of them). A
    label fires once per crossing and re-arms when it falls below the threshold; after any firing
    nothing fires for `refractory` seconds; labels in `background` never fire.
    """

    def __init__(self, card: ModelCard) -> None:
        if card.trigger is None:
            raise ValueError(f"model {card.name} has no trigger settings")
        self._labels = card.labels
        keyword = np.array([label not in card.background for label in card.labels])
        self._threshold = np.where(keyword, card.trigger.threshold, np.inf).astype(np.float32)
        self._sample_rate = card.sample_rate
        self._smoothing = round(card.trigger.smoothing * card.sample_rate)
        self._refractory = round(card.trigger.refractory * card.sample_rate)
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._recent: deque[tuple[int, np.ndarray]] = deque()
        self._fired = np.zeros(len(self._labels), bool)  # and not yet back below the threshold
        self._quiet_until = 0
        self.smoothed = np.zeros(len(self._labels), np.float32)

    def push(self, end: int, posteriors: np.ndarray) -> list[Detection]:
        """Take the posteriors (labels,) of the audio up to sample `end`; at most one fires."""
        self._recent.append((end, posteriors))
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
        return [Detection(end / self._sample_rate, self._labels[best], score)]
