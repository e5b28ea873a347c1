"""LSTM whose gates see the cell state, written out with its gradient."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.training.network.cells.cell import Cell, State, initialise, reorder, restore_order
from asr.training.network.cells.lstm import ONNX_ORDER

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


class Peephole(Cell):
    """LSTM with peephole connections (Gers & Schmidhuber, 2000; Gers et al., 2002):

        i_t = sigmoid(W_i x_t + R_i h_{t-1} + p_i * c_{t-1} + b_i)
        f_t = sigmoid(W_f x_t + R_f h_{t-1} + p_f * c_{t-1} + b_f)
        g_t = tanh(W_g x_t + R_g h_{t-1} + b_g)
        c_t = f_t * c_{t-1} + i_t * g_t
        o_t = sigmoid(W_o x_t + R_o h_{t-1} + p_o * c_t + b_o)
        h_t = o_t * tanh(c_t)

    Weights as torch orders them: weight_ih [4 * hidden_size, inputs], weight_hh [4 * hidden_size,
    hidden_size] and bias for i, f, g, o; peepholes [3, hidden_size] for i, f, o.
    """

    states = ("hidden", "cell")

    def __init__(self, inputs: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, inputs))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.peepholes = nn.Parameter(torch.empty(3, hidden_size).uniform_(-0.1, 0.1))
        initialise(self)
        self.bias.data[hidden_size : 2 * hidden_size] = 1.0

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """W, R and b, gates in the order i, f, g, o."""
        return self.weight_ih, self.weight_hh, self.bias

    def take_matrices(self, w: Tensor, r: Tensor, b: Tensor) -> None:
        """The inverse of `matrices`."""
        for own, given in zip((self.weight_ih, self.weight_hh, self.bias), (w, r, b), strict=True):
            own.data.copy_(given)

    def run(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        w, r, b = self.matrices()
        projected = functional.linear(frames.transpose(0, 1), w, b)
        initial = (state[name].to(r.dtype) for name in self.states)
        with torch.autocast(frames.device.type, enabled=False):
            outputs, cell = _Recurrence.apply(projected, r, self.peepholes, *initial)
        return outputs.transpose(0, 1), {"hidden": outputs[-1], "cell": cell}

    def step(self, frame: Tensor, state: State) -> State:
        w, r, b = self.matrices()
        p_i, p_f, p_o = self.peepholes
        sums = functional.linear(frame, w, b) + functional.linear(state["hidden"], r)
        i, f, g, o = sums.chunk(4, dim=1)
        i, f = (i + p_i * state["cell"]).sigmoid(), (f + p_f * state["cell"]).sigmoid()
        cell = f * state["cell"] + i * g.tanh()
        o = (o + p_o * cell).sigmoid()
        gates = {"input gate": i, "forget gate": f, "output gate": o}
        return gates | {"hidden": o * cell.tanh(), "cell": cell}

    def onnx_weights(self) -> tuple[Tensor, ...]:
        w, r, b = (reorder(weights, ONNX_ORDER) for weights in self.matrices())
        i, f, o = self.peepholes
        b, p = torch.cat([b, torch.zeros_like(b)]), torch.cat([i, o, f])
        return tuple(weights.unsqueeze(0) for weights in (w, r, b, p))

    def take_onnx_weights(self, weights: Sequence[Tensor]) -> None:
        w, r, biases, p = (tensor.squeeze(0) for tensor in weights)
        b = biases.unflatten(0, (2, -1)).sum(dim=0)  # one of the two is all zeros
        self.take_matrices(*(restore_order(gates, ONNX_ORDER) for gates in (w, r, b)))
        i, o, f = p.chunk(3)
        self.peepholes.data.copy_(torch.stack([i, f, o]))

    @staticmethod
    def write(op: Any, frames: Any, states: Sequence[Any], weights: Sequence[Any]) -> Any:
        w, r, b, p = weights
        return op.LSTM(frames, w, r, b, None, *states, p, hidden_size=r.shape[-1])


class _Recurrence(torch.autograd.Function):
    """The steps through time and, backwards, their gradient: one matrix product each.

    Written out because torch would record every operation of every step, and find the gradient of
    the recurrent weights by one product a step instead of one for all.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, r: Tensor, peepholes: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        """projected = W x + b, [frames, batch, 4 * hidden_size] in any precision, and the initial
        state, to the hidden states [frames, batch, hidden_size] and the last cell state."""
        gates = projected.to(cell.dtype, copy=True)
        hiddens, cells = (cell.new_empty(len(gates) + 1, *cell.shape) for _ in range(2))
        hiddens[0], cells[0] = hidden, cell
        p_i, p_f, p_o = peepholes
        for t, sums in enumerate(gates):
            i, f, g, o = sums.addmm_(hiddens[t], r.T).chunk(4, dim=1)
            i.addcmul_(p_i, cells[t]).sigmoid_()
            f.addcmul_(p_f, cells[t]).sigmoid_()
            torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g.tanh_())
            o.addcmul_(p_o, cells[t + 1]).sigmoid_()
            torch.mul(o, cells[t + 1].tanh(), out=hiddens[t + 1])
        ctx.precision = projected.dtype
        ctx.save_for_backward(gates, hiddens, cells, r, peepholes)
        return hiddens[1:], cells[-1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        """From the gradients by the hidden states and the last cell state to those by the inputs.

        d* is the gradient by *, ds_* that by the sum inside a gate.
        """
        d_hiddens, dc = grads
        gates, hiddens, cells, r, (p_i, p_f, p_o) = ctx.saved_tensors
        ds, dh = torch.empty_like(gates), torch.zeros_like(dc)
        for t in reversed(range(len(gates))):
            i, f, g, o = gates[t].chunk(4, dim=1)
            ds_i, ds_f, ds_g, ds_o = ds[t].chunk(4, dim=1)
            bent = cells[t + 1].tanh()
            dh = dh + d_hiddens[t]
            sigmoid_backward(dh * bent, o, grad_input=ds_o)
            dc = torch.addcmul(dc + tanh_backward(dh * o, bent, grad_input=bent), ds_o, p_o)
            sigmoid_backward(dc * g, i, grad_input=ds_i)
            sigmoid_backward(dc * cells[t], f, grad_input=ds_f)
            tanh_backward(dc * i, g, grad_input=ds_g)
            dc = (dc * f).addcmul_(ds_i, p_i).addcmul_(ds_f, p_f)
            dh = ds[t] @ r
        ds_i, ds_f, _, ds_o = ds.flatten(0, 1).chunk(4, dim=1)
        before, after = cells[:-1].flatten(0, 1), cells[1:].flatten(0, 1)
        seen = ((ds_i, before), (ds_f, before), (ds_o, after))
        d_peepholes = torch.stack([(sums * cell).sum(dim=0) for sums, cell in seen])
        ds_low = ds.to(ctx.precision)
        dr = ds_low.flatten(0, 1).T @ hiddens[:-1].flatten(0, 1).to(ctx.precision)
        return ds_low, dr.to(r.dtype), d_peepholes, dh, dc
