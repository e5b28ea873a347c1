"""Heads: encoder frames to log-probabilities, per frame (CTC) or per utterance (classification)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from features.errors import EarshotError


class HeadConfigError(EarshotError, ValueError):
    """A head setting that cannot work."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What the model answers.

    kind "ctc": labels per frame. `labels` empty means the characters of the training texts; else a
    closed set of words. "classify": one label per utterance; `labels` lists the words to report.
    "lm": no sound at all: which label follows those before, for texts of labels as in "ctc".
    window: seconds of sound that a classifier decides over when it listens.
    upsample: frames of labels, each its share of the sound, that "ctc" reads from one encoder
        frame: letters are shorter than the frames that an encoder needs.
    phonemes: "ctc" reads the phonemes of the words, too, from the same frames; texts are English.
    alike: words that sound like a label, as "know" like "no": a classifier does not take recordings
        with them for unknown words.
    """

    kind: Literal["ctc", "classify", "lm"]
    labels: tuple[str, ...] = ()
    pooling: Literal["attention", "mean"] = "attention"
    window: float = 1.0
    upsample: int = 1
    alike: tuple[str, ...] = ()
    phonemes: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.kind == "classify" and not self.labels:
            raise HeadConfigError("head.labels must list the words that a classifier reports")
        if len(set(self.labels)) != len(self.labels):
            raise HeadConfigError("head.labels has a label twice")
        if self.upsample < 1 or (self.upsample > 1 and self.kind != "ctc"):
            raise HeadConfigError("head.upsample must be at least 1, and 1 but for kind 'ctc'")
        if self.phonemes and self.kind != "ctc":
            raise HeadConfigError("head.phonemes is for kind 'ctc'")
        if self.window <= 0.0 or not 0.0 <= self.dropout < 1.0:
            raise HeadConfigError("head.window must be above 0 s, head.dropout in [0, 1)")


class CtcHead(nn.Module):
    """Log-probabilities of every label at every frame (Graves et al., 2006), of which each encoder
    frame gives `upsample`."""

    def __init__(self, width: int, labels: int, config: HeadConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.labels = labels
        self.output = nn.Linear(width, labels * config.upsample)

    def forward(self, frames: Tensor) -> Tensor:
        """[batch, frames, width] -> [batch, frames * upsample, labels]."""
        logits = _widened(self.output(self.dropout(frames)))
        return logits.unflatten(-1, (-1, self.labels)).flatten(1, 2).log_softmax(dim=-1)


class ClassifyHead(nn.Module):
    """Pool the frames over time, then choose one label.

    Attention pooling weighs frame t by softmax_t(v . tanh(W h_t)): additive attention with a
    learned query (Bahdanau et al., 2015); with several heads, each has its v and weighs its share
    of the numbers in a frame. Mean pooling weighs all frames alike.
    """

    def __init__(self, width: int, labels: int, config: HeadConfig, heads: int = 1) -> None:
        super().__init__()
        self.width = width
        self.attention = (
            nn.Sequential(
                nn.Linear(width, width // 2), nn.Tanh(), nn.Linear(width // 2, heads, bias=False)
            )
            if config.pooling == "attention"
            else None
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(width, labels)

    def weigh(self, frames: Tensor) -> Tensor:
        """Put the attention logits behind every frame: [..., width] -> [..., width + heads]."""
        if self.attention is None:
            return functional.pad(frames, (0, 1))
        return torch.cat([frames, self.attention(frames)], dim=-1)

    def forward(self, weighed: Tensor, lengths: Tensor | None) -> Tensor:
        """Weighed [batch, frames, width + heads] -> [batch, 1, labels]; frames from `lengths` on
        are not seen."""
        if lengths is None:
            return self._answer(weighed, None)
        time = torch.arange(weighed.shape[1], device=weighed.device)
        return self._answer(weighed, (time < lengths[:, None])[:, None, None])

    def slide(self, weighed: Tensor, length: int, hop: int) -> Tensor:
        """Weighed [batch, frames, width + heads] -> [batch, count, labels]: of every window of
        `length` frames, one each `hop`, up to the last that is whole."""
        frames = weighed.shape[1]
        time = torch.arange(frames, device=weighed.device)
        since = time - time[: frames - length + 1 : hop, None]
        return self._answer(weighed, (since >= 0) & (since < length))

    def _answer(self, weighed: Tensor, seen: Tensor | None) -> Tensor:
        """Log-probabilities [batch, count, labels] of the frames that each answer sees, all or
        [batch or none, heads or 1 or none, count, frames]."""
        logits = _widened(weighed[..., self.width :]).transpose(1, 2).unsqueeze(2)
        if seen is not None:
            logits = logits.masked_fill(~seen, -torch.inf)
        shares = logits.softmax(dim=-1)  # [batch, heads, count, frames]
        parts = weighed[..., : self.width].unflatten(-1, (shares.shape[1], -1)).transpose(1, 2)
        pooled = (shares @ parts).transpose(1, 2).flatten(2)
        return _widened(self.output(self.dropout(pooled))).log_softmax(dim=-1)


def _widened(numbers: Tensor) -> Tensor:
    """At least float32: sums of exponentials want more than the bits of bfloat16."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))
