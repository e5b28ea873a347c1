"""The phonemes of texts, as targets of a second output beside the letters."""

from collections.abc import Sequence

from asr.phonemes import BOUNDARY, SOUNDS
from asr.training.data.labels import Labels
from asr.training.pronounce import pronounced

NUMBER = {sound: number for number, sound in enumerate(SOUNDS)}


class Sounds:
    """Label numbers of letters to those of phonemes, with a boundary between two words."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def of(self, targets: Sequence[int]) -> tuple[int, ...]:
        """The numbers of the phonemes; none if it is not known how one of the words is said."""
        words = pronounced(self._labels.decode(targets).split()) or []
        return tuple(NUMBER[sound] for sound in BOUNDARY.join(words))
