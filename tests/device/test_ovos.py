"""The plugins, as the plugin manager of Open Voice OS finds, loads and calls them."""

from pathlib import Path

import pytest

from tests.support.serving import SPEECH, pcm, pieces
from tests.support.tiny_models import SAMPLE_RATE

wakewords = pytest.importorskip("ovos_plugin_manager.wakewords")
stt = pytest.importorskip("ovos_plugin_manager.stt")
audio = pytest.importorskip("ovos_plugin_manager.utils.audio")

WAKE, SPEAK = "earshot-ww-plugin", "earshot-stt-plugin"


def test_manager_finds_the_plugins() -> None:
    assert WAKE in wakewords.find_wake_word_plugins()
    assert SPEAK in stt.find_stt_plugins()


def test_wake_word_is_found_once_each_time_it_is_said(speech_model: Path) -> None:
    config = {"ba": {"module": WAKE, "model": str(speech_model)}}
    engine = wakewords.OVOSWakeWordFactory.create_hotword("ba", config)
    found = 0
    for piece in 2 * pieces(SPEECH, 1024):
        engine.update(piece)
        found += engine.found_wake_word()
    assert found == 2
    engine.reset()
    assert not engine.found_wake_word()


def test_speech_is_transcribed(speech_model: Path) -> None:
    config = {"module": SPEAK, SPEAK: {"model": str(speech_model), "beam": 4}, "lang": "en-us"}
    plugin = stt.OVOSSTTFactory.create(config)
    said = audio.AudioData(pcm(SPEECH), SAMPLE_RATE, 2)
    assert plugin.execute(said) == plugin.transcribe(said)[0][0] == "ab c ba"
