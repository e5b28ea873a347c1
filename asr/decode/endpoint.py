"""Where an utterance ends."""

import math
from typing import NamedTuple

from asr.decode.alphabet import Alphabet


class EndpointRules(NamedTuple):
    """When an utterance ends; all in seconds.

    trailing_silence: without speech; soft_limit: of length, after which the next gap between words
    ends it; hard_limit: of length, after which it ends in any case.
    """

    trailing_silence: float = 0.8
    soft_limit: float = 30.0
    hard_limit: float = 60.0


class Endpointer:
    """Finds the end of an utterance from the best label of each frame.

    It ends after `trailing_silence` without speech (the separator is no speech), or, once it is
    longer than `soft_limit`, at the next gap between words. If there is none it ends after
    `hard_limit`, be it inside a word: what a decoder keeps of an utterance is bounded, however long
    and in whatever way somebody talks.
    """

    def __init__(self, alphabet: Alphabet, rules: EndpointRules | None = None) -> None:
        trailing_silence, soft_limit, hard_limit = rules or EndpointRules()
        self._quiet = (alphabet.blank, alphabet.separator)
        self._gap = alphabet.blank if alphabet.separator is None else alphabet.separator
        self._pause = math.ceil(trailing_silence / alphabet.frame_seconds)
        self._long = round(soft_limit / alphabet.frame_seconds)
        self._longest = round(hard_limit / alphabet.frame_seconds)
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
