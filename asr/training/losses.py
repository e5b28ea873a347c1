"""The loss of a batch, and the precision that the network runs in."""

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.phonemes import SOUNDS
from asr.training.config import Config, ConfigError, OptimisationConfig
from asr.training.data.batches import Batch
from asr.training.mmi import Phonotactics
from features.augment import AugmentConfig


def batch_loss(
    network: nn.Module,
    batch: Batch,
    config: Config,
    augment: AugmentConfig | None = None,
    phonotactics: Phonotactics | None = None,
) -> Tensor:
    """Loss summed over this process's part of a batch, divided by the targets of the whole.

    phonotactics: what `optimisation.mmi` sets the phonemes of each text against; without it their
    loss is that of CTC.

    With `augment` and `optimisation.consistency`, a transcription is learned from two views of each
    utterance that are masked apart (see `_inconsistency`).
    """
    options = config.optimisation
    reads_sounds = config.model.head.phonemes
    views = 2 if augment and options.consistency and config.model.head.kind == "ctc" else 1
    if views == 2:
        batch = _twice(batch)
    with precision(options, batch.inputs.device):
        wanted = {}
        if batch.search.any():
            wanted["wanted"] = torch.where(batch.search, batch.targets, -1)
        if reads_sounds:
            wanted["sounds"] = True
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
        letters, sounds = log_probs, log_probs[..., :0]
        if reads_sounds:
            letters, sounds = log_probs.tensor_split([-len(SOUNDS)], dim=-1)
        total = _ctc_loss(letters, frame_lengths, batch.targets, batch.target_lengths)
        if reads_sounds:
            total = total + _ctc_loss(sounds, frame_lengths, batch.sounds, batch.sound_lengths)
            if phonotactics is not None:
                others = _log_odds_of_others(sounds, frame_lengths, batch, phonotactics)
                total = total + options.mmi * others
        if views == 2:
            total = total + options.consistency * _inconsistency(letters, frame_lengths)
            total = total + options.consistency * _inconsistency(sounds, frame_lengths)
    return total / (views * batch.weight)


def _ctc_loss(
    log_probs: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor
) -> Tensor:
    """The CTC loss, summed over the rows that have targets.

    log_probs: [batch, frames, labels]; targets: of all rows, one after the other.
    """
    given = target_lengths > 0
    if not given.any():
        return log_probs.new_zeros(())
    return functional.ctc_loss(
        log_probs[given].transpose(0, 1),
        targets,
        frame_lengths[given],
        target_lengths[given],
        reduction="sum",
        zero_infinity=True,
    )


def _log_odds_of_others(
    log_probs: Tensor, frame_lengths: Tensor, batch: Batch, phonotactics: Phonotactics
) -> Tensor:
    """What makes the CTC loss of phonemes one of maximum mutual information: the sum over whatever
    might be said, divided by how likely each text is before it is said, of the rows that have
    phonemes."""
    given = batch.sound_lengths > 0
    if not given.any():
        return log_probs.new_zeros(())
    texts = batch.sounds.split(batch.sound_lengths[given].tolist())
    everything = phonotactics.log_partition(log_probs[given], frame_lengths[given])
    return (everything - phonotactics.log_probs(texts)).sum()


def _twice(batch: Batch) -> Batch:
    """Each utterance of a batch again, after the last of them."""
    return replace(
        batch,
        inputs=batch.inputs.repeat(2, 1),
        input_lengths=batch.input_lengths.repeat(2),
        targets=batch.targets.repeat(2),
        target_lengths=batch.target_lengths.repeat(2),
        sounds=batch.sounds.repeat(2),
        sound_lengths=batch.sound_lengths.repeat(2),
        search=batch.search.repeat(2),
    )


def _inconsistency(log_probs: Tensor, frame_lengths: Tensor) -> Tensor:
    """How far the two halves of a batch, which are views of the same utterances, are from another.

    log_probs: [2 * utterances, frames, labels]; frame_lengths: [2 * utterances]. Returns the
    Kullback-Leibler divergence of each half from the other, which stays as it is, summed over
    their frames: CR-CTC (Yao et al., 2024), which teaches a network to fill in what a mask hides,
    and makes its peaks less sharp.
    """
    time = torch.arange(log_probs.shape[1], device=log_probs.device)
    valid = (time < frame_lengths[:, None]).unsqueeze(-1)
    other = log_probs.detach().roll(len(log_probs) // 2, dims=0)
    divergence = functional.kl_div(log_probs, other, reduction="none", log_target=True)
    return divergence.masked_fill(~valid, 0.0).sum()


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
