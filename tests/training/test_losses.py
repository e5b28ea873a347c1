"""The loss of a batch, and what the network computes in."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from asr.training import losses
from asr.training.config import Config, ConfigError, DataConfig, OptimisationConfig
from asr.training.data.batches import Batch
from asr.training.guides import Guides
from asr.training.losses import batch_loss, in_bf16, precision
from asr.training.mmi import Phonotactics
from asr.training.network.acoustic import AcousticModel, ModelConfig
from asr.training.network.encoders import EncoderConfig
from asr.training.network.heads import HeadConfig
from features.augment import AugmentConfig

CPU = torch.device("cpu")


@pytest.fixture(params=[False, True], ids=["without", "with"])
def able(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether the processor computes in bf16, as torch says of it."""
    has = {"avx2": True, "avx512_bf16": request.param, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    losses._computes_bf16.cache_clear()
    yield request.param
    losses._computes_bf16.cache_clear()


def test_by_default_the_processor_decides(able: bool) -> None:
    assert in_bf16(OptimisationConfig(), CPU) == able
    assert not in_bf16(OptimisationConfig(precision="fp32"), CPU)


def test_bf16_that_is_asked_for_is_had_or_refused(able: bool) -> None:
    options = OptimisationConfig(precision="bf16")
    if not able:
        with pytest.raises(ConfigError, match="leave it at auto, which takes fp32"):
            precision(options, CPU)
        return
    with precision(options, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


CONFIG = Config(
    name="t",
    model=ModelConfig(
        head=HeadConfig(kind="ctc", dropout=0.0),
        encoder=EncoderConfig(kind="bilstm", hidden=8, layers=1, subsample=2, dropout=0.0),
    ),
    data=DataConfig(sources=()),
)
MASKS = AugmentConfig(time_masks=3, time_mask_frames=30)


def utterances() -> Batch:
    """Two of noise, of 0.6 and 0.4 s, with texts of three labels and of one."""
    torch.manual_seed(3)
    inputs = torch.randn(2, 9600) * 0.1
    inputs[1, 6400:] = 0.0
    return Batch(
        inputs=inputs,
        input_lengths=torch.tensor([9600, 6400]),
        targets=torch.tensor([1, 2, 1, 2]),
        target_lengths=torch.tensor([3, 1]),
        sounds=torch.tensor([2, 3, 4]),
        sound_lengths=torch.tensor([3, 0]),
        search=torch.zeros(2, dtype=torch.bool),
        weight=4,
    )


def loss(consistency: float, augment: AugmentConfig | None) -> float:
    torch.manual_seed(5)
    model = AcousticModel(CONFIG.model, labels=3)
    options = replace(CONFIG.optimisation, consistency=consistency, precision="fp32")
    torch.manual_seed(7)
    return batch_loss(model, utterances(), replace(CONFIG, optimisation=options), augment).item()


def test_two_views_that_nothing_tells_apart_are_as_good_as_one() -> None:
    plain = replace(MASKS, time_masks=0, coefficient_masks=0)
    assert loss(0.5, plain) == pytest.approx(loss(0.0, plain), rel=1e-5)


def test_views_that_are_masked_apart_cost_their_difference() -> None:
    costs = [loss(weight, MASKS) for weight in (0.001, 1.001, 2.001)]
    assert costs[0] < costs[1]
    assert costs[2] - costs[1] == pytest.approx(costs[1] - costs[0], rel=1e-3)


def test_validation_looks_once() -> None:
    assert loss(5.0, None) == loss(0.0, None)


READS_SOUNDS = replace(
    CONFIG, model=replace(CONFIG.model, head=replace(CONFIG.model.head, phonemes=True))
)


def test_mutual_information_falls_by_training_and_never_below_nothing() -> None:
    model = AcousticModel(READS_SOUNDS.model, labels=3)
    phonotactics = Phonotactics.of([((2, 3, 4), 1.0)])
    options = replace(CONFIG.optimisation, precision="fp32")
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)

    def over_ctc() -> Tensor:
        """How far the loss is above that of CTC, by all of `optimisation.mmi`."""
        config = replace(READS_SOUNDS, optimisation=replace(options, mmi=1.0))
        return batch_loss(model, utterances(), config, None, Guides(phonotactics))

    ctc = batch_loss(model, utterances(), READS_SOUNDS).item()
    first = over_ctc().item()
    assert first != pytest.approx(ctc, rel=1e-3)
    for _ in range(40):
        optimiser.zero_grad()
        over_ctc().backward()
        optimiser.step()
    assert 0.0 <= over_ctc().item() < 0.25 * first


def test_a_batch_without_phonemes_has_nothing_to_set_against_others() -> None:
    model = AcousticModel(READS_SOUNDS.model, labels=3)
    batch = replace(
        utterances(),
        sounds=torch.zeros(0, dtype=torch.long),
        sound_lengths=torch.tensor([0, 0]),
    )
    config = replace(READS_SOUNDS, optimisation=replace(CONFIG.optimisation, mmi=1.0))
    with_others = batch_loss(model, batch, config, None, Guides(Phonotactics.of([((2, 3), 1.0)])))
    assert with_others.item() == batch_loss(model, batch, config).item()


def test_mutual_information_needs_phonemes() -> None:
    with pytest.raises(ConfigError, match=r"needs head\.phonemes"):
        replace(CONFIG, optimisation=replace(CONFIG.optimisation, mmi=0.9))


WORDS = replace(
    CONFIG,
    model=replace(CONFIG.model, head=HeadConfig(kind="classify", labels=("a", "b"), dropout=0.0)),
)


def clips(search: bool) -> Batch:
    return replace(
        utterances(),
        targets=torch.tensor([0, 1]),
        target_lengths=torch.tensor([1, 1]),
        search=torch.full((2,), search),
        weight=2,
    )


def taught_loss(model: AcousticModel, teacher: AcousticModel, batch: Batch, share: float) -> Tensor:
    options = replace(CONFIG.optimisation, taught=share, precision="fp32")
    config = replace(WORDS, optimisation=options)
    return batch_loss(model, batch, config, None, Guides(teacher=teacher))


def test_a_student_that_answers_as_its_teacher_has_nothing_to_learn_of_it() -> None:
    torch.manual_seed(11)
    model = AcousticModel(WORDS.model, labels=2)
    assert taught_loss(model, model, clips(search=False), 1.0).item() == pytest.approx(
        0.0, abs=1e-6
    )


def test_a_student_comes_to_answer_as_its_teacher_whatever_the_labels() -> None:
    torch.manual_seed(11)
    model, teacher = (AcousticModel(WORDS.model, labels=2) for _ in range(2))
    with torch.no_grad():
        teacher.head.output.bias.copy_(torch.tensor([-1.0, 2.0]))  # "b", of both clips
    teacher.requires_grad_(False)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        taught_loss(model, teacher, clips(search=False), 1.0).backward()
        optimiser.step()
    batch = clips(search=False)
    student, master = (m(batch.inputs, batch.input_lengths)[0].exp() for m in (model, teacher))
    assert torch.allclose(student, master, atol=0.05)


def test_the_labels_keep_their_share_of_the_loss() -> None:
    torch.manual_seed(11)
    model, teacher = (AcousticModel(WORDS.model, labels=2) for _ in range(2))
    none, half, all_ = (
        taught_loss(model, teacher, clips(search=False), share).item() for share in (0.0, 0.5, 1.0)
    )
    exact = replace(WORDS, optimisation=replace(CONFIG.optimisation, precision="fp32"))
    assert none == pytest.approx(batch_loss(model, clips(search=False), exact).item())
    assert half == pytest.approx((none + all_) / 2.0)


def test_a_window_that_the_student_chose_is_not_the_teachers() -> None:
    torch.manual_seed(11)
    streaming = replace(WORDS.model.encoder, block=3)
    model, teacher = (
        AcousticModel(replace(WORDS.model, encoder=streaming, head=head), labels=2)
        for head in [replace(WORDS.model.head, window=0.2)] * 2
    )
    batch = clips(search=True)
    losses = [taught_loss(model, teacher, batch, share).item() for share in (0.0, 1.0)]
    assert losses[0] == pytest.approx(losses[1])
