"""The acoustic model: padding, cutting and starting again never change what it answers."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.training.network.acoustic import AcousticModel, ModelConfig
from asr.training.network.encoders import Dropout, Encoder, EncoderConfig
from asr.training.network.heads import HeadConfig, HeadConfigError
from features.augment import AugmentConfig

LABELS = 5
ENCODERS = {
    "whole": EncoderConfig(hidden=8, stem_channels=8),
    "whole, deep": EncoderConfig(hidden=6, stem_channels=8, layers=3, subsample=2),
    "latency-controlled": EncoderConfig(hidden=8, stem_channels=8, block=4, look_ahead=3),
    "look-ahead over blocks": EncoderConfig(hidden=8, stem_channels=8, block=2, look_ahead=5),
    "blocks alone": EncoderConfig(hidden=8, stem_channels=8, block=3, subsample=4),
    "lstm": EncoderConfig(kind="lstm", hidden=8, stem_channels=8, block=2),
    "rnn": EncoderConfig(kind="rnn", hidden=8, stem_channels=8, block=3),
    "gru": EncoderConfig(kind="gru", hidden=8, stem_channels=8, block=2, residual=True),
    "bigru": EncoderConfig(kind="bigru", hidden=8, stem_channels=8, layer_norm=True),
    "bigru in blocks": EncoderConfig(
        kind="bigru", hidden=8, stem_channels=8, block=3, look_ahead=2
    ),
    "peephole": EncoderConfig(kind="peephole", hidden=12, stem_channels=8, block=2, projection=9),
    "convlstm": EncoderConfig(kind="convlstm", hidden=16, stem_channels=8, block=2),
    "attention": EncoderConfig(kind="attention", hidden=6, stem_channels=8, heads=3),
    "attention in blocks": EncoderConfig(
        kind="attention",
        hidden=8,
        stem_channels=8,
        heads=2,
        block=4,
        look_ahead=2,
        layer_norm=True,
        residual=True,
        projection=8,
    ),
}
HEADS = {
    "ctc": HeadConfig(kind="ctc"),
    "attention": HeadConfig(kind="classify", labels=("a",), window=0.5),
    "mean": HeadConfig(kind="classify", labels=("a",), window=0.3, pooling="mean"),
}
STREAMING = {name: config for name, config in ENCODERS.items() if config.block}
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
DOUBLE_TOLERANCE: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-11}


def build(encoder: EncoderConfig, head: HeadConfig) -> AcousticModel:
    """A model with weights large enough that its input shows in its output."""
    torch.manual_seed(3)
    model = AcousticModel(ModelConfig(encoder=encoder, head=head), LABELS)
    model.mean.fill_(-20.0)
    model.scale.fill_(0.05)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(2.0)
    return model.eval()


def noise(samples: int, seed: int = 0) -> Tensor:
    """[samples] of noise whose level wanders."""
    rng = np.random.default_rng(seed)
    level = np.interp(np.arange(samples), np.linspace(0, samples, 9), rng.uniform(0.001, 0.3, 9))
    return torch.from_numpy((level * rng.standard_normal(samples)).astype(np.float32))


def every(names: dict[str, Any]) -> pytest.MarkDecorator:
    argument = "head" if names is HEADS else "encoder"
    return pytest.mark.parametrize(argument, names.values(), ids=names.keys())


# Padding


@every(ENCODERS)
@every(HEADS)
@given(
    lengths=st.lists(st.integers(1, 12_000), min_size=1, max_size=4),
    more=st.integers(0, 5_000),
)
@settings(max_examples=4, deadline=None)
@torch.no_grad()
def test_padding_never_changes_a_result(
    encoder: EncoderConfig, head: HeadConfig, lengths: list[int], more: int
) -> None:
    # In float64, since a sum over a padded row adds up in another order than one without.
    model = build(encoder, head).double()
    rows = [noise(n, seed).double() for seed, n in enumerate(lengths)]
    batch = torch.zeros(len(rows), max(lengths) + more, dtype=torch.float64)
    for padded, row in zip(batch, rows, strict=True):
        padded[: len(row)] = row
    together, counts = model(batch, torch.tensor(lengths))
    for k, row in enumerate(rows):
        alone, (count,) = model(row[None], torch.tensor([len(row)]))
        unpadded, _ = model(row[None], None)
        assert count == counts[k] == -(-len(row) // model.hop_length)
        if head.kind == "ctc":
            assert alone.shape == (1, count, LABELS)
            torch.testing.assert_close(together[k, :count], alone[0], **DOUBLE_TOLERANCE)
        else:
            assert together.shape == (len(rows), 1, LABELS)
            torch.testing.assert_close(together[k], alone[0], **DOUBLE_TOLERANCE)
        torch.testing.assert_close(unpadded, alone, **DOUBLE_TOLERANCE)


@every(ENCODERS)
@every(HEADS)
@torch.no_grad()
def test_results_are_log_probabilities_that_depend_on_the_sound(
    encoder: EncoderConfig, head: HeadConfig
) -> None:
    model = build(encoder, head)
    one, other = (model(sound[None], None)[0] for sound in (noise(9_000), noise(9_000).cumsum(0)))
    torch.testing.assert_close(one.exp().sum(dim=-1), torch.ones(one.shape[:2]))
    assert (one - other).abs().max() > 1e-2


@every(STREAMING)
@every(HEADS)
@torch.no_grad()
def test_several_blocks_in_one_step_are_the_steps_one_by_one(
    encoder: EncoderConfig, head: HeadConfig
) -> None:
    model = build(encoder, head)
    rows = torch.stack([noise(7 * model.block_length, seed) for seed in range(2)])
    first, state = model.step(rows[:, : 3 * model.block_length], model.initial_state(2, rows))
    rest, _ = model.step(rows[:, 3 * model.block_length :], state)
    found = torch.cat([first, rest], dim=1)
    expected = torch.cat(stream(model, rows), dim=1)[:, : found.shape[1]]
    torch.testing.assert_close(found, expected, **TOLERANCE)


@every(STREAMING)
@torch.no_grad()
def test_a_latency_that_is_set_is_one_that_was_configured(encoder: EncoderConfig) -> None:
    """The weights do not depend on the latency, only what is done with them does."""
    configured = build(encoder, HEADS["ctc"])
    other = dataclasses.replace(encoder, block=9, look_ahead=0, also=((2, 0), (5, 0)))
    changed = build(other, HEADS["ctc"])
    changed.encoder.latency = encoder.latency
    rows = torch.stack([noise(9_000), noise(9_000, seed=1)])
    torch.testing.assert_close(changed(rows, None)[0], configured(rows, None)[0], rtol=0, atol=0)
    assert changed.look_ahead == configured.look_ahead


def test_dropout_keeps_a_unit_or_drops_it_for_a_whole_utterance() -> None:
    torch.manual_seed(0)
    dropout = Dropout(0.25)
    dropped = dropout(torch.ones(50, 7, 40))
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    torch.testing.assert_close(dropped.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    frames = torch.randn(2, 3, 4)
    assert torch.equal(dropout.eval()(frames), frames)


# Against torch's own LSTM


def as_torch_lstm(encoder: Encoder) -> nn.LSTM:
    """The same weights in torch's stacked LSTM."""
    config = encoder.config
    lstm = nn.LSTM(
        encoder.widths[0],
        config.hidden,
        config.layers,
        batch_first=True,
        bidirectional=config.kind == "bilstm",
    )
    renamed = {}
    for name, weights in encoder.state_dict().items():
        _, layer, direction, parameter = name.split(".")
        reverse = "_reverse" if direction == "backwards" else ""
        renamed[parameter.replace("_l0", f"_l{layer}{reverse}")] = weights
    lstm.load_state_dict(renamed)
    return lstm


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5), layers=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_a_whole_bilstm_is_that_of_torch(lengths: list[int], layers: int) -> None:
    encoder = Encoder(7, EncoderConfig(hidden=5, layers=layers)).eval()
    frames = torch.randn(len(lengths), max(lengths), 7)
    counts = torch.tensor(lengths)
    packed = pack_padded_sequence(frames, counts, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(as_torch_lstm(encoder)(packed)[0], batch_first=True)
    found = encoder.whole(frames, counts)
    for k, count in enumerate(lengths):
        torch.testing.assert_close(found[k, :count], expected[k, :count], **TOLERANCE)


@given(count=st.integers(1, 12), block=st.integers(1, 5), layers=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_an_lstm_in_blocks_is_that_of_torch(count: int, block: int, layers: int) -> None:
    config = EncoderConfig(kind="lstm", hidden=5, layers=layers, block=block)
    encoder = Encoder(7, config).eval()
    frames = torch.randn(2, count * block, 7)
    found, _ = encoder.blocks(frames, encoder.initial_state(2, frames))
    torch.testing.assert_close(found, as_torch_lstm(encoder)(frames)[0], **TOLERANCE)


@torch.no_grad()
def test_one_block_without_look_ahead_is_the_whole() -> None:
    config = EncoderConfig(hidden=5, layers=2, block=11)
    encoder = Encoder(7, config).eval()
    frames = torch.randn(3, 11, 7)
    found, _ = encoder.blocks(frames, encoder.initial_state(3, frames))
    torch.testing.assert_close(found, encoder.whole(frames, None), **TOLERANCE)


@given(count=st.integers(1, 6), block=st.integers(1, 5), look_ahead=st.integers(0, 6))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_the_backward_direction_starts_look_ahead_frames_after_each_block(
    count: int, block: int, look_ahead: int
) -> None:
    config = EncoderConfig(hidden=5, layers=1, block=block, look_ahead=look_ahead)
    encoder = Encoder(7, config).eval()
    lstm = as_torch_lstm(encoder)
    frames = torch.randn(1, count * block, 7)
    delayed = torch.cat([torch.zeros(1, look_ahead, 7), frames], dim=1)
    found, _ = encoder.blocks(frames, encoder.initial_state(1, frames))
    for start in range(0, count * block, block):
        # Forwards from the very beginning, backwards over the block and its look-ahead alone.
        ahead = lstm(delayed[:, : start + block])[0][:, start:, :5]
        back = lstm(delayed[:, start : start + block + look_ahead])[0][:, :block, 5:]
        expected = torch.cat([ahead, back], dim=-1)
        torch.testing.assert_close(found[:, start : start + block], expected, **TOLERANCE)


# Streams


def stream(model: AcousticModel, rows: Tensor) -> list[Tensor]:
    """The outputs of step() over [batch, samples], zeros pushed until everything is out."""
    samples = rows.shape[1]
    count = -(-(samples + model.look_ahead) // model.block_length)
    padded = nn.functional.pad(rows, (0, count * model.block_length - samples))
    state, outputs = model.initial_state(len(rows), rows), []
    for pcm in padded.split(model.block_length, dim=1):
        log_probs, state = model.step(pcm, state)
        outputs.append(log_probs)
    return outputs


@every(STREAMING)
@every(HEADS)
@pytest.mark.parametrize("samples", [1, 479, 480, 9_600, 15_999])
@torch.no_grad()
def test_block_by_block_is_the_whole_at_once(
    encoder: EncoderConfig, head: HeadConfig, samples: int
) -> None:
    model = build(encoder, head)
    rows = torch.stack([noise(samples), 0.1 * noise(samples, seed=1)])
    expected, _ = model(rows, torch.tensor([samples, samples]))
    outputs = stream(model, rows)
    if head.kind == "classify":
        torch.testing.assert_close(outputs[-1], expected, **TOLERANCE)
        return
    delay = model.look_ahead // model.hop_length
    found = torch.cat(outputs, dim=1)[:, delay:]
    torch.testing.assert_close(found[:, : expected.shape[1]], expected, **TOLERANCE)


@every(STREAMING)
@pytest.mark.parametrize("head", [HEADS["attention"], HEADS["mean"]])
@torch.no_grad()
def test_the_window_that_is_least_what_is_wanted_is_found(
    encoder: EncoderConfig, head: HeadConfig
) -> None:
    model = build(encoder, head)
    lengths, wanted = [9_600, 20_000, 20_000, 14_321], [2, -1, 0, 3]
    rows = torch.stack([noise(20_000, seed) for seed in range(4)])
    for row, samples in zip(rows, lengths, strict=True):
        row[samples:] = 0.0
    found, _ = model(rows, torch.tensor(lengths), None, torch.tensor(wanted))
    assert found.shape == (4, 1, LABELS)
    for row, samples, label, answer in zip(rows, lengths, wanted, found, strict=True):
        answers = torch.cat(stream(model, row[None, :samples]), dim=1)[0]
        expected = answers[-1] if label < 0 else answers[answers[:, label].argmin()]
        torch.testing.assert_close(answer[0], expected, **TOLERANCE)


@every(STREAMING)
@every(HEADS)
@torch.no_grad()
def test_a_stream_that_starts_again_keeps_no_state(
    encoder: EncoderConfig, head: HeadConfig
) -> None:
    model = build(encoder, head)
    first = stream(model, noise(9_600)[None])
    stream(model, noise(5_000, seed=1)[None])
    again = stream(model, noise(9_600)[None])
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


@every(STREAMING)
@torch.no_grad()
def test_a_frame_depends_on_nothing_beyond_its_look_ahead(encoder: EncoderConfig) -> None:
    model = build(encoder, HEADS["ctc"])
    delay = model.encoder.look_ahead
    changed_from = 8 * model.block_length
    sound = noise(15 * model.block_length)
    other = torch.cat([sound[:changed_from], noise(len(sound) - changed_from, seed=1)])
    difference = (model(sound[None], None)[0] - model(other[None], None)[0])[0].abs().amax(dim=-1)
    frames = torch.arange(len(difference))
    scored_until = -(-(frames + delay + 1) // encoder.block) * model.block_length
    assert difference[scored_until <= changed_from].max() == 0.0
    assert difference[scored_until > changed_from].max() > 1e-3


@torch.no_grad()
def test_lengths_of_a_stream_are_those_of_its_config() -> None:
    encoder = EncoderConfig(block=6, look_ahead=4, layers=3, subsample=3, hidden=8)
    model = build(encoder, HEADS["ctc"])
    assert model.hop_length == 3 * 160
    assert model.block_length == 6 * 3 * 160
    assert model.look_ahead == 3 * 4 * 3 * 160
    # Two convolutions of five frames each, the last frame 400 samples long, less the hop itself.
    assert model.context == 8 * 160 + 400 - 3 * 160


def test_a_window_is_no_shorter_than_a_block() -> None:
    head = dataclasses.replace(HEADS["mean"], window=0.1)
    with pytest.raises(HeadConfigError, match=r"head\.window 0\.1 s .* block of 0\.12 s"):
        ModelConfig(encoder=STREAMING["latency-controlled"], head=head)
    ModelConfig(encoder=STREAMING["latency-controlled"], head=HEADS["ctc"])


# Training


@every(ENCODERS)
@every(HEADS)
def test_every_weight_learns(encoder: EncoderConfig, head: HeadConfig) -> None:
    model = build(encoder, head).train()
    rows = torch.stack([noise(12_000, seed) for seed in range(3)])
    log_probs, _ = model(rows, torch.tensor([12_000, 9_000, 4_000]), AugmentConfig())
    log_probs[..., 0].sum().backward()
    for name, weights in model.named_parameters():
        assert weights.grad is not None, name
        # The bias of the attention adds the same to all frames, which a softmax does not see.
        if name != "head.attention.2.bias":
            assert weights.grad.abs().max() > 0.0, name


def test_training_masks_features_and_drops_units_by_the_seed() -> None:
    model = build(ENCODERS["latency-controlled"], HEADS["ctc"]).train()
    rows, lengths = noise(12_000)[None], torch.tensor([12_000])

    def run(seed: int, augment: AugmentConfig | None) -> Tensor:
        torch.manual_seed(seed)
        return model(rows, lengths, augment)[0]

    masks = AugmentConfig(time_masks=2, time_mask_frames=30)
    assert torch.equal(run(1, masks), run(1, masks))
    assert not torch.equal(run(1, masks), run(2, masks))
    assert not torch.equal(run(1, masks), run(1, None))
    model.eval()
    assert torch.equal(run(1, None), run(2, None))
