"""A trained model as an ONNX graph: PCM in, log-probabilities out, state explicit.

How torch's exporter is called, and what is mended afterwards, is known here and nowhere else.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnxscript import opset18
from torch import Tensor, nn

from asr.training.encoders import LayerState
from asr.training.model import AcousticModel
from features.mfcc import MfccConfig

EXAMPLE_SECONDS = 1.0
EXAMPLE_BLOCKS = 3


@torch.library.custom_op("earshot::lstm", mutates_args=())
def _lstm(
    frames: Tensor, hidden: Tensor, cell: Tensor, w: Tensor, r: Tensor, b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The LSTM operator of ONNX with [batch, frames, inputs] in and [batch, frames, hidden] out.

    Captured as one node whatever its shapes: torch would fix the time axis of its own LSTM.
    """
    raise NotImplementedError("exists only to be exported")


@_lstm.register_fake
def _(frames: Tensor, hidden: Tensor, cell: Tensor, w: Tensor, r: Tensor, b: Tensor) -> Any:
    output = frames.new_empty(*frames.shape[:2], hidden.shape[-1])
    return output, torch.empty_like(hidden), torch.empty_like(cell)


def _write_lstm(frames: Any, hidden: Any, cell: Any, w: Any, r: Any, b: Any) -> Any:
    op: Any = opset18  # its stubs know neither keyword outputs nor several of them
    frames = op.Transpose(frames, perm=[1, 0, 2])
    size = r.shape[-1]
    output, hidden, cell = op.LSTM(frames, w, r, b, None, hidden, cell, hidden_size=size)
    return (
        op.Transpose(op.Squeeze(output, op.Constant(value_ints=[1])), perm=[1, 0, 2]),
        hidden,
        cell,
    )


class ExportedLstm(nn.Module):
    """Stands in for a one-layer, one-directional torch.nn.LSTM while a model is captured."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.hidden_size = lstm.hidden_size
        weights = [getattr(lstm, name).detach() for name in ("weight_ih_l0", "weight_hh_l0")]
        biases = [getattr(lstm, name).detach() for name in ("bias_ih_l0", "bias_hh_l0")]
        self.w, self.r = (nn.Parameter(_onnx_gates(weight)[None]) for weight in weights)
        self.b = nn.Parameter(torch.cat([_onnx_gates(bias) for bias in biases])[None])

    def forward(
        self, frames: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As torch.nn.LSTM with batch_first=True."""
        if state is None:
            zeros = frames.new_zeros(1, frames.shape[0], self.hidden_size)
            state = (zeros, zeros)
        output, hidden, cell = _lstm(frames, *state, self.w, self.r, self.b)
        return output, (hidden, cell)


def _onnx_gates(weights: Tensor) -> Tensor:
    """Torch orders the gates i, f, g, o; ONNX i, o, f, g."""
    i, f, g, o = weights.chunk(4)
    return torch.cat([i, o, f, g])


def _exportable(model: AcousticModel) -> AcousticModel:
    """A copy in which every LSTM is an `ExportedLstm`."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.LSTM):
                setattr(module, name, ExportedLstm(child))
    return model


class WholeUtterance(nn.Module):
    """pcm [batch, samples] -> log_probs [batch, frames, labels]."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pcm: Tensor) -> Tensor:
        return self.model(pcm, None)[0]


