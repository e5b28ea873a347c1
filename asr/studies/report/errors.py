"""The errors that a model is most confident of, to play and to look at."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from asr.evaluation.outcomes import Outcome
from asr.evaluation.words import judge
from asr.model import Model
from asr.studies.report.page import Clip, picture_of, sound_of
from asr.studies.report.pictures import plot_reading

ERRORS = 8
SECONDS = 8.0  # of a clip; more of it is too fine for a picture and heavy for a page


class Wrong(NamedTuple):
    """A wrong outcome, its samples, and how sure the model was of it, in [0, 1]."""

    outcome: Outcome
    samples: np.ndarray
    sureness: float


def worst_errors(model: Model, outcomes: Sequence[Outcome], *, audio: bool) -> list[Clip]:
    """The ERRORS wrong recordings that the model is most sure of, of as many speakers as can be.

    audio: whether their sound is part of them.
    """
    wrong = [
        _wrong(model, outcome, outcome.waveform())
        for outcome in outcomes
        if outcome.waveform and not outcome.right
    ]
    ranked = sorted(wrong, key=lambda error: -error.sureness)
    seen: set[str] = set()
    first, rest = [], []
    for error in ranked:
        (rest if error.outcome.speaker in seen else first).append(error)
        seen.add(error.outcome.speaker)
    return [_clip(model, error, audio) for error in [*first, *rest][:ERRORS]]


def _wrong(model: Model, outcome: Outcome, samples: np.ndarray) -> Wrong:
    """Sure: the highest confidence of a wrong word, or the posterior of the wrong label."""
    if model.card.task == "ctc":
        judged = judge([outcome])
        return Wrong(outcome, samples, float(judged.confidences[~judged.right].max(initial=0.0)))
    label = model.card.labels.index(outcome.hypothesis)
    return Wrong(outcome, samples, float(np.exp(model.log_probs(samples)[:, label].max())))


def _clip(model: Model, error: Wrong, audio: bool) -> Clip:
    outcome = error.outcome
    samples = error.samples[: round(SECONDS * model.card.sample_rate)]
    draw = partial(plot_reading, model.card, samples, model.log_probs(samples))
    return Clip(
        outcome.reference,
        outcome.hypothesis,
        f"{100 * error.sureness:.0f} % sure",
        f"{outcome.group}, speaker {outcome.speaker}",
        sound_of(samples, model.card.sample_rate) if audio else "",
        picture_of(draw),
    )
