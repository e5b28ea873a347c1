"""Self-attention over a window of frames, between recurrent layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.training.network.cells.cell import State

WINDOW = 32  # frames before its own that a frame attends to


class WindowedAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al., 2017) of every frame over itself and the WINDOW
    frames before it, added to the frames:

        q, k, v = the thirds of W LayerNorm(x) + b, each cut into heads of d numbers
        y_t = x_t + U concat_heads(sum_s softmax_s(q_t . k_s / sqrt(d)) v_s) + e
                                                            with t - WINDOW <= s <= t

    It waits for nothing: below it, the backward direction has already seen what comes. Before a
    stream begins all x are zero.
    """

    states = ("past",)

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def zero_state(self, batch: int, like: Tensor) -> State:
        """The last WINDOW frames, [batch, WINDOW, width]."""
        return {"past": like.new_zeros(batch, WINDOW, self.output.in_features)}

    def run(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """[batch, frames, width] -> the same shape, and the next state."""
        count = frames.shape[1]
        recent = torch.cat([state["past"].to(frames.dtype), frames], dim=1)
        parts = self.projection(self.norm(recent)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        time = torch.arange(count, device=frames.device)
        behind = WINDOW + time[:, None] - torch.arange(WINDOW + count, device=frames.device)
        near = (behind >= 0) & (behind <= WINDOW)
        seen = functional.scaled_dot_product_attention(q[:, :, WINDOW:], k, v, attn_mask=near)
        output = frames + self.output(seen.transpose(1, 2).flatten(2))
        return output, {"past": recent[:, count:]}
