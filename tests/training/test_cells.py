"""Every cell computes its textbook equations, in torch, in their gradients and in onnxruntime."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from asr.runtime.providers import CPU
from asr.training.network.cells.attention import WINDOW, WindowedAttention
from asr.training.network.cells.cell import Cell, State
from asr.training.network.cells.convlstm import BANDS, ConvLstm, MapStem
from asr.training.network.cells.gru import Gru
from asr.training.network.cells.lstm import Lstm
from asr.training.network.cells.peephole import Peephole
from asr.training.network.cells.rnn import Rnn
from asr.training.network.encoders import Encoder, EncoderConfig
from asr.training.network.heads import ClassifyHead, HeadConfig
from export.graph import ExportedCell, cell_writer
from features.mfcc import MfccConfig

Arrays = dict[str, np.ndarray]
Step = Callable[[Arrays, np.ndarray, Arrays], Arrays]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


# The textbook: the next state of one row from its frame, in float64


def rnn_step(w: Arrays, x: np.ndarray, state: Arrays) -> Arrays:
    sums = w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ state["hidden"]
    return {"hidden": np.tanh(sums + w["bias_hh_l0"])}


def gru_step(w: Arrays, x: np.ndarray, state: Arrays) -> Arrays:
    h = state["hidden"]
    of_input = np.split(w["weight_ih_l0"] @ x + w["bias_ih_l0"], 3)
    of_hidden = np.split(w["weight_hh_l0"] @ h + w["bias_hh_l0"], 3)
    r, z = (sigmoid(a + b) for a, b in zip(of_input[:2], of_hidden[:2], strict=True))
    n = np.tanh(of_input[2] + r * of_hidden[2])
    return {"hidden": (1.0 - z) * n + z * h}


def lstm_step(w: Arrays, x: np.ndarray, state: Arrays) -> Arrays:
    sums = w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ state["hidden"]
    return gated(sums + w["bias_hh_l0"], state["cell"], np.zeros((3, len(state["cell"]))))


def peephole_step(w: Arrays, x: np.ndarray, state: Arrays) -> Arrays:
    sums = w["weight_ih"] @ x + w["weight_hh"] @ state["hidden"] + w["bias"]
    return gated(sums, state["cell"], w["peepholes"])


def convlstm_step(w: Arrays, x: np.ndarray, state: Arrays) -> Arrays:
    sums = convolved(w["weight_ih"], x) + convolved(w["weight_hh"], state["hidden"])
    return gated((sums + w["bias"][:, None]).ravel(), state["cell"], w["peepholes"])


def gated(sums: np.ndarray, c: np.ndarray, peepholes: np.ndarray) -> Arrays:
    i, f, g, o = np.split(sums, 4)
    i, f = sigmoid(i + peepholes[0] * c), sigmoid(f + peepholes[1] * c)
    c = f * c + i * np.tanh(g)
    return {"hidden": sigmoid(o + peepholes[2] * c) * np.tanh(c), "cell": c}


def convolved(kernel: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """[out, in, width] over a flat [in, BANDS] map -> [out, BANDS], zeros beyond the edges."""
    out, channels, width = kernel.shape
    padded = np.pad(flat.reshape(channels, BANDS), ((0, 0), (width // 2, width // 2)))
    result = np.zeros((out, BANDS))
    for band in range(BANDS):
        result[:, band] = (kernel * padded[:, band : band + width]).sum(axis=(1, 2))
    return result


CELLS: dict[str, tuple[type[Cell], Step, int, int]] = {
    "rnn": (Rnn, rnn_step, 3, 5),
    "lstm": (Lstm, lstm_step, 3, 5),
    "gru": (Gru, gru_step, 3, 5),
    "peephole": (Peephole, peephole_step, 3, 5),
    "convlstm": (ConvLstm, convlstm_step, BANDS, 2 * BANDS),
}
every_cell = pytest.mark.parametrize("name", CELLS)


def example(name: str, frames: int, batch: int = 2) -> tuple[Cell, Tensor, State]:
    """A cell whose weights and biases are all large enough to matter, frames, and a state."""
    make, _, inputs, hidden_size = CELLS[name]
    torch.manual_seed(5)
    cell = make(inputs, hidden_size).double()
    with torch.no_grad():
        for weights in cell.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    state = cell.zero_state(batch, torch.zeros(1, dtype=torch.float64))
    state = {key: torch.randn_like(tensor) for key, tensor in state.items()}
    return cell, torch.randn(batch, frames, inputs).double(), state


def textbook(name: str, cell: Cell, frames: Tensor, state: State) -> tuple[np.ndarray, Arrays]:
    """Row by row and step by step."""
    weights = {key: value.detach().numpy() for key, value in cell.named_parameters()}
    outputs, ends = [], []
    for row, sequence in enumerate(frames.numpy()):
        now = {key: tensor[row].numpy() for key, tensor in state.items()}
        outputs.append([])
        for x in sequence:
            now = CELLS[name][1](weights, x, now)
            outputs[-1].append(now["hidden"])
        ends.append(now)
    return np.array(outputs), {key: np.array([end[key] for end in ends]) for key in state}


@every_cell
@torch.no_grad()
def test_a_cell_computes_its_equations(name: str) -> None:
    cell, frames, state = example(name, frames=7)
    expected, expected_end = textbook(name, cell, frames, state)
    output, end = cell.run(frames, state)
    np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=1e-12)
    assert list(end) == list(cell.states)
    for key, tensor in end.items():
        np.testing.assert_allclose(tensor.numpy(), expected_end[key], rtol=0, atol=1e-12)


@every_cell
def test_weights_come_back_from_their_onnx_form(name: str) -> None:
    cell = example(name, frames=1)[0]
    other = CELLS[name][0](*CELLS[name][2:]).double()
    other.take_onnx_weights(cell.onnx_weights())
    torch.testing.assert_close(other.state_dict(), cell.state_dict())


@every_cell
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    cell, frames, state = example(name, frames=3)
    leaves = (frames, *state.values())

    def run(frames: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        output, end = cell.run(frames, dict(zip(state, rest, strict=False)))
        return output, *end.values()

    for tensor in leaves:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(run, (*leaves, *cell.parameters()))


class CellAlone(nn.Module):
    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = ExportedCell(cell)

    def forward(self, frames: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        output, end = self.cell.run(frames, dict(zip(self.cell.states, states, strict=True)))
        return output, *end.values()


@pytest.mark.parametrize(
    "name",
    [name if name == "lstm" else pytest.param(name, marks=pytest.mark.slow) for name in CELLS],
)
def test_the_exported_cell_computes_its_equations_at_any_length(name: str, tmp_path: Path) -> None:
    cell, frames, state = example(name, frames=4)
    single = CellAlone(cell.float())
    axes = {0: torch.export.Dim("batch", min=1, max=64)}
    time_axis = {1: torch.export.Dim("frames", min=1, max=1024)}
    inputs = (frames.float(), *(tensor.float() for tensor in state.values()))
    captured = torch.export.export(
        single, inputs, dynamic_shapes=({**axes, **time_axis}, (axes,) * len(state))
    )
    table: dict[Any, Any] = {torch.ops.earshot.cell.default: cell_writer(type(cell))}
    program = torch.onnx.export(
        captured, custom_translation_table=table, dynamo=True, verbose=False
    )
    assert program is not None
    program.save(tmp_path / "cell.onnx")
    session = ort.InferenceSession(tmp_path / "cell.onnx", providers=[CPU])
    for batch, length in ((1, 1), (3, 2), (2, 40)):
        cell, frames, state = example(name, length, batch)
        expected, ends = textbook(name, cell, frames, state)
        feeds = [tensor.float().numpy() for tensor in (frames, *state.values())]
        names = [node.name for node in session.get_inputs()]
        arrays: Any = session.run(None, dict(zip(names, feeds, strict=True)))
        output, *found = arrays
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)
        for end, after in zip(ends.values(), found, strict=True):
            np.testing.assert_allclose(after, end, rtol=0, atol=1e-5)


@every_cell
@given(first=st.integers(1, 9), second=st.integers(1, 9))
@settings(max_examples=10, deadline=None)
@torch.no_grad()
def test_a_state_carries_all_there_is_to_know(name: str, first: int, second: int) -> None:
    cell, frames, state = example(name, first + second)
    whole, end = cell.run(frames, state)
    before, between = cell.run(frames[:, :first], state)
    after, last = cell.run(frames[:, first:], between | {"foreign": frames})
    torch.testing.assert_close(torch.cat([before, after], dim=1), whole)
    assert list(last) == list(end)
    torch.testing.assert_close(last, end)


@torch.no_grad()
def test_without_peepholes_it_is_the_lstm_of_torch() -> None:
    cell = Peephole(3, 5)
    cell.peepholes.zero_()
    lstm = nn.LSTM(3, 5, batch_first=True)
    parts = (cell.weight_ih, cell.weight_hh, cell.bias, torch.zeros(20))
    for own, weights in zip(lstm.parameters(), parts, strict=True):
        own.copy_(weights)
    frames = torch.randn(4, 9, 3)
    expected, (hidden, _) = lstm(frames)
    output, end = cell.run(frames, cell.zero_state(4, frames))
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(end["hidden"], hidden[0])


@pytest.mark.parametrize("name", ["peephole", "convlstm"])
def test_half_precision_is_near_the_full_one(name: str) -> None:
    cell, frames, state = example(name, frames=20)
    cell, frames, state = cell.float(), frames.float(), {k: t.float() for k, t in state.items()}
    gradients = []
    for lower in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            output, _ = cell.run(frames, state)
        gradient = torch.autograd.grad(output.square().mean(), list(cell.parameters()))
        gradients.append(torch.cat([part.flatten() for part in gradient]))
    full, half = gradients
    assert torch.cosine_similarity(full, half, dim=0) > 0.999


class Operations(TorchDispatchMode):
    """Counts the operations of torch that are run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += 1
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", [Peephole, ConvLstm])
def test_a_hand_written_cell_runs_few_operations_per_frame(make: type[Cell]) -> None:
    """What does not depend on the frame before, such as W x, is done for all frames at once."""
    cell, counts = make(16, 16), []
    for frames in (20, 40):
        batch = torch.randn(2, frames, 16)
        with Operations() as operations:
            cell.run(batch, cell.zero_state(2, batch))
        counts.append(operations.count)
    assert counts[1] - counts[0] <= 22 * 20  # per frame: one product, four gates, the new state


