"""Takes from a microphone: found, trimmed, checked and numbered."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.recorder import Fault, Take, TakeFinder, next_path, takes_in, write_take
from tests.support.tiny_models import SAMPLE_RATE, tones

RNG = np.random.default_rng(0)


def room(seconds: float, level: float = 1e-3) -> np.ndarray:
    return (level * RNG.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def said(seconds: float = 0.5, level: float = 0.3) -> np.ndarray:
    return tones("low", seconds=seconds, pause=0.0, level=level)


def found(*sounds: np.ndarray) -> list[Take]:
    sound = np.concatenate(sounds)
    blocks = np.array_split(sound, len(sound) // 313)
    return list(takes_in(TakeFinder(SAMPLE_RATE), blocks))


def test_takes_are_found_and_trimmed() -> None:
    takes = found(room(1.0), said(0.5), room(1.0), said(0.8), room(1.0))
    assert [take.fault for take in takes] == [None, None]
    lengths = [len(take.samples) / SAMPLE_RATE for take in takes]
    assert lengths == [pytest.approx(0.8, abs=0.06), pytest.approx(1.1, abs=0.06)]


def test_a_word_with_a_short_pause_is_one_take() -> None:
    takes = found(room(1.0), said(0.3), room(0.3), said(0.3), room(1.0))
    assert len(takes) == 1 and takes[0].fault is None


def test_a_loud_room_is_no_take() -> None:
    assert found(room(3.0, level=0.05)) == []


@pytest.mark.parametrize(
    ("sound", "fault"),
    [
        (said(level=1.0), Fault.clipped),
        (said(level=0.02), Fault.quiet),
        (said(seconds=0.06), Fault.short),
        (said(seconds=5.0), Fault.long),
    ],
)
def test_a_take_that_is_no_use_says_why(sound: np.ndarray, fault: Fault) -> None:
    assert found(room(1.0), sound, room(1.0))[0].fault is fault


def test_takes_are_numbered_on(tmp_path: Path) -> None:
    take = Take(said(), None)
    for number in (1, 2):
        path = next_path(tmp_path, "hey lamp", "anna")
        assert path == tmp_path / "hey lamp" / f"anna_{number:03d}.wav"
        write_take(path, take, SAMPLE_RATE)
    assert next_path(tmp_path, "hey lamp", "ann").name == "ann_001.wav"
    samples, rate = soundfile.read(path)
    assert rate == SAMPLE_RATE
    np.testing.assert_allclose(samples, take.samples, rtol=0, atol=1e-4)
