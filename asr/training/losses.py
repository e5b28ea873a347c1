"""The loss of a batch, and the precision that the network runs in."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.training.config import Config, ConfigError, OptimisationConfig
from asr.training.data.batches import Batch
from features.augment import AugmentConfig


def batch_loss(
    network: nn.Module, batch: Batch, config: Config, augment: AugmentConfig | None = None
) -> Tensor:
    """Loss summed over this process's part of a batch, divided by the targets of the whole."""
    options = config.optimisation
    with precision(options, batch.inputs.device):
        wanted = {}
        if batch.search.any():
            wanted["wanted"] = torch.where(batch.search, batch.targets, -1)
        log_probs, frame_lengths = network(batch.inputs, batch.input_lengths, augment, **wanted)
    if config.model.head.kind == "classify":
        smoothing = options.label_smoothing if augment else 0.0
        total = functional.cross_entropy(
            log_probs.squeeze(1), batch.targets, reduction="sum", label_smoothing=smoothing
        )
    elif config.model.head.kind == "lm":
        time = torch.arange(log_probs.shape[1], device=log_probs.device)
        rows = log_probs[time < frame_lengths[:, None]]
        total = functional.nll_loss(rows, batch.targets, reduction="sum")
    else:
        total = functional.ctc_loss(
            log_probs.transpose(0, 1),
            batch.targets,
            frame_lengths,
            batch.target_lengths,
            reduction="sum",
            zero_infinity=True,
        )
    return total / batch.weight


def precision(options: OptimisationConfig, device: torch.device) -> torch.autocast:
    """What the network runs in."""
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16(options, device))


def in_bf16(options: OptimisationConfig, device: torch.device) -> bool:
    """Whether the network runs in bf16, rather than in fp32.

    Raises:
        ConfigError: bf16 is asked for by name, of a processor that does not compute in it.
    """
    able = _computes_bf16(device)
    if options.precision == "bf16" and not able:
        raise ConfigError(
            "optimisation.precision is bf16, which this processor does not compute in; leave it at "
            "auto, which takes fp32 here"
        )
    return able and options.precision != "fp32"


@functools.cache
def _computes_bf16(device: torch.device) -> bool:
    """Where a processor does not, torch imitates it, several times slower than fp32, or fails."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return any(value for name, value in has.items() if name.endswith("bf16"))
    return False
