"""Encoders: feature frames to hidden frames, whole utterances or block by block.

A stack of recurrent layers, of any cell in `asr.training.network.cells`, runs in three ways:

    block = 0                  whole utterance: the backward direction starts at the very end
    block > 0, look_ahead > 0  latency-controlled: the backward direction starts look_ahead frames
                               after each block, from a zero state (after Zhang et al., 2016)
    one direction              nothing to wait for

Zhang et al. let all layers look ahead over the same frames and compute these again with the next
block. Here each layer looks ahead over the finished frames of the layer below, so nothing is
computed twice in the forward direction, and any number of blocks takes a layer one run of its cell
in each direction: training sees all blocks of an utterance at once, in the very code that the
exported step runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from asr.training.network.cells import KINDS, Kind
from asr.training.network.cells.attention import WindowedAttention
from asr.training.network.cells.cell import State
from asr.training.network.stem import KERNEL
from features.errors import EarshotError
from features.windows import windows


class Latency(NamedTuple):
    """How an encoder takes a stream, in encoder frames: `block` frames per step (0: the whole
    utterance at once), each layer `look_ahead` frames behind its input."""

    block: int
    look_ahead: int


class EncoderConfigError(EarshotError, ValueError):
    """An encoder setting that cannot work."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Settings of the encoder. `block` and `look_ahead` count frames after the stem.

    look_ahead: frames that each layer waits for beyond its block; the delays of the layers add up.
    also: other [block, look_ahead] that training draws for half of its steps, so that the weights
        serve these latencies, too, and gain from seeing further.

    stem_channels: width of the two convolutions before the first layer.
    subsample: feature frames per encoder frame (the stem's stride).
    hidden: numbers in a state, for each direction.
    block: frames per step of a stream; 0 means the whole utterance at once.
    projection: size that a linear map brings the output of every layer to; 0: none.
    layer_norm: normalise the output of every layer, frame by frame (Ba et al., 2016).
    residual: add to the output of a layer its input, where both have one size.
    heads: of the attention in kind 'attention'.
    """

    kind: str = "bilstm"
    stem_channels: int = 128
    subsample: int = 3
    hidden: int = 128
    layers: int = 2
    block: int = 0
    look_ahead: int = 0
    also: tuple[tuple[int, int], ...] = ()
    dropout: float = 0.1
    projection: int = 0
    layer_norm: bool = False
    residual: bool = False
    heads: int = 4

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise EncoderConfigError(
                f"encoder.kind is '{self.kind}', it must be one of {', '.join(sorted(KINDS))}"
            )
        for field in ("stem_channels", "subsample", "hidden", "layers", "heads"):
            if getattr(self, field) < 1:
                raise EncoderConfigError(f"encoder.{field} must be at least 1")
        if self.subsample > 2 * KERNEL - 1:
            raise EncoderConfigError(f"encoder.subsample must be at most {2 * KERNEL - 1}")
        if not 0.0 <= self.dropout < 1.0:
            raise EncoderConfigError("encoder.dropout must be in [0, 1)")
        self._check_sizes()
        self._check_latency(self.latency, "")
        for pair in self.also:
            self._check_latency(Latency(*pair), "encoder.also: ")

    def _check_sizes(self) -> None:
        if not 0 <= self.projection <= self.hidden:
            raise EncoderConfigError(
                f"encoder.projection {self.projection} must be in 0..encoder.hidden {self.hidden}"
            )
        for field in ("stem_channels", "hidden", "projection"):
            if getattr(self, field) % self.parts.bands:
                raise EncoderConfigError(
                    f"encoder.{field} {getattr(self, field)} must be a multiple of "
                    f"{self.parts.bands}, the frequency bands of a '{self.kind}'"
                )
        if self.parts.attention and self.width % self.heads:
            raise EncoderConfigError(
                f"encoder.heads {self.heads} must divide the width of a layer, {self.width}"
            )
        if self.residual and self.layers == 1 and self.stem_channels != self.width:
            raise EncoderConfigError(
                f"encoder.residual cannot add the {self.stem_channels} encoder.stem_channels to "
                f"the {self.width} of the only layer; make them equal or add a layer"
            )

    def _check_latency(self, latency: Latency, name: str) -> None:
        if min(latency) < 0:
            raise EncoderConfigError(
                f"{name}encoder.block and encoder.look_ahead must not be negative"
            )
        if latency.look_ahead and not self.parts.bidirectional:
            raise EncoderConfigError(
                f"{name}encoder.look_ahead must be 0 for encoder.kind = '{self.kind}', which has "
                "no backward direction"
            )
        if latency.look_ahead and not latency.block:
            raise EncoderConfigError(
                f"{name}encoder.look_ahead needs an encoder.block; whole utterances see everything"
            )
        if not latency.block and not self.parts.bidirectional:
            raise EncoderConfigError(
                f"{name}encoder.block must be at least 1 for encoder.kind = '{self.kind}'"
            )

    @property
    def parts(self) -> Kind:
        """What `kind` stands for."""
        return KINDS[self.kind]

    @property
    def pooling_heads(self) -> int:
        """Heads of the attention that a classifier pools this encoder's frames with."""
        return self.heads if self.parts.attention else 1

    @property
    def latency(self) -> Latency:
        """What the model is made for, unless another latency is set."""
        return Latency(self.block, self.look_ahead)

    @property
    def width(self) -> int:
        """Size of an encoder frame."""
        return self.projection or self.hidden * (2 if self.parts.bidirectional else 1)


def reverse(frames: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn [batch, frames, width] around in time; with lengths, each row's valid part in place."""
    if lengths is None:
        return frames.flip(1)
    time = torch.arange(frames.shape[1], device=frames.device)
    source = lengths[:, None] - 1 - time
    source = torch.where(source >= 0, source, time)
    return frames.gather(1, source.unsqueeze(-1).expand_as(frames))


class Layer(nn.Module):
    """One recurrent layer, with or without the backward direction, over blocks with look-ahead.

    Then, where wanted and in this order: projection, layer norm, residual, attention.
    """

    def __init__(self, inputs: int, config: EncoderConfig, attends: bool) -> None:
        super().__init__()
        make, width = config.parts.cell, config.width
        bidirectional = config.parts.bidirectional
        self.forwards = make(inputs, config.hidden)
        self.backwards = make(inputs, config.hidden) if bidirectional else None
        directions = config.hidden * (2 if bidirectional else 1)
        self.projection = nn.Linear(directions, width) if config.projection else nn.Identity()
        self.norm = nn.LayerNorm(width) if config.layer_norm else nn.Identity()
        self.residual = config.residual and inputs == width
        self.attention = WindowedAttention(width, config.heads) if attends else None

    def zero_state(self, batch: int, like: Tensor) -> State:
        """What a stream carries initially, but for the frames ahead."""
        state = self.forwards.zero_state(batch, like)
        return state if self.attention is None else state | self.attention.zero_state(batch, like)

    def whole(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """Both directions over whole utterances [batch, frames, inputs]; padding has no effect."""
        state = self.zero_state(frames.shape[0], frames)
        output, _ = self.forwards.run(frames, state)
        if self.backwards is not None:
            back, _ = self.backwards.run(reverse(frames, lengths), state)
            output = torch.cat([output, reverse(back, lengths)], dim=-1)
        return self._finish(frames, output, state)[0]

    def blocks(self, frames: Tensor, state: State, latency: Latency) -> tuple[Tensor, State]:
        """Run over the next blocks of a stream, `look_ahead` frames behind what comes in.

        frames: [batch, count * block, inputs]; state: that of `zero_state` and, with look-ahead,
        `ahead` [batch, look_ahead, inputs], the newest frames, which only the backward direction
        has seen. Returns [batch, count * block, width], delayed by look_ahead frames, and the state
        for the blocks that follow.
        """
        block, look_ahead = latency
        seen = torch.cat([state["ahead"], frames], dim=1) if look_ahead else frames
        now, ahead = seen.split([frames.shape[1], look_ahead], dim=1)
        output, following = self.forwards.run(now, state)
        if self.backwards is not None:
            blocks = windows(seen, block + look_ahead, block)
            rows = blocks.flatten(0, 1)
            start = self.backwards.zero_state(rows.shape[0], rows)
            back, _ = self.backwards.run(rows.flip(1), start)
            back = back[:, look_ahead:].flip(1).unflatten(0, blocks.shape[:2]).flatten(1, 2)
            output = torch.cat([output, back], dim=-1)
        output, more = self._finish(now, output, state)
        return output, following | more | ({"ahead": ahead} if look_ahead else {})

    def _finish(self, frames: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
        output = self.norm(self.projection(output))
        if self.residual:
            output = output + frames
        return (output, {}) if self.attention is None else self.attention.run(output, state)


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
        return frames * mask.div_(1.0 - self.probability)


class Encoder(nn.Module):
    """A stack of `Layer`s with dropout before each.

    latency: the configured one at first; it may be set to any other, since the weights do not
        depend on it.
    truncate: frames after which training cuts the gradient of a stream; 0: never.
    """

    def __init__(self, inputs: int, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.latency = config.latency
        self.truncate = 0
        self.widths = [inputs] + [config.width] * (config.layers - 1)
        between = [config.parts.attention] * (config.layers - 1) + [False]
        pairs = zip(self.widths, between, strict=True)
        layers = nn.ModuleList(Layer(width, config, attends) for width, attends in pairs)
        self.layers = cast(Sequence[Layer], layers)
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

    def initial_state(self, batch: int, like: Tensor) -> State:
        """The zero state that every stream starts from: those of the cells as [batch, layers,
        hidden], others by layer, `ahead_0` and so on."""
        states = [layer.zero_state(batch, like) for layer in self.layers]
        if look_ahead := self.latency.look_ahead:
            for state, width in zip(states, self.widths, strict=True):
                state["ahead"] = like.new_zeros(batch, look_ahead, width)
        return self._join(states)

    def blocks(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """[batch, count * block, inputs] -> [batch, count * block, width], and the next state.

        The output is `look_ahead` frames behind the input. Training with `truncate` carries the
        state from piece to piece but not the gradient (Williams & Peng, 1990), draws dropout anew
        for each, and keeps of a piece only its outputs: the gradient computes the rest again.
        """
        if not (self.training and self.truncate):
            return self._blocks(frames, state)
        outputs = []
        blocks = -(-self.truncate // self.latency.block)
        for piece in frames.split(blocks * self.latency.block, dim=1):
            state = {name: tensor.detach() for name, tensor in state.items()}
            output, state = checkpoint(self._blocks, piece, state, use_reentrant=False)
            outputs.append(output)
        return torch.cat(outputs, dim=1), state

    def _blocks(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        following = []
        for k, layer in enumerate(self.layers):
            own = self._of_layer(state, k)
            frames, after = layer.blocks(self.dropout(frames), own, self.latency)
            following.append(after)
        return frames, self._join(following)

    def _join(self, states: list[State]) -> State:
        """The states of the layers as one."""
        shared = self.config.parts.cell.states
        joined = {name: torch.stack([state[name] for state in states], dim=1) for name in shared}
        for k, state in enumerate(states):
            joined |= {f"{name}_{k}": state[name] for name in state if name not in shared}
        return joined

    def _of_layer(self, state: State, k: int) -> State:
        """The state of layer k out of all: what `_join` was given."""
        shared = {name: state[name][:, k] for name in self.config.parts.cell.states}
        end = f"_{k}"
        return shared | {n.removesuffix(end): state[n] for n in state if n.endswith(end)}
