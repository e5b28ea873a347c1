"""Convolutional LSTM: the state is a map over frequency, and gates see its neighbourhood."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.training.network.cells.cell import initialise
from asr.training.network.cells.peephole import Peephole
from asr.training.network.stem import KERNEL, Stem
from features.mfcc import MfccConfig

BANDS = 8  # frequency bands of all maps inside the encoder
REACH = 1  # bands to either side that a gate sees


class ConvLstm(Peephole):
    """ConvLSTM (Shi et al., 2015), its maps over frequency and its recurrence over time:

        i_t = sigmoid(W_i (*) x_t + R_i (*) h_{t-1} + p_i * c_{t-1} + b_i)
        f_t = sigmoid(W_f (*) x_t + R_f (*) h_{t-1} + p_f * c_{t-1} + b_f)
        g_t = tanh(W_g (*) x_t + R_g (*) h_{t-1} + b_g)
        c_t = f_t * c_{t-1} + i_t * g_t
        o_t = sigmoid(W_o (*) x_t + R_o (*) h_{t-1} + p_o * c_t + b_o)
        h_t = o_t * tanh(c_t)

    where (*) is a convolution over BANDS bands with zeros beyond their edges and * the product of
    maps. A frame is a map [channels, BANDS] laid out flat; weight_ih is [4 * channels, channels of
    the input, 2 * REACH + 1], weight_hh likewise, bias [4 * channels] for i, f, g, o.

    A convolution is a product with a banded matrix. With so few bands, one product with all of it
    takes less time than convolutions do; that makes it the LSTM with peepholes, in torch and in the
    operator of ONNX alike, with shared weights.
    """

    def __init__(self, inputs: int, hidden_size: int) -> None:
        super().__init__(inputs, hidden_size)
        channels, width = hidden_size // BANDS, 2 * REACH + 1
        self.weight_ih = nn.Parameter(torch.empty(4 * channels, inputs // BANDS, width))
        self.weight_hh = nn.Parameter(torch.empty(4 * channels, channels, width))
        self.bias = nn.Parameter(torch.empty(4 * channels))
        initialise(self)
        self.bias.data[channels : 2 * channels] = 1.0

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        bias = self.bias.repeat_interleave(BANDS)
        return _as_matrix(self.weight_ih), _as_matrix(self.weight_hh), bias

    def take_matrices(self, w: Tensor, r: Tensor, b: Tensor) -> None:
        super().take_matrices(_as_kernel(w), _as_kernel(r), b[::BANDS])


def _as_matrix(kernel: Tensor) -> Tensor:
    """[channels out, channels in, width] -> [channels out * BANDS, channels in * BANDS], which
    multiplies a flat map as the kernel convolves it: the convolution of every unit map."""
    units = torch.eye(kernel.shape[1] * BANDS, dtype=kernel.dtype, device=kernel.device)
    maps = units.unflatten(1, (-1, BANDS))
    return functional.conv1d(maps, kernel, padding=REACH).flatten(1).T


def _as_kernel(matrix: Tensor) -> Tensor:
    """The inverse of `_as_matrix`: what band REACH, the first that sees a whole kernel, is made
    of."""
    bands = matrix.unflatten(0, (-1, BANDS)).unflatten(2, (-1, BANDS))
    return bands[:, REACH, :, : 2 * REACH + 1]


class MapStem(Stem):
    """Two convolutions over time and frequency, from maps of the features to flat maps of BANDS
    bands; over time as in `Stem`. Deltas are channels of their own. Needs n_mfcc >= BANDS."""

    def __init__(self, mfcc: MfccConfig, width: int, subsample: int) -> None:
        super().__init__(mfcc, width, subsample)
        self.orders, channels = 1 + mfcc.deltas, width // BANDS
        stride = mfcc.n_mfcc // BANDS
        rest = mfcc.n_mfcc - (BANDS - 1) * stride  # a kernel that leaves exactly BANDS
        self.first = nn.Conv2d(self.orders, channels, (KERNEL, 3), padding=(0, 1))
        self.second = nn.Conv2d(channels, channels, (KERNEL, rest), stride=(subsample, stride))
        self.first_norm = nn.LayerNorm(channels * mfcc.n_mfcc)

    def forward(self, features: Tensor) -> Tensor:
        maps = self.first(features.unflatten(2, (self.orders, -1)).transpose(1, 2))
        x = functional.relu(self.first_norm(maps.transpose(1, 2).flatten(2)))
        maps = self.second(x.unflatten(2, maps.shape[1::2]).transpose(1, 2))
        return functional.relu(self.second_norm(maps.transpose(1, 2).flatten(2)))
