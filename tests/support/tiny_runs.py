"""Runs whose weights are random: every kind of model to export, at no cost of training."""

from pathlib import Path

import torch

from asr.training.checkpoint import BEST, Progress, save_checkpoint
from asr.training.config import Config, parse_config
from asr.training.network.acoustic import AcousticModel

SAMPLE_RATE = 16_000
ENCODERS = {
    "whole": {},
    "latency-controlled": {"block": 4, "look_ahead": 3},
    "lstm": {"kind": "lstm", "block": 2},
    "attention": {"kind": "attention", "heads": 3},
    "attention in blocks": {
        "kind": "attention",
        "heads": 2,
        "block": 4,
        "look_ahead": 3,
        "projection": 8,
        "layer_norm": True,
        "residual": True,
    },
    "rnn": {"kind": "rnn", "block": 3},
    "gru": {"kind": "gru", "block": 2, "residual": True},
    "bigru": {"kind": "bigru", "block": 3, "look_ahead": 2},
    "peephole": {"kind": "peephole", "block": 2, "projection": 6},
    "convlstm": {"kind": "convlstm", "block": 2, "hidden": 16, "stem_channels": 16},
}
HEADS = {
    "ctc": {"kind": "ctc"},
    "upsampled ctc": {"kind": "ctc", "upsample": 2},
    "phonemes": {"kind": "ctc", "upsample": 2, "phonemes": True},
    "classify": {"kind": "classify", "labels": ["yes", "no"], "window": 0.5},
}
LABELS = {
    "ctc": ("<blank>", " ", "é", "n", "o"),
    "classify": ("yes", "no", "_unknown_", "_silence_"),
}
MFCC = {"whole": {"n_mfcc": 13, "deltas": 2}}  # the front end, too, is part of the file


def random_model(
    encoder: dict, head: dict, mfcc: dict | None = None
) -> tuple[Config, AcousticModel]:
    """A model whose weights are random, always the same, no two alike, large enough to matter."""
    tree = {
        "name": "tiny",
        "model": {
            "encoder": {"hidden": 12, "stem_channels": 12} | encoder,
            "head": head,
            "mfcc": mfcc or {},
        },
        "data": {
            "sources": [{"path": "x", "name": "Words", "licence": "CC0", "attribution": "nobody"}]
        },
        "trigger": {"threshold": 0.7, "smoothing": 0.2, "refractory": 0.9},
    }
    config = parse_config(tree, "test")
    torch.manual_seed(1)
    model = AcousticModel(config.model, len(LABELS[config.model.head.kind])).eval()
    model.mean.fill_(-20.0)
    model.scale.fill_(0.05)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(1.5).add_(0.05 * torch.randn_like(weights))
    return config, model


def save_run(
    folder: Path, encoder: dict, head: dict, mfcc: dict | None = None
) -> tuple[Config, AcousticModel]:
    """Write the run of a random model."""
    config, model = random_model(encoder, head, mfcc)
    labels = LABELS[config.model.head.kind]
    folder.mkdir()
    save_checkpoint(folder / BEST, config, labels, model, Progress(), {"error": 0.25})
    return config, model
