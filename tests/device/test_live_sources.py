"""Sources of live sound as blocks: a device, here one that counts its blocks, and a file."""

import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

import asr
from tests.support.tiny_models import SAMPLE_RATE, tones

BLOCK = 320  # samples


class CountingStream:
    """A PortAudio stream whose n-th block holds nothing but n."""

    latency = 0.0

    def __init__(self, samplerate: float, callback: Any, **_: Any) -> None:
        self.samplerate = samplerate
        self.active = False
        self._callback = callback

    def start(self) -> None:
        self.active = True
        threading.Thread(target=self._record, daemon=True).start()

    def _record(self) -> None:
        for number in range(100):
            block = np.full((BLOCK, 1), number, np.float32)
            self._callback(block, BLOCK, None, SimpleNamespace(input_overflow=False))

    def abort(self, **_: Any) -> None:
        self.active = False

    def close(self, **_: Any) -> None:
        self.active = False


@pytest.fixture
def sound_card(monkeypatch: pytest.MonkeyPatch) -> None:
    device = {"index": 0, "name": "counter", "hostapi": 0, "max_input_channels": 1}
    card: Any = ModuleType("sounddevice")
    card.PortAudioError = OSError
    card.default = SimpleNamespace(device=[0, 0])
    card.query_hostapis = lambda: [{"name": "none"}]
    card.query_devices = lambda: [device | {"default_samplerate": SAMPLE_RATE}]
    card.InputStream = CountingStream
    monkeypatch.setitem(sys.modules, "sounddevice", card)


def numbers(blocks: Iterator[np.ndarray], count: int) -> list[int]:
    return [int(block[0]) for block in itertools.islice(blocks, count)]


@pytest.mark.usefixtures("sound_card")
def test_a_second_loop_over_the_microphone_goes_on_where_the_first_stopped() -> None:
    with asr.Microphone(SAMPLE_RATE) as microphone:
        assert numbers(iter(microphone), 4) == [0, 1, 2, 3]
        assert numbers(iter(microphone), 4) == [4, 5, 6, 7]


def test_playback_gives_the_whole_file_each_time(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tones("a"), SAMPLE_RATE)
    with asr.Playback(path, SAMPLE_RATE) as playback:
        first, again = np.concatenate(list(playback)), np.concatenate(list(playback))
    assert playback.name == "a.wav" and len(first) == len(tones("a"))
    np.testing.assert_array_equal(first, again)


def test_playback_keeps_the_pace_of_the_file(tmp_path: Path, monkeypatch: Any) -> None:
    """On a clock that only sleeping moves: each block comes when its last sample has sounded."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(3 * BLOCK + 80, np.float32), SAMPLE_RATE)
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr("asr.microphone.time", clock)
    given = [(len(block), clock.now) for block in asr.Playback(path, SAMPLE_RATE)]
    assert [length for length, _ in given] == [BLOCK, BLOCK, BLOCK, 80]
    assert [now for _, now in given] == pytest.approx([0.02, 0.04, 0.06, 0.065])


@pytest.mark.slow
def test_events_of_a_source_go_to_a_callback_until_it_returns_false(
    speech_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    pause = np.zeros(SAMPLE_RATE, np.float32)
    soundfile.write(path, np.concatenate([tones("a"), pause, tones("b")]), SAMPLE_RATE)
    model = asr.load(speech_model)
    events: list[asr.Event] = []
    asr.listen(model, events.append, source=asr.Playback(path, SAMPLE_RATE))
    assert [e.text for e in events if isinstance(e, asr.Utterance)] == ["a", "b"]

    def first(event: asr.Event) -> bool:
        events.append(event)
        return not isinstance(event, asr.Utterance)

    events.clear()
    asr.listen(model, first, source=asr.Playback(path, SAMPLE_RATE))
    assert [e.text for e in events if isinstance(e, asr.Utterance)] == ["a"]
