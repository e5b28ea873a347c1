"""What all decoders share."""

from typing import Protocol

from asr.events import Event
from asr.runtime.scorers import Scores
from features.errors import EarshotError


class DecodeError(EarshotError, ValueError):
    """A language model, word list, grammar or hotword that decoding cannot use."""


class Decoder(Protocol):
    """Scores to events, as they come; what is open is carried from push to push."""

    def push(self, scores: Scores) -> list[Event]:
        """Take the scores of the next stretch of audio, in order; return what they bring."""
        ...

    def finish(self) -> list[Event]:
        """End the audio; return what only its end decides. Only reset() may follow."""
        ...

    def reset(self) -> None:
        """Go back to the initial state; what follows is as if the decoder were new."""
        ...
