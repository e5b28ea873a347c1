"""What a training learns from beside its labels: which phonemes follow each other, a teacher."""

from dataclasses import dataclass
from pathlib import Path

import torch

from asr.model import bundled_models, model_path
from asr.training.checkpoint import best_checkpoint, load_checkpoint, rebuild
from asr.training.config import Config, ConfigError, expand
from asr.training.data.corpus import Corpus
from asr.training.data.sounds import Sounds
from asr.training.mmi import Phonotactics
from asr.training.network.acoustic import AcousticModel
from asr.training.pretrained import read_pretrained


@dataclass(frozen=True)
class Guides:
    """phonotactics: what `optimisation.mmi` sets the phonemes of each text against; teacher: in
    evaluation mode, the classifier that `optimisation.teacher` names."""

    phonotactics: Phonotactics | None = None
    teacher: AcousticModel | None = None


NO_GUIDES = Guides()


def guides_of(
    config: Config, corpus: Corpus, sounds: Sounds | None, device: torch.device
) -> Guides:
    """Those that a configuration asks for. Raises EarshotError."""
    phonotactics = teacher = None
    if config.optimisation.mmi and sounds:
        phonotactics = _phonotactics(config, corpus, sounds).to(device)
    if config.optimisation.teacher:
        teacher = _teacher(config.optimisation.teacher, corpus.labels.names).to(device)
    return Guides(phonotactics, teacher)


def named_weights(name: str) -> Path:
    """The file or run that a setting names: of a bundled model, or a path."""
    return model_path(name) if name in bundled_models() else expand(name)


def _phonotactics(config: Config, corpus: Corpus, sounds: Sounds) -> Phonotactics:
    """Of the texts to train on, each as heavy as its source."""
    said = [
        (sounds.of(e.targets), config.data.sources[e.recording.source].weight) for e in corpus.train
    ]
    return Phonotactics.of((text, weight) for text, weight in said if text)


def _teacher(name: str, labels: tuple[str, ...]) -> AcousticModel:
    path = named_weights(name)
    if path.suffix == ".onnx":
        model, card = read_pretrained(path)
        own = tuple(card.labels)
    else:
        checkpoint = best_checkpoint(path)
        _, own, model = rebuild(load_checkpoint(checkpoint), checkpoint)
    if own != labels or not isinstance(model, AcousticModel):
        raise ConfigError(
            f"optimisation.teacher: {path} does not have the labels {', '.join(labels)}; name a "
            "classifier of the same words, in the same order"
        )
    return model.requires_grad_(False)
