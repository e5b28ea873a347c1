"""Long short-term memory, the workhorse."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from asr.training.network.cells.cell import State, TorchCell

ONNX_ORDER = (0, 3, 1, 2)  # of the gates: torch has i, f, g, o; ONNX i, o, f, g


class Lstm(TorchCell, nn.LSTM):
    """LSTM (Hochreiter & Schmidhuber, 1997) with forget gate (Gers et al., 2000):

        i_t = sigmoid(W_i x_t + R_i h_{t-1} + b_i)      input gate
        f_t = sigmoid(W_f x_t + R_f h_{t-1} + b_f)      forget gate
        g_t = tanh(W_g x_t + R_g h_{t-1} + b_g)         what may be stored
        o_t = sigmoid(W_o x_t + R_o h_{t-1} + b_o)      output gate
        c_t = f_t * c_{t-1} + i_t * g_t                 cell state
        h_t = o_t * tanh(c_t)                           hidden state, the output

    Its forget gates start open (Jozefowicz et al., 2015).
    """

    states = ("hidden", "cell")
    onnx_order = ONNX_ORDER

    def __init__(self, inputs: int, hidden_size: int) -> None:
        super().__init__(inputs, hidden_size)
        self.get_parameter("bias_ih_l0").data[hidden_size : 2 * hidden_size] = 1.0

    def run(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        output, (hidden, cell) = self(
            frames, (state["hidden"].unsqueeze(0), state["cell"].unsqueeze(0))
        )
        return output, {"hidden": hidden.squeeze(0), "cell": cell.squeeze(0)}

    def step(self, frame: Tensor, state: State) -> State:
        w, r, b, d = self.parameters()
        sums = functional.linear(frame, w, b) + functional.linear(state["hidden"], r, d)
        i, f, g, o = sums.chunk(4, dim=1)
        i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()
        cell = f * state["cell"] + i * g.tanh()
        gates = {"input gate": i, "forget gate": f, "output gate": o}
        return gates | {"hidden": o * cell.tanh(), "cell": cell}

    @staticmethod
    def write(op: Any, frames: Any, states: Sequence[Any], weights: Sequence[Any]) -> Any:
        size = weights[1].shape[-1]
        return op.LSTM(frames, *weights, None, *states, hidden_size=size)
