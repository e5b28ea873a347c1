"""The public interface: what `import asr` offers, and how it can be started."""

import io
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import asr
from tests.support import tiny_models
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


def wav_of(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, tiny_models.SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.mark.parametrize(
    "form",
    [
        wav_of,
        lambda samples: io.BytesIO(wav_of(samples)),
        list,
        lambda samples: samples.astype(float)[:, None],
        lambda samples: torch.from_numpy(samples),
    ],
    ids=["bytes", "file object", "list", "column of doubles", "tensor"],
)
def test_anything_that_holds_sound_is_recognised(
    speech_model: Path, form: Callable[[np.ndarray], Any]
) -> None:
    model = asr.load(speech_model)
    samples = tiny_models.tones("a", "b")
    assert asr.transcribe(model, form(samples)).text == asr.transcribe(model, samples).text == "ab"


@pytest.mark.parametrize("source", [iter([np.zeros(9)]), None, {"a": 1}, io.StringIO("a")])
def test_what_holds_no_sound_raises_an_error_of_our_own(speech_model: Path, source: Any) -> None:
    with pytest.raises(asr.AudioError) as caught:
        asr.transcribe(asr.load(speech_model), source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (np.ma.array(np.zeros(9, "f4"), mask=[True] * 9), "MaskedArray"),
        ([0.0], "list"),
        (np.zeros(9), "float64 (9,)"),
        (b"00", "bytes"),
        (np.zeros((9, 1), "f4"), "float32 (9, 1)"),
    ],
)
def test_a_stream_takes_blocks_of_float32_alone(speech_model: Path, block: Any, kind: str) -> None:
    stream = asr.Stream(asr.load(speech_model))
    with pytest.raises(asr.StreamError, match=re.escape(f"float32 (samples,), not {kind}; ")):
        stream.push(block)


def test_a_bundled_name_may_be_a_path_and_steps_take_float32() -> None:
    model = asr.load(Path("commands"))
    assert model.path == asr.load("commands").path
    pcm = np.zeros((1, model.card.block_length or 1))
    with pytest.raises(asr.ModelError, match=r"takes pcm float32 \(batch, samples\), not float64"):
        model.step(pcm, model.initial_state())
