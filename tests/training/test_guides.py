"""What a training learns from beside its labels is found, or refused."""

from dataclasses import replace

import pytest
import torch

from asr.model import Model, model_path
from asr.training.config import Config, ConfigError, DataConfig
from asr.training.data.corpus import Corpus
from asr.training.data.labels import Labels
from asr.training.guides import NO_GUIDES, Guides, guides_of
from asr.training.network.acoustic import ModelConfig
from asr.training.network.heads import HeadConfig

CPU = torch.device("cpu")
HEAD = HeadConfig(kind="classify", labels=("a",))
CONFIG = Config(name="t", model=ModelConfig(head=HEAD), data=DataConfig(sources=()))


def guides(teacher: str, labels: tuple[str, ...]) -> Guides:
    config = replace(CONFIG, optimisation=replace(CONFIG.optimisation, teacher=teacher))
    corpus = Corpus(Labels(labels, task="classify"), [], [], [], [])
    return guides_of(config, corpus, None, CPU)


def test_none_are_asked_for_by_default() -> None:
    assert guides("", ("a",)) == NO_GUIDES


def test_a_bundled_model_can_teach_its_labels() -> None:
    teacher = guides("commands", tuple(Model(model_path("commands")).card.labels)).teacher
    assert teacher is not None
    assert not teacher.training
    assert not any(weights.requires_grad for weights in teacher.parameters())


def test_a_teacher_of_other_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not have the labels a, b"):
        guides("commands", ("a", "b"))


def test_only_classifiers_have_a_teacher() -> None:
    head = HeadConfig(kind="ctc")
    options = replace(CONFIG.optimisation, teacher="commands")
    with pytest.raises(ConfigError, match="is for classifiers"):
        replace(CONFIG, model=ModelConfig(head=head), optimisation=options)
