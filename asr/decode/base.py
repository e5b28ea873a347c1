"""What all decoders share."""

import dataclasses
from typing import Any, Protocol, TypeVar

from asr.card import Endpoint, Spotting, Trigger
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


Rules = TypeVar("Rules", Endpoint, Spotting, Trigger)


def chosen(defaults: Rules | None, options: Any) -> Rules:
    """Return the rules of a card, with what options of the same names say instead, if not None."""
    if defaults is None:
        raise ValueError("the card has no such rules; its task is another")
    names = (field.name for field in dataclasses.fields(defaults))
    given = {name: getattr(options, name, None) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(defaults, **given)
