"""The plugins, as the plugin manager of Open Voice OS finds, loads and calls them."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.serving import SPEECH, pcm, pieces
from tests.support.tiny_models import SAMPLE_RATE

WAKE, SPEAK = "earshot-ww-plugin", "earshot-stt-plugin"


@pytest.fixture(scope="module")
def manager() -> ModuleType:
    """The plugin manager. To import it takes seconds, which only who tests it pays."""
    for part in ("wakewords", "stt", "utils.audio"):
        pytest.importorskip(f"ovos_plugin_manager.{part}")
    return import_module("ovos_plugin_manager")


def test_manager_finds_the_plugins(manager: ModuleType) -> None:
    assert WAKE in manager.wakewords.find_wake_word_plugins()
    assert SPEAK in manager.stt.find_stt_plugins()


def test_wake_word_is_found_once_each_time_it_is_said(
    manager: ModuleType, speech_model: Path
) -> None:
    config = {"ba": {"module": WAKE, "model": str(speech_model)}}
    engine = manager.wakewords.OVOSWakeWordFactory.create_hotword("ba", config)
    found = 0
    for piece in 2 * pieces(SPEECH, 1024):
        engine.update(piece)
        found += engine.found_wake_word()
    assert found == 2
    engine.reset()
    assert not engine.found_wake_word()


def test_speech_is_transcribed(manager: ModuleType, speech_model: Path) -> None:
    config = {"module": SPEAK, SPEAK: {"model": str(speech_model), "beam": 4}, "lang": "en-us"}
    plugin = manager.stt.OVOSSTTFactory.create(config)
    said = manager.utils.audio.AudioData(pcm(SPEECH), SAMPLE_RATE, 2)
    assert plugin.execute(said) == plugin.transcribe(said)[0][0] == "ab c ba"
