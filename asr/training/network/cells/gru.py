"""Gated recurrent unit: two gates and no cell state."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from asr.training.network.cells.cell import State, TorchCell


class Gru(TorchCell, nn.GRU):
    """GRU (Cho et al., 2014) as cuDNN, torch and ONNX with linear_before_reset define it:

        r_t = sigmoid(W_r x_t + R_r h_{t-1} + b_r)                reset gate
        z_t = sigmoid(W_z x_t + R_z h_{t-1} + b_z)                update gate
        n_t = tanh(W_n x_t + b_n + r_t * (R_n h_{t-1} + d_n))     candidate
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}                     the output

    The reset gate acts after the recurrent product, not before as in the paper, so that one product
    a step serves all gates.
    """

    onnx_order = (1, 0, 2)  # torch has r, z, n; ONNX z, r, n

    def step(self, frame: Tensor, state: State) -> State:
        w, r, b, d = self.parameters()
        entering, remembered = (
            functional.linear(frame, w, b),
            functional.linear(state["hidden"], r, d),
        )
        (r_x, z_x, n_x), (r_h, z_h, n_h) = entering.chunk(3, dim=1), remembered.chunk(3, dim=1)
        reset, update = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
        candidate = (n_x + reset * n_h).tanh()
        hidden = (1.0 - update) * candidate + update * state["hidden"]
        return {"reset gate": reset, "update gate": update, "hidden": hidden}

    @staticmethod
    def write(op: Any, frames: Any, states: Sequence[Any], weights: Sequence[Any]) -> Any:
        size = weights[1].shape[-1]
        return op.GRU(frames, *weights, None, *states, hidden_size=size, linear_before_reset=1)
