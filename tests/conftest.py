"""Settings of all tests, and the models that many of them hear with."""

import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import tiny_models

# How long an example takes says more about the machine than about the code.
settings.register_profile("earshot", deadline=None)
settings.load_profile("earshot")

# A shell starts what it puts in the background deaf to Ctrl-C, and programs that tests start and
# interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def speech_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.streaming_ctc(tmp_path_factory.mktemp("models") / "speech.onnx")


@pytest.fixture(scope="session")
def keyword_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.streaming_classify(tmp_path_factory.mktemp("models") / "keywords.onnx")
