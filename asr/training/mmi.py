"""Lattice-free maximum mutual information over phonemes: a text against all that might be said.

CTC makes the right sequence likely by itself; which phonemes follow each other it cannot tell, so
the search brings in a language model that training never knew. Here the sum over all sequences of
phonemes, each weighed by a model of three of them, is what the right sequence is compared with
(Povey et al., 2016; over the paths of CTC: Xiang and Ou, 2019).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.phonemes import SOUNDS

SIDE = 0  # before the first phoneme and after the last one, in place of the blank


class Phonotactics:
    """How likely each phoneme is after two others.

    trigrams: float32 [phonemes, phonemes, phonemes]: probability of the third after the first two;
        number 0, which is the blank elsewhere, is what lies outside a text. None is 0.
    """

    def __init__(self, trigrams: Tensor) -> None:
        self.trigrams = trigrams
        self.ends = trigrams[..., SIDE].clone()
        # [second, first, third]: what can be said next; a batch of matrices, one for each second.
        self.follows = trigrams.transpose(0, 1).clone()
        self.follows[..., SIDE] = 0.0
        self.again = self.follows.diagonal(dim1=0, dim2=2).clone()  # [first, second]: second again

    @classmethod
    def of(cls, texts: Iterable[tuple[Sequence[int], float]]) -> "Phonotactics":
        """Estimate from texts of phoneme numbers and their weights, interpolated with shorter
        histories (Witten and Bell, 1991)."""
        count = len(SOUNDS)
        counts = np.zeros((count, count, count))
        for text, weight in texts:
            padded = np.array([SIDE, SIDE, *text, SIDE])
            np.add.at(counts, (padded[:-2], padded[1:-1], padded[2:]), weight)
        shorter = np.full((1, 1, count), 1.0 / count)
        for seen in (counts.sum(axis=(0, 1), keepdims=True), counts.sum(axis=0, keepdims=True)):
            shorter = _interpolated(seen, shorter)
        return cls(torch.from_numpy(_interpolated(counts, shorter)).float())

    def to(self, device: torch.device) -> "Phonotactics":
        """The same on a device."""
        return Phonotactics(self.trigrams.to(device))

    def log_probs(self, texts: Sequence[Tensor]) -> Tensor:
        """Of each text of phoneme numbers, with its end: [texts]."""
        logs = self.trigrams.log()
        padded = [torch.nn.functional.pad(text, (2, 1), value=SIDE) for text in texts]
        return torch.stack([logs[text[:-2], text[1:-1], text[2:]].sum() for text in padded])

    def log_partition(self, log_probs: Tensor, lengths: Tensor) -> Tensor:
        """Log of the sum over all texts of their probability here times that of their CTC paths.

        log_probs: [batch, frames, phonemes], log-probabilities; lengths: [batch], frames of each.
        Returns [batch].
        """
        return _LogPartition.apply(log_probs, lengths, self)


def _interpolated(counts: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """Probabilities of the last axis by counts, and by a shorter history for as many as there are
    different ones after the history; a history that never occurs is the shorter one."""
    kinds = np.count_nonzero(counts, axis=-1, keepdims=True)
    kinds = np.where(kinds == 0, 1, kinds)
    return (counts + kinds * shorter) / (counts.sum(axis=-1, keepdims=True) + kinds)


class _LogPartition(torch.autograd.Function):
    """The forward and backward algorithm. A path is, at each frame, in a state (first, second,
    whether the frame says the second or is a blank after it), all kept as probabilities that add
    up to 1, with the logs of what they were divided by."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, lengths: Tensor, model: Phonotactics) -> Tensor:
        probs = log_probs.exp().float()
        batch, frames, count = probs.shape
        said = probs.new_zeros(batch, count, count)
        blank = said.clone()
        blank[:, SIDE, SIDE] = 1.0
        total, states = probs.new_zeros(batch), []
        for time in range(frames):
            now = probs[:, time]
            either = said + blank
            entered = torch.bmm(either.permute(2, 0, 1), model.follows).transpose(0, 1).contiguous()
            entered.diagonal(dim1=1, dim2=2).sub_((said * model.again).sum(dim=1))
            said, blank = (said + entered) * now[:, None], either * now[:, SIDE, None, None]
            scale = (said.sum(dim=(1, 2)) + blank.sum(dim=(1, 2)))[:, None, None]
            said, blank = said / scale, blank / scale
            inside = time < lengths
            if not inside.all():
                before_said, before_blank = states[-1]
                said = torch.where(inside[:, None, None], said, before_said)
                blank = torch.where(inside[:, None, None], blank, before_blank)
            total += torch.where(inside, scale[:, 0, 0].log(), 0.0)
            states.append((said, blank))
        ctx.save_for_backward(probs, lengths)
        ctx.states, ctx.model = states, model
        return total + ((said + blank) * model.ends).sum(dim=(1, 2)).log()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The derivative by a log-probability is the share of all paths that go through it."""
        probs, lengths = ctx.saved_tensors
        shares = torch.zeros_like(probs)
        model: Phonotactics = ctx.model
        after_said = model.ends.expand(len(probs), -1, -1)
        after_blank = after_said
        for time in reversed(range(probs.shape[1])):
            said, blank = ctx.states[time]
            inside = time < lengths
            shares[:, time] = (said * after_said).sum(dim=1)
            shares[:, time, SIDE] = (blank * after_blank).sum(dim=(1, 2))
            now = probs[:, time]
            through = after_said * now[:, None]
            next_blank = torch.bmm(through.transpose(0, 1), model.follows.transpose(1, 2))
            next_blank = next_blank.permute(1, 2, 0) + after_blank * now[:, SIDE, None, None]
            repeated = model.again * through.diagonal(dim1=1, dim2=2)[:, None]
            next_said = next_blank + through - repeated
            scale = next_blank.sum(dim=(1, 2), keepdim=True)
            after_said = torch.where(inside[:, None, None], next_said / scale, after_said)
            after_blank = torch.where(inside[:, None, None], next_blank / scale, after_blank)
        shares /= shares.sum(dim=-1, keepdim=True)
        inside = torch.arange(probs.shape[1], device=probs.device) < lengths[:, None]
        return shares * inside[..., None] * grad[:, None, None], None, None
