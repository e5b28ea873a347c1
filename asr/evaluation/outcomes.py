"""Trials through the device's own runtime: what a model makes of each."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from asr.card import ModelCard
from asr.decode.base import Decoder
from asr.decode.keywords.trained import KeywordTrigger
from asr.decode.options import DecodeOptions
from asr.evaluation.trials import Trial
from asr.events import Detection, Word
from asr.model import Model
from asr.recognise import transcribe
from asr.runtime.scorers import Scores, scorer_for
from asr.training.progress import tracked
from features.audio import AudioError

logger = logging.getLogger(__name__)

SWEEP = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # thresholds of a trigger that are compared


@dataclass(frozen=True)
class Outcome:
    """What a model made of one trial; seconds of sound and seconds of computing.

    fired: the keywords that a device would have reported, of a model that classifies; swept: the
    same with each threshold of SWEEP; words: those of the hypothesis of a ctc model.
    group, speaker, reference, marked, traits, waveform: see `Trial`.
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
    traits: Mapping[str, str] = field(default_factory=dict)
    waveform: Callable[[], np.ndarray] | None = None

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
        runs: list[Scores] = []
        fired, words = (), ()
        if model.card.task == "ctc":
            transcript = transcribe(model, waveform, options=options)
            hypothesis, words = transcript.text, transcript.words
        else:
            runs = _scores(model, waveform)
            fired = _fired(triggers[0], runs)
            hypothesis = _label(model.card, len(waveform), runs, fired)
        seconds = time.perf_counter() - started
        yield Outcome(
            trial.group,
            trial.speaker,
            trial.reference,
            hypothesis,
            len(waveform) / model.card.sample_rate,
            seconds,
            fired=fired,
            swept=tuple(_fired(trigger, runs) for trigger in triggers[1:]),
            words=words,
            marked=trial.marked,
            traits=trial.traits,
            waveform=trial.waveform,
        )


def _triggers(card: ModelCard) -> list[Decoder]:
    """Decoders of trained keywords: with the threshold of the card, then with each of SWEEP; none
    for a ctc model."""
    if card.trigger is None:
        return []
    swept = (replace(card.trigger, threshold=threshold) for threshold in SWEEP)
    cards = [card, *(replace(card, trigger=trigger, alarms=None) for trigger in swept)]
    return [KeywordTrigger(card) for card in cards]


def decide(model: Model, waveform: np.ndarray) -> str:
    """One label for a whole recording: the one at the end if the window holds all of it, else the
    keyword that a stream reports first, or if there is none what else is likeliest at the end."""
    runs = _scores(model, waveform)
    return _label(model.card, len(waveform), runs, _fired(KeywordTrigger(model.card), runs))


def _scores(model: Model, waveform: np.ndarray) -> list[Scores]:
    """What the trigger of a stream is given, to its end."""
    return scorer_for(model, model.card.closing_silence).finish(waveform)


def _fired(trigger: Decoder, runs: Sequence[Scores]) -> tuple[str, ...]:
    """The keywords that a stream with this decoder would report."""
    trigger.reset()
    events = [*(event for run in runs for event in trigger.push(run)), *trigger.finish()]
    return tuple(event.label for event in events if isinstance(event, Detection))


def _label(card: ModelCard, samples: int, runs: Sequence[Scores], fired: tuple[str, ...]) -> str:
    """The answer to a recording of so many samples: see `decide`."""
    answers = range(len(card.labels))
    if card.window_length is None or samples > card.window_length:
        if fired:
            return fired[0]
        answers = [k for k in answers if card.labels[k] in card.background] or answers
    # At the end of the sound, before the silence that closes a stream.
    reached = (run for run in runs if run.end + run.silence >= samples + card.look_ahead)
    last = next(reached, runs[-1]).log_probs[-1]
    return card.labels[max(answers, key=lambda k: last[k])]