class StreamStep(nn.Module):
    """The next blocks of a stream: takes and gives what `example_inputs` names."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, pcm: Tensor, tail: Tensor, hidden: Tensor, cell: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        widths = self.model.encoder.widths
        looks_ahead = self.model.encoder.look_ahead > 0
        nothing = [pcm.new_zeros(pcm.shape[0], 0, width) for width in widths]
        ahead = others[: len(widths)] if looks_ahead else nothing
        history = others[-1] if self.model.config.head.kind == "classify" else None
        states = [
            LayerState(*parts)
            for parts in zip(hidden.unbind(1), cell.unbind(1), ahead, strict=True)
        ]
        log_probs, tail, states, history = self.model.step(pcm, tail, states, history)
        following = [
            tail,
            torch.stack([state.hidden for state in states], dim=1),
            torch.stack([state.cell for state in states], dim=1),
            *(state.ahead for state in states if looks_ahead),
        ]
        return (log_probs, *following, *([] if history is None else [history]))


def example_inputs(model: AcousticModel, batch: int) -> dict[str, Tensor]:
    """The inputs of the exported graph by name: silence, and the zero states of a fresh stream."""
    config = model.config
    if not model.streaming:
        return {"pcm": torch.zeros(batch, int(EXAMPLE_SECONDS * config.mfcc.sample_rate))}
    states = model.encoder.initial_state(batch, torch.zeros(1))
    inputs = {
        "pcm": torch.zeros(batch, EXAMPLE_BLOCKS * model.block_length),
        "tail": torch.zeros(batch, model.context),
        "hidden": torch.stack([state.hidden for state in states], dim=1),
        "cell": torch.stack([state.cell for state in states], dim=1),
    }
    if model.encoder.look_ahead:
        inputs |= {f"ahead_{k}": state.ahead for k, state in enumerate(states)}
    if config.head.kind == "classify":
        inputs["history"] = torch.zeros(batch, model.history_frames, config.encoder.width + 1)
    return inputs


def build_graph(model: AcousticModel) -> onnx.ModelProto:
    """Export the model: any batch, any number of blocks or, for whole utterances, of samples."""
    inputs = example_inputs(model, batch=2)
    exportable = _exportable(model)
    network = StreamStep(exportable) if model.streaming else WholeUtterance(exportable)
    states = [name for name in inputs if name != "pcm"]
    with _quiet(), torch.no_grad():
        captured = torch.export.export(
            network,
            tuple(inputs.values()),
            dynamic_shapes=_open_axes(inputs, model),
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        program = torch.onnx.export(
            captured,
            input_names=list(inputs),
            output_names=["log_probs", *(f"next_{name}" for name in states)],
            custom_translation_table={torch.ops.earshot.lstm.default: _write_lstm},
            opset_version=opset18.version,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    _name_axes(graph)
    _compact_dft(graph, model.config.mfcc)
    _forget_origin(graph)
    onnx.checker.check_model(graph)
    return graph


def _open_axes(inputs: dict[str, Tensor], model: AcousticModel) -> tuple[Any, ...]:
    """The axes left open, in the structure of the arguments: four, then the rest."""
    axes = {0: torch.export.Dim("batch", min=1, max=4096)}
    if model.streaming:
        time = model.block_length * torch.export.Dim("blocks", min=1, max=65536)
    else:
        # Capturing sets very short sounds apart, though the graph that it writes does not.
        time = torch.export.Dim("samples", min=inputs["pcm"].shape[1] // 2, max=2**26)
    states = [axes] * (len(inputs) - 1)
    return ({**axes, 1: time}, *states[:3], *([tuple(states[3:])] if states[3:] else []))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes on its own internals; what matters is checked afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _name_axes(proto: onnx.ModelProto) -> None:
    """Call the open axes what they are, for people who look at the graph."""
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        batch, *others = value.type.tensor_type.shape.dim
        batch.dim_param = "batch"
        for size in others:
            if size.dim_param:
                size.dim_param = "samples" if value.name == "pcm" else "frames"


def _compact_dft(proto: onnx.ModelProto, config: MfccConfig) -> None:
    """Replace the stored DFT matrices by one period of a cosine, gathered when the model is loaded.

    Row n, bin k is cos(2 pi (k (window - 2 n) - phase) / (2 n_fft)) * hann[n], where a quarter
    period as the phase makes a sine of the cosine. Runtimes fold this into a constant once; the
    file is smaller by up to half a megabyte.
    """
    period = 2 * config.n_fft
    constants = {
        "dft_bins": np.arange(config.n_fft // 2 + 1),
        "dft_size": np.array(period),
        "dft_period": np.cos(2.0 * np.pi * np.arange(period) / period).astype(np.float32),
    }
    hann = np.hanning(config.window_length + 1).astype(np.float32)
    rows = {"cosines": config.window_length // 2, "sines": (config.window_length - 1) // 2}
    phases = {"cosines": 0, "sines": period // 4}
    nodes = []
    for part in rows:
        stored = next(item for item in proto.graph.initializer if item.name.endswith(part))
        proto.graph.initializer.remove(stored)
        samples = np.arange(1, rows[part] + 1)[:, None]
        name = f"dft_{part}"
        constants |= {
            f"{name}_offsets": config.window_length - 2 * samples,
            f"{name}_phase": np.array(-phases[part]),
            f"{name}_window": hann[samples],
        }
        nodes += [
            helper.make_node("Mul", [f"{name}_offsets", "dft_bins"], [f"{name}_product"]),
            helper.make_node("Add", [f"{name}_product", f"{name}_phase"], [f"{name}_angle"]),
            helper.make_node("Mod", [f"{name}_angle", "dft_size"], [f"{name}_index"]),
            helper.make_node("Gather", ["dft_period", f"{name}_index"], [f"{name}_plain"]),
            helper.make_node("Mul", [f"{name}_plain", f"{name}_window"], [stored.name]),
        ]
    proto.graph.initializer.extend(numpy_helper.from_array(v, key) for key, v in constants.items())
    for position, node in enumerate(nodes):
        proto.graph.node.insert(position, node)


def _forget_origin(proto: onnx.ModelProto) -> None:
    """Drop the exporter's notes on source lines: large, and full of the paths of one machine."""
    proto.doc_string = ""
    proto.graph.doc_string = ""
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
