"""Overlapping windows over time, for training and for exported models alike."""

import torch
from torch import Tensor
from torch.nn import functional


def windows(x: Tensor, length: int, hop: int) -> Tensor:
    """Cut [batch, time, ...] into every whole window: [batch, count, length, ...].

    Window k begins at k * hop; count is 1 + (time - length) // hop, and time at least length.
    `Tensor.unfold` is the quickest where a view will do. But its gradient is slow, and in an
    exported model it becomes a gather by a table of indices: there, rows of one hop are put side by
    side, which takes slices only.
    """
    if not (x.requires_grad or torch.compiler.is_exporting()):
        return x.unfold(1, length, hop).movedim(-1, 2)
    count = 1 + (x.shape[1] - length) // hop
    across = -(-length // hop)  # rows that a window lies in
    last = across * hop - length  # samples of the last row beyond the window, which nobody sees
    padded = functional.pad(x, (0, 0) * (x.ndim - 2) + (0, last))
    height = count + across - 1
    rows = padded[:, : height * hop].unflatten(1, (height, hop))
    beside = [rows[:, k : k + count, : length - k * hop] for k in range(across)]
    return torch.cat(beside, dim=2)
