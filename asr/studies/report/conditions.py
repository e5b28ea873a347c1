"""The same recordings in noise and in rooms: how much worse a model gets, and when."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from asr.evaluation.trials import Trial
from features.augment import add_noise, coloured_noise, reverberate, room_response

SNRS = (20.0, 10.0, 5.0, 0.0)  # dB
ROOMS = (0.3, 0.6)  # seconds in which the sound falls by 60 dB
PINK = 1.0  # slope of a spectrum that falls as that of most places does
RECORDINGS = 200  # of a condition at most: there are many conditions

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Condition(NamedTuple):
    """A place to listen in: what it does to a waveform, (samples,) to the same."""

    name: str
    change: Change


def conditions(sample_rate: int) -> Iterator[Condition]:
    """As recorded, then pink noise at each of SNRS, then rooms of each of ROOMS."""
    yield Condition("as recorded", lambda waveform, rng: waveform)
    for snr in SNRS:
        yield Condition(f"noise, {snr:g} dB", partial(_in_noise, snr, sample_rate))
    for rt60 in ROOMS:
        yield Condition(f"room, {rt60:g} s", partial(_in_room, rt60, sample_rate))


def some_of(trials: Sequence[Trial]) -> list[Trial]:
    """At most RECORDINGS of the trials, evenly spread over them."""
    if len(trials) <= RECORDINGS:
        return list(trials)
    places = np.linspace(0, len(trials) - 1, RECORDINGS).astype(int)
    return [trials[place] for place in places]


def changed(trials: Sequence[Trial], condition: Condition) -> list[Trial]:
    """The trials as they sound in a condition, the same every time."""
    return [
        replace(trial, waveform=partial(_changed, trial, condition, number))
        for number, trial in enumerate(trials)
    ]


def _changed(trial: Trial, condition: Condition, number: int) -> np.ndarray:
    return condition.change(trial.waveform(), np.random.default_rng(number))


def _in_noise(
    snr: float, sample_rate: int, waveform: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    noise = coloured_noise(len(waveform), PINK, rng)
    return add_noise(waveform, noise, snr, sample_rate)


def _in_room(
    rt60: float, sample_rate: int, waveform: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    return reverberate(waveform, room_response(rt60, sample_rate, rng))
