"""Trials through the device's own runtime: what a model makes of each."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr.card import ModelCard
from asr.decode.base import Decoder
from asr.decode.keywords.trained import KeywordTrigger
from asr.decode.options import DecodeOptions
from asr.evaluation.progress import tracked
from asr.evaluation.trials import Trial
from asr.events import Detection, Word
from asr.model import Model
from asr.recognise import transcribe
from asr.runtime.scorers import scorer_for
from features.audio import AudioError

logger = logging.getLogger(__name__)

SWEEP = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # thresholds of a trigger that are compared


@dataclass(frozen=True)
class Outcome:
    """What a model made of one trial; seconds of sound and seconds of computing.

    fired: the keywords that a device would have reported, of a model that classifies; swept: the
    same with each threshold of SWEEP; words: those of the hypothesis of a ctc model.
    group, speaker, reference, marked: see `Trial`.
    """

    group: str
    speaker: str
    reference: str
    hypothesis: str
    duration: float
    seconds: float
    fired: tuple[str, ...] = ()
    swept: tuple[tuple[str, ...], ...] = ()
    words: tuple[Word, ...] = ()
    marked: tuple[float, float] | None = None

    @property
    def right(self) -> bool:
        """Whether the hypothesis is the reference."""
        return self.reference == self.hypothesis


def run_trials(
    model: Model, trials: Sequence[Trial], options: DecodeOptions | None = None
) -> Iterator[Outcome]:
    """Yield what the model makes of each trial; what cannot be read is left out with a warning."""
    triggers = _triggers(model.card)
    for trial in tracked(trials, "recognising"):
        try:
            waveform = trial.waveform()
        except AudioError as error:
            logger.warning("%s: left out", error)
            continue
        started = time.perf_counter()
        if model.card.task == "ctc":
            transcript = transcribe(model, waveform, options=options)
            hypothesis = transcript.text
        else:
            transcript = None
            hypothesis = decide(model, waveform)
        seconds = time.perf_counter() - started
        duration = len(waveform) / model.card.sample_rate
        triggered = [()] if transcript else _triggered(model, triggers, waveform)
        yield Outcome(
            trial.group,
            trial.speaker,
            trial.reference,
            hypothesis,
            duration,
            seconds,
            fired=triggered[0],
            swept=tuple(triggered[1:]),
            words=transcript.words if transcript else (),
            marked=trial.marked,
        )


def _triggers(card: ModelCard) -> list[Decoder]:
    """Decoders of trained keywords: with the threshold of the card, then with each of SWEEP; none
    for a ctc model."""
    if card.trigger is None:
        return []
    settings = [card.trigger, *(replace(card.trigger, threshold=t) for t in SWEEP)]
    return [KeywordTrigger(replace(card, trigger=trigger)) for trigger in settings]


def _triggered(
    model: Model, triggers: Sequence[Decoder], waveform: np.ndarray
) -> list[tuple[str, ...]]:
    """The keywords that a stream with each decoder would report."""
    runs = scorer_for(model, model.card.closing_silence).finish(waveform)
    fired = []
    for trigger in triggers:
        trigger.reset()
        events = [*(event for run in runs for event in trigger.push(run)), *trigger.finish()]
        fired.append(tuple(event.label for event in events if isinstance(event, Detection)))
    return fired


def decide(model: Model, waveform: np.ndarray) -> str:
    """One label for a whole recording: the one at the end if the window holds all of it, else the
    one of the moment at which a keyword has its highest posterior."""
    log_probs = model.log_probs(waveform)
    labels = model.card.labels
    if model.card.window_length is not None and len(waveform) <= model.card.window_length:
        return labels[int(log_probs[-1].argmax())]
    keywords = [k for k, name in enumerate(labels) if name not in model.card.background]
    moment = int(log_probs[:, keywords].max(axis=1).argmax())
    return labels[int(log_probs[moment].argmax())]
