"""The public interface: what `import asr` offers, and how it can be started."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import asr
from tests.support.tiny_models import streaming_ctc, tones


@pytest.mark.parametrize("name", asr.__all__)
def test_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(asr, name)
    assert name in dir(asr)
    if isinstance(value, type):
        assert value.__doc__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Strem'"):
        _ = asr.Strem  # pyright: ignore[reportAttributeAccessIssue]


def test_import_alone_loads_no_runtime() -> None:
    code = "import sys, asr; print('onnxruntime' in sys.modules, 'numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_python_m_asr_is_the_command() -> None:
    command = [sys.executable, "-m", "asr", "--version"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout == f"asr {asr.__version__}\n"


def test_pickled_model_gives_the_same_scores(tmp_path: Path) -> None:
    model = asr.load(streaming_ctc(tmp_path / "model.onnx"))
    copy = pickle.loads(pickle.dumps(model))
    assert copy.card == model.card
    audio = tones("a", "b")
    np.testing.assert_array_equal(copy.log_probs(audio), model.log_probs(audio))
