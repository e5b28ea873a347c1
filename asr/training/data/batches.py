"""Planned items to padded tensors."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from asr.cores import cores
from asr.training.config import Config
from asr.training.data.corpus import Corpus
from asr.training.data.items import Item
from asr.training.data.labels import Labels
from asr.training.data.plan import plan_epoch
from asr.training.data.sounds import Sounds
from asr.training.data.sources import DataError
from asr.training.interrupts import ignore_interrupts
from features.augment import Augmenter

VOICES, VOICE_SECONDS = 100, 1.5  # how many recordings are voices of others, and the shortest


@dataclass(frozen=True)
class Batch:
    """Padded inputs [batch, samples] with lengths, and targets one after the other.

    inputs: waveforms or, for a language model, the label before each target.
    sounds: the phonemes of the texts one after the other, with `sound_lengths`: 0 where it is
        not known how a text is said, or nobody asks.
    search: [batch] whether a classifier looks for its worst window (see `Item`).
    weight: the number of targets over all processes: losses are summed, then divided by it.
    """

    inputs: Tensor
    input_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    sounds: Tensor
    sound_lengths: Tensor
    search: Tensor
    weight: int

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return replace(
            self,
            inputs=self.inputs.to(device, non_blocking=True),
            input_lengths=self.input_lengths.to(device),
            targets=self.targets.to(device),
            target_lengths=self.target_lengths.to(device),
            sounds=self.sounds.to(device),
            sound_lengths=self.sound_lengths.to(device),
            search=self.search.to(device),
        )


class Batches(Dataset):
    """The planned batches as padded tensors; augmented if an augmenter is given."""

    def __init__(
        self,
        plan: list[list[Item]],
        noises: list[np.ndarray],
        augmenter: Augmenter | None,
        rank: int = 0,
        world: int = 1,
        sounds: Sounds | None = None,
    ) -> None:
        self.plan = plan
        self.sounds = sounds
        self.noises = noises
        self.augmenter = augmenter
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Batch:
        items = self.plan[index]
        mine = items[self.rank :: self.world]
        inputs = [self._input(item) for item in mine]
        targets = [self._targets(item) for item in mine]
        sounds = [self.sounds.of(row) if self.sounds else () for row in targets]
        return Batch(
            inputs=pad_sequence(inputs, batch_first=True),
            input_lengths=torch.tensor([len(row) for row in inputs]),
            targets=torch.tensor([target for row in targets for target in row]),
            target_lengths=torch.tensor([len(row) for row in targets]),
            sounds=torch.tensor([sound for row in sounds for sound in row], dtype=torch.int64),
            sound_lengths=torch.tensor([len(row) for row in sounds]),
            search=torch.tensor([item.search for item in mine]),
            weight=sum(len(self._targets(item)) for item in items),
        )

    def _input(self, item: Item) -> Tensor:
        return torch.from_numpy(item.waveform(self.noises, self.augmenter))

    def _targets(self, item: Item) -> tuple[int, ...]:
        return item.targets


class TextBatches(Batches):
    """Batches of texts for a language model, which predicts each label from those before.

    Label 0 marks both ends: it is the input in front of the first label and the last target.
    """

    def _input(self, item: Item) -> Tensor:
        return torch.tensor([0, *item.targets])

    def _targets(self, item: Item) -> tuple[int, ...]:
        return (*item.targets, 0)


def loader(batches: Batches, workers: int, first: int = 0) -> Iterator[Batch]:
    """Iterate over the batches from number `first`, prepared by up to `workers` processes."""
    workers = min(workers, cores())
    yield from DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, len(batches)),
        num_workers=workers,
        worker_init_fn=ignore_interrupts,
        prefetch_factor=4 if workers else None,
    )


def batches_of(config: Config) -> type[Batches]:
    """What the batches of a task are made of: sound, or texts alone."""
    return TextBatches if config.model.head.kind == "lm" else Batches


def sounds_of(config: Config, labels: Labels) -> Sounds | None:
    """What tells the phonemes of texts, if a second output reads them."""
    return Sounds(labels) if config.model.head.phonemes else None


def epoch_batches(
    config: Config, corpus: Corpus, epoch: int, rank: int = 0, world: int = 1
) -> Batches:
    """One process's part of the batches of an epoch, augmented. Raises DataError."""
    augmenter = None
    if not config.warm(epoch):
        rate = config.model.mfcc.sample_rate
        augmenter = Augmenter(config.augment, corpus.noises, rate, _voices(config, corpus))
    plan = [batch for batch in plan_epoch(config, corpus, epoch) if len(batch) >= world]
    if not plan:
        raise DataError(
            f"no batch has a recording for each of {world} processes; raise "
            "optimisation.batch_seconds"
        )
    sounds = sounds_of(config, corpus.labels)
    return batches_of(config)(plan, corpus.noises, augmenter, rank, world, sounds)


def _voices(config: Config, corpus: Corpus) -> list[np.ndarray]:
    """What `augment.voices` draws from: some of the recordings that last, of a classifier's those
    of unknown words."""
    if not config.augment.voices or config.model.head.kind == "lm":
        return []
    long = [e for e in corpus.train if e.samples >= VOICE_SECONDS * config.rate]
    if config.classifies:
        long = [e for e in long if e.targets[0] == corpus.labels.unknown]
    rng = np.random.default_rng(config.optimisation.seed)
    return [long[k].waveform() for k in rng.permutation(len(long))[:VOICES]]
