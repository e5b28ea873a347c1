"""Encoders: feature frames to hidden frames, whole utterances or block by block.

One bidirectional LSTM with three settings covers the ways people run it:

    block = 0                  whole utterance: the backward direction starts at the very end
    block > 0, look_ahead > 0  latency-controlled: the backward direction starts look_ahead frames
                               after the block, from a zero state (Zhang et al., 2016)
    kind = "lstm"              no backward direction, nothing to wait for

Training and the exported step run the same code: a stream is a sequence of blocks, and training
sees all blocks of an utterance at once.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from features.errors import EarshotError

State = list[tuple[Tensor, Tensor]]
"""Hidden and cell state [batch, hidden] of the forward direction of every layer."""


class EncoderConfigError(EarshotError, ValueError):
    """An encoder setting that cannot work."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Settings of the encoder. `block` and `look_ahead` count frames after the stem.

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
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for field in ("stem_channels", "subsample", "hidden", "layers"):
            if getattr(self, field) < 1:
                raise EncoderConfigError(f"encoder.{field} must be at least 1")
        if self.subsample > 2 * KERNEL - 1:
            raise EncoderConfigError(f"encoder.subsample must be at most {2 * KERNEL - 1}")
        if min(self.block, self.look_ahead) < 0 or not 0.0 <= self.dropout < 1.0:
            raise EncoderConfigError(
                "encoder.block and encoder.look_ahead must not be negative, "
                "encoder.dropout must be in [0, 1)"
            )
        if self.look_ahead and (self.kind == "lstm" or not self.block):
            raise EncoderConfigError(
                "encoder.look_ahead needs kind = 'bilstm' and a block; an 'lstm' never looks "
                "ahead and a whole-utterance 'bilstm' sees everything"
            )
        if self.kind == "lstm" and not self.block:
            raise EncoderConfigError("encoder.block must be at least 1 for an 'lstm'")

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


class Layer(nn.Module):
    """One LSTM layer, with or without the backward direction, over blocks with look-ahead."""

    def __init__(self, inputs: int, config: EncoderConfig) -> None:
        super().__init__()
        self.forwards = nn.LSTM(inputs, config.hidden, batch_first=True)
        bidirectional = config.kind == "bilstm"
        self.backwards = nn.LSTM(inputs, config.hidden, batch_first=True) if bidirectional else None

    def whole(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """Both directions over whole utterances [batch, frames, inputs]; padding has no effect."""
        ahead, _ = self.forwards(frames)
        if self.backwards is None:
            return ahead
        back, _ = self.backwards(reverse(frames, lengths))
        return torch.cat([ahead, reverse(back, lengths)], dim=-1)

    def blocks(
        self, blocks: Tensor, ahead: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Run over consecutive blocks, carrying the forward state.

        blocks: [batch, count, block, inputs], ahead: [batch, count, look_ahead, inputs], the frames
        after each block. Returns the same with hidden frames, and the state after the last block.
        """
        batch, count, block, _ = blocks.shape
        look_ahead = ahead.shape[2]
        outputs, ends = [], []
        hidden = (state[0].unsqueeze(0), state[1].unsqueeze(0))
        for k in range(count):
            output, hidden = self.forwards(blocks[:, k], hidden)
            outputs.append(output)
            ends.append(hidden)
        block_out = torch.stack(outputs, dim=1)
        ahead_out = block_out[:, :, :0]
        if look_ahead:
            starts = tuple(torch.stack(part, dim=2).flatten(1, 2) for part in zip(*ends, strict=True))
            ahead_out, _ = self.forwards(ahead.flatten(0, 1), starts)
            ahead_out = ahead_out.unflatten(0, (batch, count))
        if self.backwards is not None:
            window = torch.cat([blocks, ahead], dim=2).flatten(0, 1)
            back = self.backwards(window.flip(1))[0].flip(1).unflatten(0, (batch, count))
            block_out = torch.cat([block_out, back[:, :, :block]], dim=-1)
            ahead_out = torch.cat([ahead_out, back[:, :, block:]], dim=-1)
        return block_out, ahead_out, (hidden[0].squeeze(0), hidden[1].squeeze(0))


class Encoder(nn.Module):
    """A stack of `Layer`s with dropout between them."""

    def __init__(self, inputs: int, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        widths = [inputs] + [config.width] * (config.layers - 1)
        self.layers = nn.ModuleList(Layer(width, config) for width in widths)
        self.dropout = nn.Dropout(config.dropout)

    def whole(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """[batch, frames, inputs] -> [batch, frames, width], each utterance at once."""
        for layer in self.layers:
            frames = layer.whole(self.dropout(frames), lengths)
        return frames

    def initial_state(self, batch: int, like: Tensor) -> State:
        """The zero state every stream starts from."""
        zeros = like.new_zeros(batch, self.config.hidden)
        return [(zeros, zeros) for _ in self.layers]

    def stream(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """[batch, count * block + look_ahead, inputs] -> [batch, count * block, width], state."""
        block, look_ahead = self.config.block, self.config.look_ahead
        windows = frames.unfold(1, block + look_ahead, block).transpose(2, 3)
        blocks, ahead = windows[:, :, :block], windows[:, :, block:]
        after: State = []
        for layer, before in zip(self.layers, state, strict=True):
            blocks, ahead, end = layer.blocks(self.dropout(blocks), self.dropout(ahead), before)
            after.append(end)
        return blocks.flatten(1, 2), after
