"""An exported model as the network that it was: its weights read back out of the .onnx file.

Export keeps the names of parameters, but for those of cells, whose gates it brings into the order
of ONNX; of linear layers, whose matrices it transposes and renames; and of small convolutions,
which it makes convolutions of pictures. Each of these is found beside the bias of its layer, whose
name it does keep.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto, NodeProto, numpy_helper
from torch import Tensor, nn

from asr.card import Card, CardError, ModelCard, read_card
from asr.training.network.acoustic import AcousticModel, ModelConfig
from asr.training.network.cells.cell import Cell
from asr.training.network.encoders import EncoderConfig
from asr.training.network.heads import HeadConfig
from asr.training.network.language import LanguageModel
from features.errors import EarshotError
from features.mfcc import MfccConfig

PREFIX = "model."  # of every name in the graph
ATTENTION = "head.attention"


class PretrainedError(EarshotError, ValueError):
    """An exported model whose weights cannot be trained further."""


def read_pretrained(path: Path) -> tuple[AcousticModel | LanguageModel, Card]:
    """Rebuild the network that an .onnx file was exported from, in evaluation mode, and its card.

    Raises CardError for a file without a card, PretrainedError for int8 weights, or for a graph
    that 'asr export' did not write.
    """
    proto = _load(path)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    card = read_card(metadata, str(path))
    if card.precision != "fp32":
        raise PretrainedError(
            f"{path}: its weights are {card.precision}, too coarse to be trained further; name the "
            "file that was exported without --int8"
        )
    stored = dict(_stored(proto))
    model = _network(card, stored)
    try:
        _fill(model, stored)
    except (KeyError, RuntimeError, ValueError) as error:
        raise PretrainedError(
            f"{path}: its weights are not those of the network in its card ({error}); name a file "
            "that 'asr export' wrote"
        ) from None
    return model.eval(), card


def _load(path: Path) -> ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:  # whatever the parser of Protocol Buffers raises, by its version
        raise CardError(f"{path}: cannot be read as an ONNX model ({error})") from None


def _network(card: Card, stored: dict[str, Tensor]) -> AcousticModel | LanguageModel:
    """The network that a card describes, with fresh weights."""
    encoder = EncoderConfig(**_known(EncoderConfig, card.encoder))
    if not isinstance(card, ModelCard):
        config = ModelConfig(head=HeadConfig(kind="lm"), encoder=encoder)
        return LanguageModel(config, len(card.labels))
    mfcc = MfccConfig(**_known(MfccConfig, card.mfcc))
    classifies = card.task == "classify"
    head = HeadConfig(
        kind="classify" if classifies else "ctc",
        labels=tuple(name for name in card.labels if name not in card.background),
        pooling="attention" if f"{ATTENTION}.0.bias" in stored else "mean",
        window=(card.window_length or card.sample_rate) / card.sample_rate,
        phonemes=bool(card.phonemes),
        upsample=1 if classifies else mfcc.hop_length * encoder.subsample // card.hop_length,
    )
    return AcousticModel(ModelConfig(head=head, mfcc=mfcc, encoder=encoder), len(card.labels))


def _known(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Values as the fields of a dataclass; JSON has lists where these are tuples."""
    names = {field.name for field in fields(kind)}
    return {
        name: tuple(map(tuple, value)) if isinstance(value, list) else value
        for name, value in values.items()
        if name in names
    }


def _fill(model: nn.Module, stored: dict[str, Tensor]) -> None:
    """Give a network the weights of a file, all of them."""
    state = model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, Cell):
            count = len(module.onnx_weights())
            module.take_onnx_weights([stored[f"{name}.weights.{k}"] for k in range(count)])
            own = {f"{name}.{key}": value for key, value in module.state_dict().items()}
            stored = stored | own
    model.load_state_dict({name: stored[name] for name in state})


def _stored(proto: ModelProto) -> Iterator[tuple[str, Tensor]]:
    """The weights in a graph by the names of parameters, as torch has them."""
    tensors = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in proto.graph.initializer
    }
    yield from ((name.removeprefix(PREFIX), tensor) for name, tensor in tensors.items())
    users = {name: node for node in proto.graph.node for name in node.input}
    makers = {name: node for node in proto.graph.node for name in node.output}
    for node in proto.graph.node:
        weight = tensors.get(node.input[1]) if len(node.input) > 1 else None
        if weight is None:
            continue
        anonymous = not node.input[1].startswith(PREFIX)
        if node.op_type == "Conv" and anonymous and len(node.input) > 2:
            yield _weight_beside(node.input[2]), weight.squeeze(2)
        if node.op_type == "MatMul" and (name := _linear_name(node, users, makers)):
            yield name, weight.T


def _linear_name(
    node: NodeProto, users: dict[str, NodeProto], makers: dict[str, NodeProto]
) -> str | None:
    """The parameter that a product multiplies by: its layer's bias, which is added to the product,
    has its name; the query of the attention, which has none, follows a tanh."""
    after, before = users.get(node.output[0]), makers.get(node.input[0])
    if after is not None and after.op_type == "Add":
        for name in after.input:
            if name.startswith(PREFIX) and name.endswith(".bias"):
                return _weight_beside(name)
    follows_tanh = before is not None and before.op_type == "Tanh"
    return f"{ATTENTION}.2.weight" if follows_tanh else None


def _weight_beside(bias: str) -> str:
    """The weight of the layer that a bias is of."""
    return f"{bias.removeprefix(PREFIX).removesuffix('bias')}weight"
