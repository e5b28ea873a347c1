"""What a recurrence gives to the encoder, the trainer and the exporter."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
"""Named tensors that are carried from block to block, each [batch, ...]; all start as zeros."""


class Cell(nn.Module, ABC):
    """A recurrence over time, in one direction, made as Cell(inputs, hidden_size).

    states: names of its state tensors, [batch, hidden_size] each. The first, `hidden`, is the
        output of the last frame.
    """

    states: ClassVar[tuple[str, ...]] = ("hidden",)
    hidden_size: int

    def zero_state(self, batch: int, like: Tensor) -> State:
        """The initial state of a stream, of the type and device of `like`."""
        return {name: like.new_zeros(batch, self.hidden_size) for name in self.states}

    @abstractmethod
    def run(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """[batch, frames, inputs] -> [batch, frames, hidden_size] and the next state.

        `state` may hold more than the names in `states`; only these are returned.
        """

    def step(self, frame: Tensor, state: State) -> State:
        """One frame by the equations of the cell: what `asr explain` draws.

        frame: [batch, inputs] -> the next state and, beside it, the gates by name, [batch,
        hidden_size] each. A cell without gates has nothing to add to this.
        """
        return self.run(frame.unsqueeze(1), state)[1]

    @abstractmethod
    def onnx_weights(self) -> tuple[Tensor, ...]:
        """The weights that `write` gets, as the operator of ONNX has them: gates in its order,
        a leading axis for the direction."""

    @abstractmethod
    def take_onnx_weights(self, weights: Sequence[Tensor]) -> None:
        """Set the parameters to those of an exported cell: the inverse of `onnx_weights`."""

    @staticmethod
    @abstractmethod
    def write(op: Any, frames: Any, states: Sequence[Any], weights: Sequence[Any]) -> Any:
        """Write `run` with the operators `op` of ONNX, in the layout of its recurrent ones.

        frames: [frames, batch, inputs]; states: [1, batch, hidden_size] each. Returns the outputs,
        [frames, 1, batch, hidden_size], and the next states.
        """


class TorchCell(Cell):
    """One layer of a recurrence of torch; a subclass names it as its next base, after this.

    onnx_order: torch's gates in the order of the ONNX operator.
    """

    onnx_order: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, inputs: int, hidden_size: int) -> None:
        super().__init__(inputs, hidden_size, batch_first=True)
        initialise(self)

    def run(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        output, hidden = self(frames, state["hidden"].unsqueeze(0))
        return output, {"hidden": hidden.squeeze(0)}

    def onnx_weights(self) -> tuple[Tensor, ...]:
        w, r, *biases = (reorder(weights, self.onnx_order) for weights in self.parameters())
        return tuple(weights.unsqueeze(0) for weights in (w, r, torch.cat(biases)))

    def take_onnx_weights(self, weights: Sequence[Tensor]) -> None:
        w, r, biases = (tensor.squeeze(0) for tensor in weights)
        for own, given in zip(self.parameters(), (w, r, *biases.chunk(2)), strict=True):
            own.data.copy_(restore_order(given, self.onnx_order))


def reorder(weights: Tensor, order: Sequence[int]) -> Tensor:
    """The gates along the first axis in another order: first the one that was at `order[0]`."""
    gates = weights.chunk(len(order))
    return torch.cat([gates[k] for k in order])


def restore_order(weights: Tensor, order: Sequence[int]) -> Tensor:
    """The inverse of `reorder`."""
    return reorder(weights, sorted(range(len(order)), key=order.__getitem__))


def initialise(cell: Cell) -> None:
    """Xavier input weights, orthogonal recurrent weights for each gate, zero biases.

    After Glorot & Bengio (2010) and Saxe et al. (2014). The small uniform weights that torch starts
    from leave upper layers almost without a signal, and CTC then spends its first thousands of
    steps on blanks.
    """
    for name, parameter in cell.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter)
        elif name.startswith("weight_hh"):
            for gate in parameter.data.split(parameter.shape[1]):
                nn.init.orthogonal_(gate)
        elif name.startswith("bias"):
            nn.init.zeros_(parameter)