@every_cell
def test_initial_weights_keep_signals_and_memories(name: str) -> None:
    cell = CELLS[name][0](64, 64)
    recurrent = next(w for key, w in cell.named_parameters() if key.startswith("weight_hh"))
    for gate in recurrent.detach().split(recurrent.shape[1]):
        rows = gate.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-4)
    biases = [w.detach() for key, w in cell.named_parameters() if key.startswith("bias")]
    total = torch.stack(biases).sum(dim=0)
    if "cell" in cell.states:
        i, f, g, o = total.chunk(4)
        assert f.eq(1.0).all()
        total = torch.cat([i, g, o])
    assert total.eq(0.0).all()


# Maps


@pytest.mark.parametrize(("n_mfcc", "deltas"), [(8, 0), (13, 2), (40, 1)])
@torch.no_grad()
def test_maps_keep_low_and_high_apart(n_mfcc: int, deltas: int) -> None:
    """What the lowest and the highest coefficient say shows at that end of the bands alone."""
    mfcc = MfccConfig(n_mfcc=n_mfcc, deltas=deltas)
    stem = MapStem(mfcc, 4 * BANDS, subsample=3)
    for name in ("first_norm", "second_norm"):
        setattr(stem, name, nn.Identity())
    for key, weights in stem.named_parameters():
        weights.abs_() if key.endswith("weight") else weights.zero_()
    for order in range(1 + deltas):
        for coefficient, band in ((0, 0), (n_mfcc - 1, BANDS - 1)):
            features = torch.zeros(1, stem.context + 3, mfcc.coefficients)
            features[..., order * n_mfcc + coefficient] = 1.0
            maps = stem(features)
            assert maps.shape == (1, 2, 4 * BANDS)
            loudness = maps.unflatten(2, (4, BANDS)).sum(dim=(0, 1, 2))
            assert loudness[band] > 0.0
            assert loudness[(band + BANDS // 2) % BANDS] == 0.0


# Attention


@torch.no_grad()
def test_a_frame_attends_to_itself_and_the_window_before() -> None:
    torch.manual_seed(2)
    attention = WindowedAttention(12, heads=3).double()
    frames = torch.randn(1, WINDOW + 9, 12).double()
    output, state = attention.run(frames, attention.zero_state(1, frames))
    x = torch.cat([torch.zeros(WINDOW, 12).double(), frames[0]])
    q, k, v = attention.projection(attention.norm(x)).unflatten(1, (3, 3, 4)).unbind(1)
    for t in range(frames.shape[1]):
        near = slice(t, t + WINDOW + 1)
        scores = torch.einsum("hd,shd->hs", q[t + WINDOW], k[near]) / 2.0
        seen = torch.einsum("hs,shd->hd", scores.softmax(dim=1), v[near]).flatten()
        torch.testing.assert_close(output[0, t], frames[0, t] + attention.output(seen))
    torch.testing.assert_close(state["past"], frames[:, -WINDOW:])
    first, between = attention.run(frames[:, :5], attention.zero_state(1, frames))
    rest, _ = attention.run(frames[:, 5:], between)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), output)


