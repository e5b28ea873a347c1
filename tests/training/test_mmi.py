"""The sum over all texts agrees with one that spells them out, and so do its derivatives."""

import itertools

import pytest
import torch
from torch import Tensor

from asr.phonemes import SOUNDS
from asr.training.mmi import SIDE, Phonotactics

FEW = 3  # the blank and two phonemes, whose texts can all be spelled out


@pytest.fixture(scope="module")
def model() -> Phonotactics:
    return Phonotactics.of([((1, 2, 1), 1.0), ((2, 2), 0.5), ((1,), 2.0)])


@pytest.fixture
def few(model: Phonotactics) -> Phonotactics:
    return Phonotactics(model.trigrams[:FEW, :FEW, :FEW])


def spelled_out(model: Phonotactics, log_probs: Tensor) -> Tensor:
    """Log of the sum over every path of every text."""
    total = torch.zeros(())
    for path in itertools.product(range(FEW), repeat=len(log_probs)):
        text = torch.tensor([k for k, _ in itertools.groupby(path) if k], dtype=torch.long)
        score = sum(log_probs[time, label] for time, label in enumerate(path))
        total = total + (score + model.log_probs([text])[0]).exp()
    return total.log()


def scores(*shape: int) -> Tensor:
    torch.manual_seed(1)
    return (2.0 * torch.randn(*shape)).log_softmax(-1).requires_grad_()


def test_every_history_has_something_after_it_with_certainty(model: Phonotactics) -> None:
    assert model.trigrams.shape == (len(SOUNDS),) * 3
    assert (model.trigrams > 0).all()
    assert torch.allclose(model.trigrams.sum(-1), torch.ones(()), atol=1e-5)


def test_what_was_seen_often_is_likely(model: Phonotactics) -> None:
    first = model.trigrams[SIDE, SIDE]
    assert first.argmax() == 1
    assert model.trigrams[SIDE, 1].argmax() == SIDE  # "1" alone weighs twice as much as "1 2 1"
    assert first[1] > first[2] > first[3]


def test_sum_is_that_over_all_texts(few: Phonotactics) -> None:
    log_probs, lengths = scores(3, 5, FEW), torch.tensor([5, 3, 1])
    expected = torch.stack(
        [spelled_out(few, row[:n]) for row, n in zip(log_probs, lengths, strict=True)]
    )
    assert torch.allclose(few.log_partition(log_probs, lengths), expected, atol=1e-5)


def test_derivatives_are_those_of_the_sum_spelled_out(few: Phonotactics) -> None:
    log_probs, lengths = scores(2, 5, FEW), torch.tensor([5, 4])
    weights = torch.tensor([1.0, 3.0])
    ours = (few.log_partition(log_probs, lengths) * weights).sum()
    plain = torch.stack([spelled_out(few, log_probs[0]), spelled_out(few, log_probs[1, :4])])
    expected = (plain * weights).sum()
    first, second = (torch.autograd.grad(x, log_probs)[0] for x in (ours, expected))
    assert torch.allclose(first, second, atol=1e-5)


def test_frames_after_the_end_change_nothing(model: Phonotactics) -> None:
    log_probs = scores(1, 40, len(SOUNDS))
    longer = torch.cat([log_probs, scores(1, 9, len(SOUNDS))], dim=1)
    alone, padded = (model.log_partition(x, torch.tensor([40])).item() for x in (log_probs, longer))
    assert padded == pytest.approx(alone, rel=1e-6)


def test_long_recordings_of_sure_labels_stay_finite(model: Phonotactics) -> None:
    log_probs = (60.0 * scores(1, 2000, len(SOUNDS))).log_softmax(-1)
    total = model.log_partition(log_probs, torch.tensor([2000]))
    (gradient,) = torch.autograd.grad(total, log_probs)
    assert torch.isfinite(total).all()
    assert torch.allclose(gradient.sum(-1), torch.ones(()), atol=1e-4)
