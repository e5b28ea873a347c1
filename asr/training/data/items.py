"""One draw of an epoch: an example, what goes before and after it, its seed."""

from dataclasses import dataclass, replace

import numpy as np

from asr.training.data.corpus import Example
from features.augment import Augmenter

CROP_TRIES = 4


@dataclass(frozen=True)
class Item:
    """One draw of an epoch: an example (None: noise alone), and the seed of its augmentation.

    samples: length of the example in it; before, after: the items around it, as in a stream.
    lead: samples of silence in front of the example, in which augmentation may put noise.
    targets: of all items; a classifier is only asked for the example.
    search: the example is longer than the window of a classifier, which is asked about the window
        that it takes most for something else.
    """

    example: Example | None
    targets: tuple[int, ...]
    samples: int
    seed: int
    lead: int = 0
    search: bool = False
    before: "tuple[Item, ...]" = ()
    after: "tuple[Item, ...]" = ()

    @property
    def sequence(self) -> "tuple[Item, ...]":
        """All items in the order of time."""
        return (*self.before, replace(self, before=(), after=()), *self.after)

    @property
    def length(self) -> int:
        """Samples in all, before augmentation."""
        return sum(item.lead + item.samples for item in self.sequence)

    def waveform(self, noises: list[np.ndarray], augmenter: Augmenter | None = None) -> np.ndarray:
        """float32 (length,), a little else if augmented: all recordings one after the other."""
        return np.concatenate([item._own_waveform(noises, augmenter) for item in self.sequence])

    def _own_waveform(self, noises: list[np.ndarray], augmenter: Augmenter | None) -> np.ndarray:
        """The recording, a part of it that is not mostly a pause, or a part of a noise."""
        rng = np.random.default_rng(self.seed)
        if self.example is None:
            waveform = _crop(noises[self.seed % len(noises)], self.samples, rng)
        else:
            waveform = self.example.waveform()
            if len(waveform) > self.samples:
                waveform = _active_crop(waveform, self.samples, rng)
        waveform = np.pad(waveform, (self.lead, 0))
        return waveform if augmenter is None else augmenter(waveform, rng)


def _crop(waveform: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    start = int(rng.integers(max(1, len(waveform) - samples + 1)))
    return waveform[start : start + samples]


def _active_crop(waveform: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A random crop that is not mostly a pause: an unknown word, not silence."""
    crops = [_crop(waveform, samples, rng) for _ in range(CROP_TRIES)]
    level = 0.25 * float(np.mean(np.square(waveform)))
    active = (crop for crop in crops if float(np.mean(np.square(crop))) >= level)
    return next(active, crops[0])
