"""A trained model as an ONNX graph: PCM (or labels) in, log-probabilities out, state explicit.

How torch's exporter is called, and what is mended afterwards, is known here and nowhere else.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnxscript import opset18
from torch import Tensor, nn

from asr.phonemes import SOUNDS
from asr.training.network.acoustic import AcousticModel
from asr.training.network.cells.cell import Cell, State
from asr.training.network.language import LanguageModel
from features.mfcc import Mfcc, half_hann

EXAMPLE_SECONDS = 1.0
EXAMPLE_BLOCKS = 3

Network = TypeVar("Network", AcousticModel, LanguageModel)


@torch.library.custom_op("earshot::cell", mutates_args=())
def _cell(frames: Tensor, states: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """`Cell.run` as one node: its outputs and next states.

    Captured whole, whatever its shapes: torch would fix the time axis of its own recurrences, and
    unroll others.
    """
    raise NotImplementedError("exists only to be exported")


@_cell.register_fake
def _(frames: Tensor, states: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    output = frames.new_empty(*frames.shape[:2], states[0].shape[1])
    return [output, *map(torch.empty_like, states)]


def cell_writer(cell: type[Cell]) -> Callable[..., Any]:
    """The translation of `_cell` to ONNX for one kind of cell."""

    def write(frames: Any, states: Any, weights: Any) -> Any:
        op: Any = opset18  # its stubs know neither keyword outputs nor several of them
        first, second = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
        frames = op.Transpose(frames, perm=[1, 0, 2])
        states = [op.Unsqueeze(state, first) for state in states]
        output, *states = cell.write(op, frames, states, weights)
        output = op.Transpose(op.Squeeze(output, second), perm=[1, 0, 2])
        return [output, *(op.Squeeze(state, first) for state in states)]

    return write


class ExportedCell(nn.Module):
    """Stands in for a `Cell` while a model is captured."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.states = cell.states
        self.zero_state = cell.zero_state
        self.weights = nn.ParameterList(weights.detach() for weights in cell.onnx_weights())

    def run(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.run`."""
        output, *following = _cell(
            frames, [state[name] for name in self.states], list(self.weights)
        )
        return output, dict(zip(self.states, following, strict=True))


def _exportable(model: Network) -> Network:
    """A copy in which every `Cell` is an `ExportedCell`."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Cell):
                setattr(module, name, ExportedCell(child))
    return model


class WholeUtterance(nn.Module):
    """pcm [batch, samples] -> log_probs [batch, frames, labels], and phonemes if it reads them."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pcm: Tensor) -> tuple[Tensor, ...]:
        return _outputs(self.model, self.model(pcm, None, sounds=True)[0])


class StreamStep(nn.Module):
    """The next blocks of a stream, or the next label of a text: takes and gives what
    `example_inputs` or `build_language_graph` names."""

    def __init__(self, model: AcousticModel | LanguageModel, states: list[str]) -> None:
        super().__init__()
        self.model = model
        self.states = states

    def forward(self, inputs: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        scores, state = self.model.step(inputs, dict(zip(self.states, states, strict=True)))
        log_probs, *phonemes = _outputs(self.model, scores)
        return (log_probs, *(state[name] for name in self.states), *phonemes)


def _outputs(model: nn.Module, scores: Tensor) -> tuple[Tensor, ...]:
    """Scores as the outputs of a graph: those of the labels and, apart, of the phonemes."""
    if getattr(model, "sounds", None) is None:
        return (scores,)
    return scores.tensor_split([-len(SOUNDS)], dim=-1)


def example_inputs(model: AcousticModel, batch: int) -> dict[str, Tensor]:
    """The inputs of the exported graph by name: silence, and the zero state of a fresh stream."""
    if not model.streaming:
        samples = int(EXAMPLE_SECONDS * model.config.mfcc.sample_rate)
        return {"pcm": torch.zeros(batch, samples)}
    pcm = torch.zeros(batch, EXAMPLE_BLOCKS * model.block_length)
    return {"pcm": pcm, **model.initial_state(batch, pcm)}


def build_graph(model: AcousticModel) -> onnx.ModelProto:
    """Export the model: any batch, any number of blocks or, for whole utterances, of samples."""
    inputs = example_inputs(model, batch=2)
    exportable, states = _exportable(model), list(inputs)[1:]
    network = StreamStep(exportable, states) if states else WholeUtterance(exportable)
    graph = _capture(network, inputs, _open_axes(inputs, model), model.config.encoder.parts.cell)
    _compact_dft(graph, model.mfcc)
    onnx.checker.check_model(graph)
    return graph


def build_language_graph(model: LanguageModel) -> onnx.ModelProto:
    """Export a language model: labels [batch, 1] and state to what follows, for any batch."""
    inputs = {"labels": torch.zeros(2, 1, dtype=torch.int64), **model.initial_state(2)}
    axes, states = {0: torch.export.Dim("batch", min=1, max=4096)}, list(inputs)[1:]
    network = StreamStep(_exportable(model), states)
    open_axes = (axes, (axes,) * len(states))
    graph = _capture(network, inputs, open_axes, model.config.encoder.parts.cell)
    onnx.checker.check_model(graph)
    return graph


def _capture(
    network: nn.Module, inputs: dict[str, Tensor], open_axes: tuple[Any, ...], cell: type[Cell]
) -> onnx.ModelProto:
    """The graph of one call: log_probs and the next states of the inputs after the first."""
    with quiet(), torch.no_grad():
        captured = torch.export.export(
            network,
            tuple(inputs.values()),
            dynamic_shapes=open_axes,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        program = torch.onnx.export(
            captured,
            input_names=list(inputs),
            output_names=[
                "log_probs",
                *(f"next_{name}" for name in list(inputs)[1:]),
                *(["phonemes"] if getattr(network.model, "sounds", None) is not None else []),
            ],
            custom_translation_table={torch.ops.earshot.cell.default: cell_writer(cell)},
            opset_version=opset18.version,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    _name_axes(graph)
    _forget_origin(graph)
    return graph


def _open_axes(inputs: dict[str, Tensor], model: AcousticModel) -> tuple[Any, ...]:
    """The axes left open, in the structure of the arguments: pcm, then all states."""
    axes = {0: torch.export.Dim("batch", min=1, max=4096)}
    if model.streaming:
        time = model.block_length * torch.export.Dim("blocks", min=1, max=65536)
    else:
        # Capturing sets very short sounds apart, though the graph that it writes does not.
        time = torch.export.Dim("samples", min=inputs["pcm"].shape[1] // 2, max=2**26)
    states = (axes,) * (len(inputs) - 1)
    return ({**axes, 1: time}, states) if states else ({**axes, 1: time},)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence notes of the exporter and of the quantiser on their own internals; what matters is
    checked afterwards."""
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


def _compact_dft(proto: onnx.ModelProto, mfcc: Mfcc) -> None:
    """Replace the stored DFT matrices by one period of a cosine, gathered when the model is loaded.

    Row n, bin k is cos(2 pi (k (window - 2 n) - phase) / (2 n_fft)) * hann[n], where a quarter
    period as the phase makes a sine of the cosine. Runtimes fold this into a constant once; the
    file is smaller by up to half a megabyte.
    """
    config = mfcc.config
    period = 2 * config.n_fft
    samples = np.arange(1, config.window_length // 2 + 1)[:, None]
    constants = {
        "dft_bins": np.array(mfcc.bins),
        "dft_size": np.array(period),
        "dft_period": np.cos(2.0 * np.pi * np.arange(period) / period).astype(np.float32),
        "dft_offsets": config.window_length - 2 * samples,
        "dft_window": half_hann(config.window_length)[:, None].numpy(),
    }
    nodes = [helper.make_node("Mul", ["dft_offsets", "dft_bins"], ["dft_product"])]
    for part, phase in {"cosines": 0, "sines": period // 4}.items():
        stored = next(item for item in proto.graph.initializer if item.name.endswith(part))
        proto.graph.initializer.remove(stored)
        name = f"dft_{part}"
        constants[f"{name}_phase"] = np.array(-phase)
        nodes += [
            helper.make_node("Add", ["dft_product", f"{name}_phase"], [f"{name}_angle"]),
            helper.make_node("Mod", [f"{name}_angle", "dft_size"], [f"{name}_index"]),
            helper.make_node("Gather", ["dft_period", f"{name}_index"], [f"{name}_plain"]),
            helper.make_node("Mul", [f"{name}_plain", "dft_window"], [stored.name]),
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
