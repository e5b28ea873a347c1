"""Where an utterance ends."""

import math

from asr.card import ENDPOINT, Endpoint
from asr.decode.alphabet import Alphabet


class Endpointer:
    """Finds the end of an utterance from the best label of each frame.

    It ends after `trailing_silence` without speech (the separator is no speech), or, once it is
    longer than `soft_limit`, at the next gap between words. If there is none it ends after
    `hard_limit`, be it inside a word: what a decoder keeps of an utterance is bounded, however long
    and in whatever way somebody talks.
    """

    def __init__(self, alphabet: Alphabet, rules: Endpoint = ENDPOINT) -> None:
        self._quiet = (alphabet.blank, alphabet.separator)
        self._gap = alphabet.blank if alphabet.separator is None else alphabet.separator
        self._pause = math.ceil(rules.trailing_silence / alphabet.frame_seconds)
        self._long = round(rules.soft_limit / alphabet.frame_seconds)
        self._longest = round(rules.hard_limit / alphabet.frame_seconds)
        self.reset()

    def reset(self) -> None:
        """Begin an utterance."""
        self._silent = 0
        self._length = 0

    def ends(self, label: int) -> bool:
        """Take the best label of the next frame; true if the utterance ends with this frame."""
        self._length += 1
        self._silent = self._silent + 1 if label in self._quiet else 0
        ended = self._silent >= self._pause or self._length >= self._longest
        ended = ended or (self._length >= self._long and label == self._gap)
        if ended:
            self.reset()
        return ended
