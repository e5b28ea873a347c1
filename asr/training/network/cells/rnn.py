"""Plain recurrence: the baseline that forgets."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from asr.training.network.cells.cell import TorchCell


class Rnn(TorchCell, nn.RNN):
    """Simple recurrent network (Elman, 1990), as torch and ONNX define it:

        h_t = tanh(W x_t + R h_{t-1} + b)

    The gradient of h_t by h_{t-k} is a product of k factors diag(1 - h^2) R: it vanishes or
    explodes with k (Bengio et al., 1994).
    """

    @staticmethod
    def write(op: Any, frames: Any, states: Sequence[Any], weights: Sequence[Any]) -> Any:
        size = weights[1].shape[-1]
        return op.RNN(frames, *weights, None, *states, hidden_size=size)
