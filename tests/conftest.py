"""Settings of all tests, and the models that many of them share."""

import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import tiny_models
from tests.support.commands import run_asr
from tests.support.tiny_training import EXACT, ONE_THREAD, write_words_recipe

# How long an example takes says more about the machine than about the code.
settings.register_profile("earshot", deadline=None)
settings.load_profile("earshot")

# A shell starts what it puts in the background deaf to Ctrl-C, and programs that tests start and
# interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what uses a model that is trained for it: fixtures whose name says `trained`."""
    for item in items:
        if any(name.startswith("trained") for name in getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def trained_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of words.toml, two folders above, by the real command: trained once."""
    recipe = write_words_recipe(tmp_path_factory.mktemp("training"))
    result = run_asr("train", recipe, *EXACT, **ONE_THREAD)
    assert result.returncode == 0, result.stderr
    return recipe.parent / "runs" / "words"


@pytest.fixture(scope="session")
def speech_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.streaming_ctc(tmp_path_factory.mktemp("models") / "speech.onnx")


@pytest.fixture(scope="session")
def keyword_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.streaming_classify(tmp_path_factory.mktemp("models") / "keywords.onnx")
