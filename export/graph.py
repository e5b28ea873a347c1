"""A trained model as an ONNX graph: PCM in, log-probabilities out, state explicit.

How torch's exporter is called, and what is mended afterwards, is known here and nowhere else.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from asr.training.encoders import LayerState
from asr.training.model import AcousticModel
from features.mfcc import MfccConfig

EXAMPLE_SECONDS = 1.0
DFT = "mfcc.dft"


class WholeUtterance(nn.Module):
    """pcm [batch, samples] -> log_probs [batch, frames, labels]."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pcm: Tensor) -> Tensor:
        return self.model(pcm, None)[0]


class StreamStep(nn.Module):
    """One block of a stream: takes and returns what `example_inputs` names, all [batch, ...]."""

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
        "pcm": torch.zeros(batch, model.block_length),
        "tail": torch.zeros(batch, model.context),
        "hidden": torch.stack([state.hidden for state in states], dim=1),
        "cell": torch.stack([state.cell for state in states], dim=1),
    }
    if model.encoder.look_ahead:
        inputs |= {f"ahead_{k}": state.ahead for k, state in enumerate(states)}
    if config.head.kind == "classify":
        frames = model.window_frames - model.encoder.latency.block
        inputs["history"] = torch.zeros(batch, frames, config.encoder.width)
    return inputs


def build_graph(model: AcousticModel) -> onnx.ModelProto:
    """Export the model: any batch, and for whole utterances any number of samples."""
    inputs = example_inputs(model, batch=2)
    network = StreamStep(model) if model.streaming else WholeUtterance(model)
    states = [name for name in inputs if name != "pcm"]
    # Captured here and not inside torch.onnx.export, which since torch 2.13 takes an LSTM over an
    # open axis apart into a loop instead of writing the ONNX LSTM operator.
    with _quiet(), torch.no_grad():
        captured = torch.export.export(
            network.eval(), tuple(inputs.values()), dynamic_shapes=_open_batch(inputs)
        )
        program = torch.onnx.export(
            captured,
            input_names=list(inputs),
            output_names=["log_probs", *(f"next_{name}" for name in states)],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    _mend_shapes(graph, model.streaming)
    _compact_dft(graph, model.config.mfcc)
    _forget_origin(graph)
    onnx.checker.check_model(graph)
    return graph


def _open_batch(inputs: dict[str, Tensor]) -> tuple[Any, ...]:
    """Axis 0 of every input left open, in the structure of the arguments: four, then the rest."""
    axes = {0: torch.export.Dim("batch", min=1, max=4096)}
    named, others = min(len(inputs), 4), len(inputs) - 4
    return (*[axes] * named, *([(axes,) * others] if others > 0 else []))


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


def _mend_shapes(proto: onnx.ModelProto, streaming: bool) -> None:
    """Declare the time axis of whole-utterance models open.

    Capturing an LSTM fixes its time axis to the example's in what the graph declares, though none
    of the nodes depends on it; that they do not is what the parity check over many lengths proves.
    """
    del proto.graph.value_info[:]
    if streaming:
        return
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "samples"
    frames = proto.graph.output[0].type.tensor_type.shape.dim[1]
    if frames.dim_value != 1:  # a classifier scores the utterance once
        frames.dim_param = "frames"


def _compact_dft(proto: onnx.ModelProto, config: MfccConfig) -> None:
    """Replace the stored DFT kernels by one period of a cosine, gathered when the model is loaded.

    Row k, sample n of the kernel is cos(2 pi (k n + phase) / n_fft) * window[n], with a quarter
    period as the phase of the imaginary part (-sin x = cos(x + pi/2)). Runtimes fold this into a
    constant once; the file is smaller by up to a megabyte.
    """
    initializers = proto.graph.initializer
    stored = next((item for item in initializers if item.name.endswith(DFT)), None)
    if stored is None:
        raise ValueError("the exported graph has no DFT kernels")
    bins = config.n_fft // 2 + 1
    k = np.tile(np.arange(bins), 2)[:, None, None]
    phase = np.repeat([0, config.n_fft // 4], bins)[:, None, None]
    period = np.cos(2.0 * np.pi * np.arange(config.n_fft) / config.n_fft)
    window = np.hanning(config.window_length + 1)[:-1]
    constants = {
        "dft_k": k,
        "dft_phase": phase,
        "dft_n": np.arange(config.window_length),
        "dft_size": np.array(config.n_fft),
        "dft_period": period.astype(np.float32),
        "dft_window": window.astype(np.float32),
    }
    name = stored.name
    initializers.remove(stored)
    initializers.extend(numpy_helper.from_array(v, key) for key, v in constants.items())
    nodes = [
        helper.make_node("Mul", ["dft_k", "dft_n"], ["dft_angle"]),
        helper.make_node("Add", ["dft_angle", "dft_phase"], ["dft_shifted"]),
        helper.make_node("Mod", ["dft_shifted", "dft_size"], ["dft_index"]),
        helper.make_node("Gather", ["dft_period", "dft_index"], ["dft_cosines"]),
        helper.make_node("Mul", ["dft_cosines", "dft_window"], [name]),
    ]
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