@torch.no_grad()
def test_every_head_pools_its_share_of_a_frame() -> None:
    head = ClassifyHead(12, 5, HeadConfig(kind="classify", labels=("a",)), heads=3).eval()
    frames, lengths = torch.randn(2, 7, 12), torch.tensor([7, 4])
    found = head(head.weigh(frames), lengths)
    assert head.attention is not None
    logits = head.attention(frames)
    for row, length in enumerate(lengths):
        weights = logits[row, :length].softmax(dim=0)
        shares = frames[row, :length].unflatten(1, (3, 4))
        pooled = torch.einsum("th,thd->hd", weights, shares).flatten()
        torch.testing.assert_close(found[row, 0], head.output(pooled).log_softmax(dim=0))


# Around the cell


@torch.no_grad()
def test_options_apply_in_their_order() -> None:
    config = EncoderConfig(
        kind="gru", hidden=6, layers=2, block=2, projection=4, layer_norm=True, residual=True
    )
    encoder = Encoder(7, config).eval()
    expected = frames = torch.randn(3, 8, 7)
    for layer in encoder.layers:
        output, _ = layer.forwards.run(expected, layer.forwards.zero_state(3, frames))
        output = layer.norm(layer.projection(output))
        assert output.shape[2] == 4
        expected = output + expected if expected.shape == output.shape else output
    found, _ = encoder.blocks(frames, encoder.initial_state(3, frames))
    torch.testing.assert_close(found, expected)


