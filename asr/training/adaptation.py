"""A trained network moved a little towards a few recordings: few steps, a small rate, and a pull
back to where it began, so that what it knew stays (L2-SP; Li et al., ICML 2018)."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import jiwer
import numpy as np
import torch
from torch import Tensor, nn

from asr.training.config import Config
from asr.training.data.batches import Batch, batches_of, epoch_batches, loader
from asr.training.data.corpus import Corpus, Example
from asr.training.data.items import Item
from asr.training.losses import batch_loss, precision
from asr.training.network.acoustic import AcousticModel
from asr.training.train import learning_rate_factor
from asr.training.validation import best_paths

STEPS = 60
WARMUP = 0.1  # of the steps
PULL = 0.05  # what the squared distance from the start costs
MEASURED_BATCH = 8  # recordings


def fine_tune(start: AcousticModel, config: Config, corpus: Corpus) -> AcousticModel:
    """A copy of a network after STEPS steps, the same on every run; of `config.optimisation` it
    uses the rate, the batches, the precision and the seed."""
    network = copy.deepcopy(start).train()
    anchors = [parameter.detach().clone() for parameter in network.parameters()]
    options = config.optimisation
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.0)
    for step, batch in enumerate(itertools.islice(_batches(config, corpus), STEPS)):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * learning_rate_factor(step / STEPS, WARMUP)
        torch.manual_seed(options.seed + step)
        optimiser.zero_grad(set_to_none=True)
        batch_loss(network, batch, config, config.augment).backward()
        _pull_back(network, anchors)
        nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        optimiser.step()
    return network.eval()


@torch.no_grad()
def _pull_back(network: AcousticModel, anchors: Sequence[Tensor]) -> None:
    """Add the gradient of PULL times the squared distance from the start, which is far cheaper to
    write down than to derive."""
    for parameter, anchor in zip(network.parameters(), anchors, strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(parameter - anchor, alpha=2.0 * PULL)


def _batches(config: Config, corpus: Corpus) -> Iterator[Batch]:
    """The batches of one epoch after the other."""
    for epoch in itertools.count():
        yield from loader(epoch_batches(config, corpus, epoch), workers=0)


@torch.no_grad()
def count_errors(
    network: AcousticModel, config: Config, corpus: Corpus, examples: Sequence[Example]
) -> np.ndarray:
    """Errors and what could be right in each example, int (examples, 2), by the network alone,
    without a language model: characters, or for a classifier recordings; two labels that are never
    reported count as one."""
    labels, silent = corpus.labels, {corpus.labels.names.index(n) for n in corpus.labels.background}
    order = sorted(range(len(examples)), key=lambda k: examples[k].samples)
    window = config.window if config.classifies else None
    items = [Item(e, e.targets, min(e.samples, window or e.samples), 0) for e in examples]
    groups = [order[k : k + MEASURED_BATCH] for k in range(0, len(order), MEASURED_BATCH)]
    batches = batches_of(config)([[items[k] for k in group] for group in groups], [], None)
    counts = np.zeros((len(examples), 2), int)
    for group, batch in zip(groups, loader(batches, workers=0), strict=True):
        with precision(config.optimisation, torch.device("cpu")):
            log_probs, lengths = network(batch.inputs, batch.input_lengths)
        for k, guess in zip(group, best_paths(log_probs, lengths, labels), strict=True):
            if config.classifies:
                truth = examples[k].targets[0]
                counts[k] = (truth != guess[0] and not {truth, guess[0]} <= silent), 1
            else:
                counts[k] = _character_errors(examples[k].recording.text, labels.decode(guess))
    return counts


def _character_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    result = jiwer.process_characters(reference, hypothesis)
    return result.substitutions + result.deletions + result.insertions, len(reference)


def without(corpus: Corpus, speakers: set[str]) -> Corpus:
    """The corpus without what some of the speakers say."""
    return replace(corpus, train=[e for e in corpus.train if e.recording.speaker not in speakers])
