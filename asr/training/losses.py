"""The loss of a batch, and the precision that the network runs in."""

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.phonemes import SOUNDS
from asr.training.config import Config, ConfigError, OptimisationConfig
from asr.training.data.batches import Batch
from asr.training.guides import NO_GUIDES, Guides
from asr.training.mmi import Phonotactics
from asr.training.network.acoustic import AcousticModel
from features.augment import AugmentConfig

TEMPERATURE = 2.0  # at which a teacher tells how alike the labels are


def batch_loss(
    network: nn.Module,
    batch: Batch,
    config: Config,
    augment: AugmentConfig | None = None,
    guides: Guides = NO_GUIDES,
) -> Tensor:
    """Loss summed over this process's part of a batch, divided by the targets of the whole.

    With `augment` and `optimisation.consistency`, a transcription is learned from two views of each
    utterance that are masked apart (see `_inconsistency`).
    """
    options = config.optimisation
    views = 2 if augment and options.consistency and config.model.head.kind == "ctc" else 1
    if views == 2:
        batch = _twice(batch)
    with precision(options, batch.inputs.device):
        wanted = {}
        if batch.search.any():
            wanted["wanted"] = torch.where(batch.search, batch.targets, -1)
        if config.model.head.phonemes:
            wanted["sounds"] = True
        log_probs, frame_lengths = network(batch.inputs, batch.input_lengths, augment, **wanted)
    if config.model.head.kind == "classify":
        smoothing = options.label_smoothing if augment else 0.0
        total = _classification_loss(log_probs.squeeze(1), batch, options, smoothing, guides)
    elif config.model.head.kind == "lm":
        time = torch.arange(log_probs.shape[1], device=log_probs.device)
        rows = log_probs[time < frame_lengths[:, None]]
        total = functional.nll_loss(rows, batch.targets, reduction="sum")
    else:
        total = _transcription_loss(log_probs, frame_lengths, batch, config, guides)
        if views == 2:
            total = total + options.consistency * _inconsistency(log_probs, frame_lengths)
    return total / (views * batch.weight)


def _classification_loss(
    log_probs: Tensor, batch: Batch, options: OptimisationConfig, smoothing: float, guides: Guides
) -> Tensor:
    """Of [batch, labels], summed over the rows."""
    losses = functional.cross_entropy(
        log_probs, batch.targets, reduction="none", label_smoothing=smoothing
    )
    if guides.teacher is not None:
        unlike = _unlike(guides.teacher, log_probs, batch)
        taught = options.taught * ~batch.search  # of which the teacher has another moment
        losses = torch.lerp(losses, unlike, taught)
    return losses.sum()


def _transcription_loss(
    log_probs: Tensor, frame_lengths: Tensor, batch: Batch, config: Config, guides: Guides
) -> Tensor:
    """Of [batch, frames, labels of letters, then those of phonemes], summed over the rows."""
    if not config.model.head.phonemes:
        return _ctc_loss(log_probs, frame_lengths, batch.targets, batch.target_lengths)
    letters, sounds = log_probs.tensor_split([-len(SOUNDS)], dim=-1)
    total = _ctc_loss(letters, frame_lengths, batch.targets, batch.target_lengths)
    total = total + _ctc_loss(sounds, frame_lengths, batch.sounds, batch.sound_lengths)
    if guides.phonotactics is not None:
        others = _log_odds_of_others(sounds, frame_lengths, batch, guides.phonotactics)
        total = total + config.optimisation.mmi * others
    return total


def _unlike(teacher: AcousticModel, log_probs: Tensor, batch: Batch) -> Tensor:
    """How far [batch, labels] are from what a teacher makes of the same sound without masks: the
    Kullback-Leibler divergence of each, softened (Hinton et al., 2015)."""
    with torch.no_grad():
        answers, _ = teacher(batch.inputs, batch.input_lengths)
    wanted = (answers.squeeze(1) / TEMPERATURE).log_softmax(-1)
    given = (log_probs / TEMPERATURE).log_softmax(-1)
    divergence = functional.kl_div(given, wanted, reduction="none", log_target=True).sum(-1)
    return TEMPERATURE**2 * divergence


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