TRUNCATED = {
    "lstm": EncoderConfig(kind="lstm", hidden=5, block=2, dropout=0.0),
    "peephole": EncoderConfig(kind="peephole", hidden=5, block=2, dropout=0.0),
    "bigru": EncoderConfig(kind="bigru", hidden=5, block=2, look_ahead=1, dropout=0.0),
    "attention": EncoderConfig(kind="attention", hidden=4, block=2, look_ahead=2, dropout=0.0),
}


@pytest.mark.parametrize("config", TRUNCATED.values(), ids=TRUNCATED.keys())
def test_truncation_carries_the_state_and_cuts_the_gradient(config: EncoderConfig) -> None:
    encoder = Encoder(7, config).double().train()
    frames = torch.randn(2, 22, 7).double().requires_grad_()
    outputs, gradients = [], []
    for encoder.truncate in (0, 5):  # whole blocks: pieces of 6 frames
        output, end = encoder.blocks(frames, encoder.initial_state(2, frames))
        (gradient,) = torch.autograd.grad(output[:, 12:18].square().sum(), frames)
        outputs.append({"output": output, **end})
        gradients.append(gradient.abs().amax(dim=(0, 2)))
    torch.testing.assert_close(outputs[1], outputs[0])
    whole, cut = gradients
    assert whole[:12].min() > 0.0
    assert cut[:12].max() == 0.0
    assert cut[12 : 18 - encoder.look_ahead].min() > 0.0


def test_the_truncated_gradient_is_that_of_pieces_with_a_constant_state() -> None:
    encoder = Encoder(7, TRUNCATED["lstm"]).double().train()
    frames = torch.randn(2, 10, 7).double()
    encoder.truncate = 4
    output, _ = encoder.blocks(frames, encoder.initial_state(2, frames))
    found = torch.autograd.grad(output.square().sum(), list(encoder.parameters()))
    lstm = nn.LSTM(7, 5, 2, batch_first=True).double()
    for own, weights in zip(lstm.parameters(), encoder.parameters(), strict=True):
        own.data.copy_(weights)
    state, total = None, torch.zeros(())
    for piece in frames.split(4, dim=1):
        output, (hidden, cell) = lstm(piece, state)
        state = hidden.detach(), cell.detach()
        total = total + output.square().sum()
    expected = torch.autograd.grad(total, list(lstm.parameters()))
    torch.testing.assert_close(found, expected)
