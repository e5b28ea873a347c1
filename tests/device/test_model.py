"""Opening models: what is refused and why, and the step contract."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import asr
from asr.card import METADATA_KEY, CardError
from asr.model import Model, ModelError
from asr.recognise import spot, transcribe
from features.errors import EarshotError
from tests.support import tiny_models
from tests.support.commands import run_python
from tests.support.tiny_models import BLOCK, HOP, KEYWORDS, LETTERS, LOOK_AHEAD, SAMPLE_RATE

KINDS = ("streaming_ctc", "streaming_classify", "whole_ctc", "whole_classify")


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    return asr.load(getattr(tiny_models, request.param)(tmp_path / "model.onnx"))


def edited(path: Path, edit: Callable[[onnx.ModelProto], object]) -> Path:
    proto = onnx.load(path)
    edit(proto)
    onnx.save(proto, path)
    return path


def test_a_missing_model_is_named_with_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx: no such model; give the path"):
        asr.load("nowhere.onnx")


@pytest.mark.parametrize("content", [b"", b"not a model", b"RIFF\x00\x00\x00\x00WAVE" * 50])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sound.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"sound\.onnx: cannot be opened as an ONNX model") as e:
        asr.load(path)
    assert "\n" not in str(e.value)


def test_a_model_without_a_card_is_refused(tmp_path: Path) -> None:
    path = tiny_models.streaming_ctc(tmp_path / "m.onnx")
    edited(path, lambda proto: proto.ClearField("metadata_props"))
    with pytest.raises(CardError, match=r"m\.onnx: no model card inside"):
        asr.load(path)


def test_a_card_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tiny_models.streaming_ctc(tmp_path / "m.onnx")
    edited(path, lambda proto: helper.set_model_props(proto, {METADATA_KEY: '{"schema": 99}'}))
    with pytest.raises(CardError, match=r"m\.onnx: its model card has schema 99"):
        asr.load(path)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("streaming_ctc", {"labels": ("<blank>", "a")}, "has 5 labels, the card 2"),
        ("streaming_ctc", {"block_length": 320}, "pcm takes 640 samples, the card's block is 320"),
        ("streaming_ctc", {"look_ahead": 100}, "look_ahead must be a multiple of hop_length"),
        ("streaming_ctc", {"block_length": None}, "takes any number of samples and keeps no state"),
        ("whole_ctc", {"block_length": 640}, "a streaming model keeps state"),
        ("whole_classify", {"hop_length": 9000}, "hop_length must not be longer than window"),
    ],
)
def test_a_graph_that_its_card_contradicts_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, object], message: str
) -> None:
    path = getattr(tiny_models, kind)(tmp_path / "m.onnx")
    tiny_models.with_card(path, path, **changes)
    with pytest.raises(CardError, match=rf"m\.onnx: its graph and its card differ \(.*{message}"):
        asr.load(path)


def test_a_state_without_its_successor_is_refused(tmp_path: Path) -> None:
    path = tiny_models.streaming_ctc(tmp_path / "m.onnx")
    edited(path, lambda proto: proto.graph.output.pop())
    with pytest.raises(CardError, match="instead of log_probs, next_tail, next_level"):
        asr.load(path)


def test_a_step_scores_each_stream_of_a_batch_on_its_own(tmp_path: Path) -> None:
    model = asr.load(tiny_models.streaming_ctc(tmp_path / "m.onnx"))
    sounds = np.stack([tiny_models.tones("a", "b"), tiny_models.tones("c", "a")])[:, : 4 * BLOCK]
    together, states = model.initial_state(batch=2), [model.initial_state() for _ in sounds]
    assert {name: array.shape for name, array in together.items()} == {
        "tail": (2, LOOK_AHEAD),
        "level": (2, 1),
    }
    for start in range(0, sounds.shape[1], BLOCK):
        pcm = sounds[:, start : start + BLOCK]
        log_probs, together = model.step(pcm, together)
        assert log_probs.shape == (2, BLOCK // HOP, len(LETTERS))
        for row in range(2):
            alone, states[row] = model.step(pcm[row : row + 1], states[row])
            np.testing.assert_allclose(log_probs[row], alone[0], atol=1e-6)


def test_a_step_leaves_the_state_it_was_given_alone(tmp_path: Path) -> None:
    model = asr.load(tiny_models.streaming_ctc(tmp_path / "m.onnx"))
    state = model.initial_state()
    _, following = model.step(np.ones((1, BLOCK), np.float32), state)
    assert not any(array.any() for array in state.values())
    assert all(array.any() for array in following.values())


@pytest.mark.parametrize(
    "pcm", [np.zeros((1, 7), "f4"), np.zeros((1, BLOCK)), np.zeros((1, 1, BLOCK), "f4")]
)
def test_a_step_of_the_wrong_shape_or_type_is_an_error(tmp_path: Path, pcm: np.ndarray) -> None:
    model = asr.load(tiny_models.streaming_ctc(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match=r"m\.onnx: (the step failed \(.+\)|a step takes)"):
        model.step(pcm, model.initial_state())
    with pytest.raises(EarshotError):
        model.step(np.zeros((1, BLOCK), np.float32), {})


def test_the_state_of_another_model_or_batch_is_refused(tmp_path: Path) -> None:
    speech = asr.load(tiny_models.streaming_ctc(tmp_path / "speech.onnx"))
    keywords = asr.load(tiny_models.streaming_classify(tmp_path / "keywords.onnx"))
    whole = asr.load(tiny_models.whole_ctc(tmp_path / "whole.onnx"))
    one, two = (np.zeros((batch, BLOCK), np.float32) for batch in (1, 2))
    strangers = [
        (speech, one, keywords.initial_state(), rf"\(tail \(1, {BLOCK}\)\); this step takes tail"),
        (keywords, one, speech.initial_state(), rf"takes tail \(1, {BLOCK}\), as initial_state\(1"),
        (speech, one, {}, r"\(nothing\); this step takes tail"),
        (whole, one, speech.initial_state(), r"takes nothing"),
        (speech, one, speech.initial_state(2), r"level \(2, 1\)\); .* level \(1, 1\)"),
        (speech, two, speech.initial_state(), r"level \(1, 1\)\); .* as initial_state\(2\)"),
    ]
    for model, pcm, state, message in strangers:
        with pytest.raises(ModelError, match=rf"state is that of another model or .*{message}"):
            model.step(pcm, state)
    doubles = {name: array.astype(float) for name, array in speech.initial_state().items()}
    with pytest.raises(ModelError, match=r"speech\.onnx: the step failed \(.*double"):
        speech.step(one, doubles)


@pytest.mark.parametrize(
    "samples", [0, 1, HOP - 1, HOP, HOP + 1, BLOCK - 1, BLOCK, BLOCK + 1, 7999, 8000, 8001, 40_000]
)
def test_every_length_gives_its_number_of_rows(model: Model, samples: int) -> None:
    audio = np.resize(tiny_models.tones("low", "high"), samples).astype(np.float32)
    card = model.card
    if card.task == "ctc":
        rows = -(-samples // HOP)
    elif card.block_length:
        rows = -(-samples // BLOCK)
    else:
        rows = -(-max(0, samples - 8000) // card.hop_length) + 1 if samples else 0
    log_probs = model.log_probs(audio)
    assert log_probs.shape == (rows, len(LETTERS if card.task == "ctc" else KEYWORDS))
    assert log_probs.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1.0, atol=1e-5)


def test_frames_of_a_delayed_model_line_up_with_the_audio(tmp_path: Path) -> None:
    """The look-ahead is taken off: frame k describes the samples from k * hop_length on."""
    delayed = asr.load(tiny_models.streaming_ctc(tmp_path / "delayed.onnx"))
    direct = asr.load(tiny_models.whole_ctc(tmp_path / "direct.onnx"))
    audio = tiny_models.tones("a", "b", " ", "c", seconds=0.13, pause=0.05)
    found = delayed.log_probs(audio).argmax(axis=1)
    np.testing.assert_array_equal(found, direct.log_probs(audio).argmax(axis=1))
    assert found[5] == LETTERS.index("a") and found[4] == 0


def test_arrays_of_any_rate_and_shape_are_read(tmp_path: Path) -> None:
    model = asr.load(tiny_models.streaming_ctc(tmp_path / "m.onnx"))
    audio = tiny_models.tones("a", "b", " ", "c")
    assert transcribe(model, audio).text == "ab c"
    assert transcribe(model, (audio * 32767).astype(np.int16)).text == "ab c"
    assert transcribe(model, np.stack([audio, audio], axis=1)).text == "ab c"
    slow = np.repeat(audio, 3)  # 48 kHz, with images that the resampler takes out
    assert transcribe(model, slow, 3 * SAMPLE_RATE).text == "ab c"
    assert transcribe(model, audio).duration == pytest.approx(len(audio) / SAMPLE_RATE)


def test_the_wrong_task_names_the_right_command(tmp_path: Path) -> None:
    speech = asr.load(tiny_models.streaming_ctc(tmp_path / "speech.onnx"))
    keywords = asr.load(tiny_models.whole_classify(tmp_path / "keywords.onnx"))
    audio = tiny_models.tones("a")
    with pytest.raises(ModelError, match=r"speech\.onnx: .*use 'asr transcribe'"):
        spot(speech, audio)
    with pytest.raises(ModelError, match=r"keywords\.onnx: .*use 'asr spot'"):
        transcribe(keywords, audio)


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    code = """
import builtins, os, sys
real = builtins.__import__
def watching(name, *rest, **more):
    if name.partition(".")[0] == "onnxruntime" and "onnxruntime" not in sys.modules:
        print("telemetry disabled:", os.environ.get("ORT_DISABLE_TELEMETRY"))
    return real(name, *rest, **more)
builtins.__import__ = watching
import asr.model
"""
    result = run_python(code, ORT_DISABLE_TELEMETRY="0")
    assert result.stdout == "telemetry disabled: 1\n", result.stderr
