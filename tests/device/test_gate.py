"""The model rests while it is quiet, and no word is lost by it."""

from pathlib import Path

import numpy as np
import pytest

import asr
from asr.events import Event, Partial
from asr.gate import Gated
from features.audio import read_audio
from tests.support.commands import ROOT
from tests.support.tiny_models import SAMPLE_RATE, tones

NOISE = 10 ** (-55 / 20)  # of full scale
CASES = {
    "trained keywords": ("commands", None),
    "typed keywords": ("english", asr.SpotOptions(keywords=(asr.Keyword("three", 0.5),))),
    "text": ("english", None),
}


def events_of(stream: asr.Stream | Gated, audio: np.ndarray, step: int = 320) -> list[Event]:
    found: list[Event] = []
    for start in range(0, len(audio), step):
        found += stream.push(audio[start : start + step])
    return [event for event in found + stream.finish() if not isinstance(event, Partial)]


def seconds(event: Event) -> float:
    return event.end if isinstance(event, asr.Utterance | Partial) else event.time


def text(event: Event) -> str:
    return event.text if isinstance(event, asr.Utterance | Partial) else event.label


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_word_is_lost_between_silences(case: str) -> None:
    name, options = CASES[case]
    sample = "commands.flac" if name == "commands" else "digits.ogg"
    spoken = read_audio(ROOT / "samples" / sample, SAMPLE_RATE)
    chance = np.random.default_rng(1)
    pauses = [np.zeros(round(s * SAMPLE_RATE), np.float32) for s in (7.03, 0.4, 11.01)]
    audio = np.concatenate([part for pause in pauses for part in (pause, spoken)])
    audio = audio + chance.normal(0.0, NOISE, len(audio)).astype(np.float32)
    model = asr.load(name)
    expected = events_of(asr.Stream(model, options), audio)
    gated = Gated(asr.Stream(model, options))
    found = events_of(gated, audio)
    assert [text(event) for event in found] == [text(event) for event in expected] != []
    for event, other in zip(found, expected, strict=True):
        assert seconds(event) == pytest.approx(seconds(other), abs=0.2)
    assert gated.skipped > 0.2 * len(audio)


@pytest.mark.parametrize("step", [37, 320, 16001])
def test_events_do_not_depend_on_how_the_sound_is_cut(speech_model: Path, step: int) -> None:
    quiet = np.zeros(6 * SAMPLE_RATE, np.float32)
    audio = np.concatenate([quiet, tones("a", "b"), quiet, tones("c", " ", "a"), quiet[:5000]])
    model = asr.load(speech_model)
    expected = events_of(asr.Stream(model), audio)
    stream = Gated(asr.Stream(model))
    for _ in range(2):
        found = events_of(stream, audio, step)
        assert [text(event) for event in found] == [text(event) for event in expected] != []
        times = [seconds(event) for event in expected]
        assert [seconds(event) for event in found] == pytest.approx(times, abs=1e-6)
        assert stream.skipped > 0
        stream.reset()


def test_a_word_at_the_very_end_is_not_left_out(speech_model: Path) -> None:
    quiet = np.zeros(8 * SAMPLE_RATE, np.float32)
    stream = Gated(asr.Stream(asr.load(speech_model)))
    (said,) = events_of(stream, np.concatenate([quiet, tones("a", pause=0.0)]))
    assert text(said) == "a" and stream.skipped > 0


def test_a_vowel_in_noise_is_loud(speech_model: Path) -> None:
    """Differences between neighbours alone would not show it: they are nearly all noise."""
    noise = np.random.default_rng(2).normal(0.0, 10 ** (-30 / 20), 16 * SAMPLE_RATE)
    vowel = 0.15 * np.sin(2 * np.pi * 400 * np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE)
    spoken = noise + np.pad(vowel, (12 * SAMPLE_RATE, 0))
    skipped = []
    for sound in (noise, spoken):
        stream = Gated(asr.Stream(asr.load(speech_model)))
        stream.push(sound.astype(np.float32))
        skipped.append(stream.skipped)
    assert skipped[0] - skipped[1] > 3 * SAMPLE_RATE


def test_what_is_no_sound_is_refused(speech_model: Path) -> None:
    stream = Gated(asr.Stream(asr.load(speech_model)))
    with pytest.raises(asr.StreamError):
        stream.push(np.full(10, np.nan, np.float32))
    assert stream.samples == 0
