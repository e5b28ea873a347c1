"""Scores for decoders, without a model."""

import numpy as np

from asr.events import Event, Partial, Utterance
from asr.runtime.scorers import Scores


def scored(log_probs: np.ndarray, end: int = 0) -> Scores:
    """Log-probabilities (frames, labels), or posteriors' logs of one moment (labels,), as a run."""
    return Scores(end, np.atleast_2d(log_probs))


def of_speech(events: list[Event]) -> list[Partial | Utterance]:
    """The events of a decoder that transcribes, which yields no others."""
    found = [event for event in events if isinstance(event, Partial | Utterance)]
    assert len(found) == len(events)
    return found
