"""What `asr explain` draws is what the encoder computes."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from asr.decode.base import DecodeError
from asr.model import load
from asr.studies.evidence import ExplainError
from asr.studies.explain import explain
from asr.studies.inspection import activities, encode, gradient_norms, look_inside, trace
from asr.studies.why import CELL_SECONDS, explain_label
from asr.training.network.cells import KINDS
from asr.training.network.encoders import Encoder, EncoderConfig
from features.errors import EarshotError
from tests.support import tiny_models
from tests.support.commands import run_asr
from tests.support.tiny_models import FREQUENCIES, SAMPLE_RATE, tones
from tests.support.tiny_runs import save_run

INPUTS = 8
CTC = {"kind": "ctc"}
GATES = {
    "rnn": [],
    "gru": ["reset gate", "update gate"],
    "bigru": ["reset gate", "update gate"],
}
LSTM_GATES = ["input gate", "forget gate", "output gate"]


def encoder_of(kind: str, block: int = 2) -> Encoder:
    """Two layers whose weights are large enough to matter; both directions look ahead."""
    look_ahead = 3 if KINDS[kind].bidirectional and block else 0
    config = EncoderConfig(kind=kind, hidden=8, layers=2, block=block, look_ahead=look_ahead)
    torch.manual_seed(3)
    encoder = Encoder(INPUTS, config).double().eval()
    with torch.no_grad():
        for weights in encoder.parameters():
            weights.add_(0.2 * torch.randn_like(weights))
    return encoder


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "tones.wav"
    sf.write(path, tones("a", "b", "c"), SAMPLE_RATE)
    return path


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_trace_equals_running_the_cell_at_once(kind: str) -> None:
    cell = encoder_of(kind).layers[0].forwards
    frames = torch.randn(3, 9, INPUTS).double()
    state = {name: torch.randn_like(t) for name, t in cell.zero_state(3, frames).items()}
    output, end = cell.run(frames, state)
    found = trace(cell, frames, state)
    torch.testing.assert_close(found["hidden"], output)
    for name in cell.states:
        torch.testing.assert_close(found[name][:, -1], end[name])
    gates = found.keys() - set(cell.states)
    assert gates == set(GATES.get(kind, LSTM_GATES))
    assert all(found[name].gt(0.0).all() and found[name].lt(1.0).all() for name in gates)


@torch.no_grad()
def test_a_gate_shut_by_its_bias_is_traced_shut() -> None:
    cell = encoder_of("lstm").layers[0].forwards
    bias = cell.get_parameter("bias_ih_l0")
    frames = torch.randn(1, 5, INPUTS).double()
    for k, name in enumerate(("input gate", "forget gate", None, "output gate")):
        bias.zero_()
        bias[8 * k : 8 * (k + 1)] = -50.0
        found = trace(cell, frames, cell.zero_state(1, frames))
        shut = [gate for gate in LSTM_GATES if found[gate].max() < 1e-6]
        assert shut == ([name] if name else [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [0, 2])
@torch.no_grad()
def test_layer_activities_are_aligned_with_their_input(kind: str, block: int) -> None:
    if not block and not KINDS[kind].bidirectional:
        pytest.skip("one direction always runs in blocks")
    encoder, count = encoder_of(kind, block), 10
    cells = [layer.forwards for layer in encoder.layers]
    frames = torch.randn(1, count + encoder.look_ahead, INPUTS).double()
    found = activities(encoder, frames, count)
    top = encode(encoder, frames)[0, :count, :8].numpy()
    np.testing.assert_allclose(found[-1].states["hidden"], top)
    assert [activity.states["hidden"].shape for activity in found] == [(count, 8)] * 2
    wait = encoder.latency.look_ahead
    padded = torch.nn.functional.pad(frames, (0, 0, wait, 0))  # a stream begins with waiting
    first, _ = cells[0].run(padded, cells[0].zero_state(1, frames))
    np.testing.assert_allclose(found[0].states["hidden"], first[0, wait : wait + count].numpy())
    assert [layer.forwards for layer in encoder.layers] == cells


@pytest.mark.parametrize("kind", ["rnn", "bigru", "peephole", "attention"])
def test_gradient_norms_are_those_of_finite_differences(kind: str) -> None:
    encoder, late, nudge = encoder_of(kind), 5, 1e-5
    frames = torch.randn(1, 8 + encoder.look_ahead, INPUTS).double()
    found = gradient_norms(encoder, frames, late)
    expected = np.zeros(late + 1)
    for t in range(late + 1):
        for k in range(INPUTS):
            step = torch.zeros_like(frames)
            step[0, t, k] = nudge
            with torch.no_grad():
                ahead, back = (encode(encoder, frames + s)[0, late] for s in (step, -step))
            expected[late - t] += float(((ahead - back) / (2 * nudge)).square().sum())
    np.testing.assert_allclose(found, np.sqrt(expected), rtol=1e-5, atol=1e-8)


def test_a_contracting_recurrence_forgets_at_its_rate() -> None:
    encoder = Encoder(INPUTS, EncoderConfig(kind="rnn", hidden=8, layers=1, block=1)).double()
    cell = encoder.layers[0].forwards
    with torch.no_grad():
        cell.get_parameter("weight_hh_l0").copy_(0.5 * torch.eye(8))
    norms = gradient_norms(encoder, torch.zeros(1, 30, INPUTS).double(), 29)
    np.testing.assert_allclose(norms[1:] / norms[:-1], 0.5)


@pytest.mark.slow
def test_the_command_draws_two_runs(tmp_path: Path, recording: Path) -> None:
    for kind in ("peephole", "rnn"):
        save_run(tmp_path / kind, {"kind": kind, "block": 2}, CTC)
    out = tmp_path / "pictures" / "out.png"
    compare = ("--compare", tmp_path / "rnn")
    result = run_asr("explain", tmp_path / "peephole", recording, "-o", out, *compare)
    assert result.returncode == 0, result.stderr
    header = out.read_bytes()[:24]
    assert header.startswith(b"\x89PNG\r\n")
    width, height = (int.from_bytes(header[k : k + 4]) for k in (16, 20))
    assert height > width > 900


def test_the_picture_covers_the_recording(tmp_path: Path, recording: Path) -> None:
    config, _ = save_run(tmp_path / "run", {"block": 4, "look_ahead": 3}, CTC)
    found = look_inside(tmp_path / "run", recording)
    seconds = sf.info(recording).duration
    encoder = config.model.encoder
    count = found.layers[0].states["cell"].shape[0]
    assert count * found.frame == pytest.approx(seconds, abs=found.frame)
    assert len(found.gradients) == count and len(found.layers) == encoder.layers
    assert found.spectrogram.shape[1] == len(found.bands) == config.model.mfcc.n_mels
    assert len(found.spectrogram) * found.hop == pytest.approx(seconds, abs=0.03)


def test_too_short_sound_and_an_unwritable_picture_raise(tmp_path: Path, recording: Path) -> None:
    save_run(tmp_path / "run", {"kind": "gru", "block": 2}, CTC)
    (tmp_path / "file").write_text("")
    sf.write(tmp_path / "click.wav", np.zeros(100), SAMPLE_RATE)
    for sound, out, problem in (
        (tmp_path / "click.wav", tmp_path / "out.png", "shorter than one window"),
        (recording, tmp_path / "file" / "out.png", "cannot be written"),
    ):
        with pytest.raises(EarshotError, match=problem):
            explain(tmp_path / "run", sound, out)


# Models


@pytest.mark.slow
def test_what_a_label_rests_on_is_where_it_is_said(tmp_path: Path) -> None:
    """A tone of "high" in silence: only its own cells speak for it."""
    model = load(tiny_models.streaming_classify(tmp_path / "keywords.onnx"))
    sound = np.concatenate([silence(0.7), tones("high", seconds=0.12), silence(0.3)])
    sf.write(tmp_path / "high.wav", sound, SAMPLE_RATE)
    why = explain_label(model, tmp_path / "high.wav", None)
    assert why.label == "high" and why.trace.found and "was detected" in why.trace.reason
    cell, band = np.unravel_index(why.saliency.weights.argmax(), why.saliency.weights.shape)
    edges, begins = why.saliency.edges, why.saliency.start + CELL_SECONDS * cell
    assert edges[band] < FREQUENCIES["high"] < edges[band + 1]
    assert 0.8 - CELL_SECONDS < begins < 0.92
    assert np.count_nonzero(why.saliency.weights > 0.1) <= 0.1 * why.saliency.weights.size


def test_a_label_that_was_not_detected_is_explained(tmp_path: Path) -> None:
    model = load(tiny_models.streaming_classify(tmp_path / "keywords.onnx"))
    sf.write(tmp_path / "low.wav", np.concatenate([tones("low"), silence(0.4)]), SAMPLE_RATE)
    why = explain_label(model, tmp_path / "low.wav", "High")
    assert why.label == "high" and not why.trace.found
    assert "'high' was not detected: it reached 0% of the 50% that it needs" in why.trace.reason
    with pytest.raises(ExplainError, match="no label 'middle', only _silence_, _unknown_, low, "):
        explain_label(model, tmp_path / "low.wav", "middle")


@pytest.mark.slow
def test_a_word_of_a_transcriber_is_explained_as_it_is_spotted(tmp_path: Path) -> None:
    model = load(tiny_models.streaming_ctc(tmp_path / "speech.onnx"))
    sf.write(tmp_path / "ab.wav", np.concatenate([tones("a", "b"), silence(0.5)]), SAMPLE_RATE)
    said = explain_label(model, tmp_path / "ab.wav", None)
    assert said.label == "ab" and said.trace.found and "was spotted" in said.trace.reason
    absent = explain_label(model, tmp_path / "ab.wav", "cab")
    assert not absent.trace.found and absent.trace.scores.max() < absent.trace.threshold
    assert "'cab' was not spotted" in absent.trace.reason and "there: ab" in absent.trace.reason
    with pytest.raises(DecodeError, match="cannot say"):
        explain_label(model, tmp_path / "ab.wav", "xyz")


def test_silence_needs_a_label(tmp_path: Path) -> None:
    model = load(tiny_models.streaming_ctc(tmp_path / "speech.onnx"))
    sf.write(tmp_path / "silence.wav", silence(0.5), SAMPLE_RATE)
    with pytest.raises(ExplainError, match=r"recognises nothing here; .* --label"):
        explain_label(model, tmp_path / "silence.wav", None)


@pytest.mark.slow
def test_the_command_explains_a_model(tmp_path: Path, recording: Path) -> None:
    model = tiny_models.streaming_ctc(tmp_path / "speech.onnx")
    out = tmp_path / "why.png"
    result = run_asr("explain", model, recording, "-o", out, "--label", "cab")
    assert result.stdout.startswith("'cab' was not spotted"), result.stderr
    assert out.read_bytes().startswith(b"\x89PNG\r\n")
    result = run_asr("explain", model, recording, "-o", out, "--compare", tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--compare is about training runs" in result.stderr
