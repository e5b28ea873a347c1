"""Encoders: feature frames to hidden frames, whole utterances or block by block.

One bidirectional LSTM with three settings covers the ways people run it:

    block = 0                  whole utterance: the backward direction starts at the very end
    block > 0, look_ahead > 0  latency-controlled: the backward direction starts look_ahead frames
                               after each block, from a zero state (after Zhang et al., 2016)
    kind = "lstm"              no backward direction, nothing to wait for

Zhang et al. let all layers look ahead over the same frames and compute these again with the next
block. Here each layer looks ahead over the finished frames of the layer below, so nothing is
computed twice in the forward direction, and any number of blocks takes two LSTM calls per layer:
training sees all blocks of an utterance at once, in the very code that the exported step runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from features.errors import EarshotError


class Latency(NamedTuple):
    """How an encoder hears a stream, in encoder frames: `block` frames per step (0: the whole
    utterance at once), each layer `look_ahead` frames behind its input."""

    block: int
    look_ahead: int


class LayerState(NamedTuple):
    """What a layer carries from block to block.

    hidden, cell: [batch, hidden] of the forward direction; ahead: [batch, look_ahead, inputs], the
    newest frames, which only the backward direction has seen.
    """

    hidden: Tensor
    cell: Tensor
    ahead: Tensor


class EncoderConfigError(EarshotError, ValueError):
    """An encoder setting that cannot work."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Settings of the encoder. `block` and `look_ahead` count frames after the stem.

    look_ahead: frames that each layer waits for beyond its block; the delays of the layers add up.
    also: other [block, look_ahead] that training draws for half of its steps, so that the weights
        serve these latencies, too, and gain from hearing further.

    stem_channels: width of the two convolutions before the LSTM.
    subsample: feature frames per encoder frame (the stem's stride).
    block: frames per step of a stream; 0 means the whole utterance at once.
    """

    kind: Literal["bilstm", "lstm"] = "bilstm"
    stem_channels: int = 128
    subsample: int = 3
    hidden: int = 128
    layers: int = 2
    block: int = 0
    look_ahead: int = 0
    also: tuple[tuple[int, int], ...] = ()
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for field in ("stem_channels", "subsample", "hidden", "layers"):
            if getattr(self, field) < 1:
                raise EncoderConfigError(f"encoder.{field} must be at least 1")
        if self.subsample > 2 * KERNEL - 1:
            raise EncoderConfigError(f"encoder.subsample must be at most {2 * KERNEL - 1}")
        if not 0.0 <= self.dropout < 1.0:
            raise EncoderConfigError("encoder.dropout must be in [0, 1)")
        self._check(self.latency, "")
        for pair in self.also:
            self._check(Latency(*pair), "encoder.also: ")

    def _check(self, latency: Latency, name: str) -> None:
        if min(latency) < 0:
            raise EncoderConfigError(
                f"{name}encoder.block and encoder.look_ahead must not be negative"
            )
        if latency.look_ahead and (self.kind == "lstm" or not latency.block):
            raise EncoderConfigError(
                f"{name}encoder.look_ahead needs kind = 'bilstm' and a block; an 'lstm' never "
                "looks ahead and a whole-utterance 'bilstm' sees everything"
            )
        if self.kind == "lstm" and not latency.block:
            raise EncoderConfigError(f"{name}encoder.block must be at least 1 for an 'lstm'")

    @property
    def latency(self) -> Latency:
        """What the model is made for, unless another latency is set."""
        return Latency(self.block, self.look_ahead)

    @property
    def width(self) -> int:
        """Size of an encoder frame."""
        return self.hidden * (2 if self.kind == "bilstm" else 1)


KERNEL = 5


class Stem(nn.Module):
    """Two convolutions over time, the second with stride `subsample`, each normalised per frame.

    Nothing is padded: n feature frames give (n - context) // subsample + 1 encoder frames.
    """

    def __init__(self, coefficients: int, config: EncoderConfig) -> None:
        super().__init__()
        channels = config.stem_channels
        self.first = nn.Conv1d(coefficients, channels, KERNEL)
        self.second = nn.Conv1d(channels, channels, KERNEL, stride=config.subsample)
        self.first_norm = nn.LayerNorm(channels)
        self.second_norm = nn.LayerNorm(channels)

    context = 2 * KERNEL - 1
    """Feature frames that one encoder frame looks at."""

    def forward(self, features: Tensor) -> Tensor:
        """[batch, frames, coefficients] -> [batch, encoder frames, channels]."""
        x = self.first(features.transpose(1, 2)).transpose(1, 2)
        x = functional.relu(self.first_norm(x)).transpose(1, 2)
        x = self.second(x).transpose(1, 2)
        return functional.relu(self.second_norm(x))


def reverse(frames: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn [batch, frames, width] around in time; with lengths, each row's valid part in place."""
    if lengths is None:
        return frames.flip(1)
    time = torch.arange(frames.shape[1], device=frames.device)
    source = lengths[:, None] - 1 - time
    source = torch.where(source >= 0, source, time)
    return frames.gather(1, source.unsqueeze(-1).expand_as(frames))


def initialise(lstm: nn.LSTM) -> None:
    """Xavier input weights, orthogonal recurrent weights, forget gates open.

    After Glorot & Bengio (2010), Saxe et al. (2014) and Jozefowicz et al. (2015). The small uniform
    weights that torch starts from leave upper layers almost without a signal, and CTC then spends
    its first thousands of steps on blanks.
    """
    hidden = lstm.hidden_size
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter)
        elif name.startswith("weight_hh"):
            for gate in parameter.data.split(hidden):
                nn.init.orthogonal_(gate)
        else:
            nn.init.zeros_(parameter)
    lstm.get_parameter("bias_ih_l0").data[hidden : 2 * hidden] = 1.0  # order: i, f, g, o


class Layer(nn.Module):
    """One LSTM layer, with or without the backward direction, over blocks with look-ahead."""

    def __init__(self, inputs: int, config: EncoderConfig) -> None:
        super().__init__()
        self.forwards = nn.LSTM(inputs, config.hidden, batch_first=True)
        bidirectional = config.kind == "bilstm"
        self.backwards = nn.LSTM(inputs, config.hidden, batch_first=True) if bidirectional else None

        for lstm in (self.forwards, self.backwards):
            if lstm is not None:
                initialise(lstm)

    def whole(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """Both directions over whole utterances [batch, frames, inputs]; padding has no effect."""
        ahead, _ = self.forwards(frames)
        if self.backwards is None:
            return ahead
        back, _ = self.backwards(reverse(frames, lengths))
        return torch.cat([ahead, reverse(back, lengths)], dim=-1)

    def blocks(
        self, frames: Tensor, state: LayerState, latency: Latency
    ) -> tuple[Tensor, LayerState]:
        """Run over the next blocks of a stream, `look_ahead` frames behind what comes in.

        frames: [batch, count * block, inputs]. Returns [batch, count * block, width], delayed by
        look_ahead frames, and the state for the blocks that follow.
        """
        block, look_ahead = latency
        heard = torch.cat([state.ahead, frames], dim=1)
        now = heard[:, : frames.shape[1]]
        hidden = (state.hidden.unsqueeze(0), state.cell.unsqueeze(0))
        output, (last_hidden, last_cell) = self.forwards(now, hidden)
        if self.backwards is not None:
            windows = heard.unfold(1, block + look_ahead, block).transpose(2, 3)
            back, _ = self.backwards(windows.flatten(0, 1).flip(1))
            back = back[:, look_ahead:].flip(1).unflatten(0, windows.shape[:2]).flatten(1, 2)
            output = torch.cat([output, back], dim=-1)
        ahead = heard[:, frames.shape[1] :]
        return output, LayerState(last_hidden.squeeze(0), last_cell.squeeze(0), ahead)


class Dropout(nn.Module):
    """Variational dropout: the same units of an utterance at all of its frames (Gal & Ghahramani,
    2016), so that a recurrence does not average the noise away."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, frames: Tensor) -> Tensor:
        """[batch, frames, width] -> the same shape."""
        if not self.training or not self.probability:
            return frames
        mask = torch.empty_like(frames[:, :1]).bernoulli_(1.0 - self.probability)
        return frames * mask / (1.0 - self.probability)


class Encoder(nn.Module):
    """A stack of `Layer`s with dropout before each.

    latency: the configured one at first; it may be set to any other, since the weights do not
        depend on it.
    """

    def __init__(self, inputs: int, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.latency = config.latency
        self.widths = [inputs] + [config.width] * (config.layers - 1)
        layers = nn.ModuleList(Layer(width, config) for width in self.widths)
        self.layers = cast(Iterable[Layer], layers)
        self.dropout = Dropout(config.dropout)

    @property
    def look_ahead(self) -> int:
        """Frames that the output is behind the input."""
        return self.latency.look_ahead * self.config.layers

    def whole(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """[batch, frames, inputs] -> [batch, frames, width], each utterance at once."""
        for layer in self.layers:
            frames = layer.whole(self.dropout(frames), lengths)
        return frames

    def initial_state(self, batch: int, like: Tensor) -> list[LayerState]:
        """The zero states that every stream starts from."""
        hidden = like.new_zeros(batch, self.config.hidden)
        return [
            LayerState(hidden, hidden, like.new_zeros(batch, self.latency.look_ahead, width))
            for width in self.widths
        ]

    def blocks(self, frames: Tensor, states: list[LayerState]) -> tuple[Tensor, list[LayerState]]:
        """[batch, count * block, inputs] -> [batch, count * block, width], and the next states.

        The output is `look_ahead` frames behind the input.
        """
        following = []
        for layer, state in zip(self.layers, states, strict=True):
            frames, after = layer.blocks(self.dropout(frames), state, self.latency)
            following.append(after)
        return frames, following
