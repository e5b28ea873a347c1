"""Streaming equals scoring all at once, for models as they come out of training and export."""

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import asr
from asr.events import Detection, Event, Utterance, Word
from asr.model import Model
from asr.runtime.scorers import scorer_for
from asr.stream import Stream
from export.quantise import quantise
from features.audio import read_audio
from tests.support import tiny_models
from tests.support.commands import ROOT
from tests.support.tiny_runs import SAMPLE_RATE

TOLERANCE = 1e-4
PRIMES = (2, 17, 101, 479, 1_439, 7_919)
SAMPLES = 40_000
LEAD = 0.5  # of the best label's probability, more than int8 costs scores that are so far spread
BUNDLED_LEAD = 0.1  # the same for trained weights
BUNDLED_SHORTEST = 101  # samples that are pushed: to push fewer is no different to a larger model
KINDS = [("latency-controlled", "ctc"), ("lstm", "classify")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def model(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    exported_run: Callable[[str, str], Path],
) -> Model:
    """A streaming model in fp32, its weights random."""
    encoder, head = request.param
    path = tmp_path_factory.mktemp("proof") / "model.onnx"
    return decided(asr.load(shutil.copy(exported_run(encoder, head) / "new" / "tiny.onnx", path)))


@pytest.fixture(scope="module")
def int8(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The same model with int8 weights."""
    proto = quantise(onnx.load(model.path))
    assert "DynamicQuantizeLSTM" in {node.op_type for node in proto.graph.node}
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    return asr.load(tiny_models.save_changed(proto, path))


def decided(model: Model) -> Model:
    """Spread the scores of random weights, which favour one label, so that all of them win."""
    log_probs = offline(model, sound(SAMPLES))
    spread = 3.0 / log_probs.std(axis=0).mean()
    proto = onnx.load(model.path)
    (last,) = (node for node in proto.graph.node if node.op_type == "LogSoftmax")
    proto.graph.initializer.append(numpy_helper.from_array(spread, "spread"))
    proto.graph.initializer.append(numpy_helper.from_array(-spread * log_probs.mean(0), "shift"))
    place = list(proto.graph.node).index(last)
    proto.graph.node.insert(place, helper.make_node("Mul", [last.input[0], "spread"], ["wide"]))
    proto.graph.node.insert(place + 1, helper.make_node("Add", ["wide", "shift"], ["fair"]))
    last.input[0] = "fair"
    model = asr.load(tiny_models.save_changed(proto, model.path))
    assert events_of(Stream(model), [sound(SAMPLES)])
    return model


def sound(samples: int) -> np.ndarray:
    """Hums, hisses and pauses of all levels in turn, float32 (samples,)."""
    rng = np.random.default_rng(3)
    time = np.arange(samples) / SAMPLE_RATE
    level = np.repeat(rng.choice([0.0, 0.003, 0.1, 1.0], samples // 1_999 + 1), 1_999)[:samples]
    tone = np.sin(2 * np.pi * np.cumsum(400 + 300 * np.sin(2 * np.pi * time)) / SAMPLE_RATE)
    return (level * (0.4 * tone + 0.1 * rng.standard_normal(samples))).astype(np.float32)


def offline(model: Model, audio: np.ndarray) -> np.ndarray:
    """Score the audio in a single step; after its end there is silence."""
    card = model.card
    assert card.block_length
    blocks = math.ceil((len(audio) + card.look_ahead) / card.block_length)
    padded = np.zeros((1, blocks * card.block_length), np.float32)
    padded[0, : len(audio)] = audio
    (log_probs,), _ = model.step(padded, model.initial_state())
    if card.task == "classify":
        return log_probs
    first = card.look_ahead // card.hop_length  # before it, frames of the silence before the audio
    return log_probs[first : first + math.ceil(len(audio) / card.hop_length)]


def scores_of(model: Model, pieces: list[np.ndarray]) -> np.ndarray:
    """The scores of the labels and, of a model that reads them, of the phonemes beside them."""
    scores = scorer_for(model)
    runs = [run for piece in pieces for run in scores.push(piece)] + list(scores.finish())
    rows = [[run.log_probs, *([] if run.phonemes is None else [run.phonemes])] for run in runs]
    return np.concatenate([np.hstack(row) for row in rows])


def events_of(stream: Stream, pieces: list[np.ndarray]) -> list[Event]:
    """What is final; a Partial says how far a push came, and so depends on the cutting."""
    events = [event for piece in pieces for event in stream.push(piece)] + stream.finish()
    return [event for event in events if isinstance(event, Detection | Utterance)]


@settings(max_examples=20)
@given(data=st.data())
def test_any_cut_of_any_length_gives_the_offline_scores_and_events(
    model: Model, data: st.DataObject
) -> None:
    audio = sound(SAMPLES)[: draw_samples(data)]
    check(model, audio, draw_cuts(data, len(audio)))


def draw_samples(data: st.DataObject) -> int:
    return data.draw(st.one_of(st.just(SAMPLES), st.integers(1, SAMPLES)), label="samples")


def draw_cuts(data: st.DataObject, samples: int, shortest: int = 1) -> list[int]:
    steps = [step for step in (*PRIMES, samples) if step >= shortest]
    step = data.draw(st.sampled_from(steps), label="step")
    anywhere = data.draw(st.lists(st.integers(0, samples), max_size=8), label="cuts")
    return [*range(step, samples, step), *anywhere]


def test_one_sample_at_a_time(model: Model) -> None:
    check(model, sound(10_001), range(1, 10_001))


def check(model: Model, audio: np.ndarray, cuts: Iterable[int]) -> None:
    pieces = np.split(audio, sorted(cuts))
    expected, found = offline(model, audio), scores_of(model, pieces)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    streamed, whole = (events_of(Stream(model), p) for p in (pieces, [audio]))
    assert [what(event) for event in streamed] == [what(event) for event in whole]


@settings(max_examples=20)
@given(data=st.data())
def test_int8_weights_decide_alike_however_the_audio_is_cut(
    int8: Model, data: st.DataObject
) -> None:
    audio = sound(SAMPLES)[: draw_samples(data)]
    expected = offline(int8, audio)
    found = scores_of(int8, np.split(audio, sorted(draw_cuts(data, len(audio)))))
    assert found.shape == expected.shape
    clear = leads(expected) > LEAD
    np.testing.assert_array_equal(found[clear].argmax(1), expected[clear].argmax(1))


def leads(log_probs: np.ndarray) -> np.ndarray:
    """How much more probable than any other the best label of each frame is."""
    ordered = np.sort(np.exp(log_probs), axis=1)
    return ordered[:, -1] - ordered[:, -2]


@pytest.fixture(scope="module")
def bundled_int8(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The bundled recogniser with int8 weights."""
    path = tmp_path_factory.mktemp("int8") / "english.onnx"
    proto = quantise(onnx.load(asr.load("english").path))
    return asr.load(tiny_models.save_changed(proto, path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits.ogg", "enter-seven.mp3"])
@settings(max_examples=4)
@given(data=st.data())
def test_the_bundled_model_says_the_same_however_the_audio_is_cut(
    name: str, data: st.DataObject
) -> None:
    model = asr.load("english")
    audio = read_audio(ROOT / "samples" / name, SAMPLE_RATE)
    pieces = np.split(audio, sorted(draw_cuts(data, len(audio), BUNDLED_SHORTEST)))
    np.testing.assert_allclose(
        scores_of(model, pieces), offline(model, audio), rtol=0, atol=TOLERANCE
    )
    streamed, whole = (events_of(Stream(model), p) for p in (pieces, [audio]))
    assert list(map(what, streamed)) == list(map(what, whole)) != []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits.ogg", "enter-seven.mp3"])
@settings(max_examples=4)
@given(data=st.data())
def test_with_int8_weights_it_says_the_same_words(
    bundled_int8: Model, name: str, data: st.DataObject
) -> None:
    model = bundled_int8
    audio = read_audio(ROOT / "samples" / name, SAMPLE_RATE)
    pieces = np.split(audio, sorted(draw_cuts(data, len(audio), BUNDLED_SHORTEST)))
    scores, outputs = (offline(model, audio), scores_of(model, pieces)), [len(model.card.labels)]
    for expected, found in zip(*(np.split(rows, outputs, axis=1) for rows in scores), strict=True):
        clear = leads(expected) > BUNDLED_LEAD
        assert clear.mean() > 0.95
        np.testing.assert_array_equal(found[clear].argmax(1), expected[clear].argmax(1))
    streamed, whole = (words_of(events_of(Stream(model), p)) for p in (pieces, [audio]))
    assert [word.text for word in streamed] == [word.text for word in whole] != []
    frame = model.card.hop_length / SAMPLE_RATE  # what is nearly even may go either way
    for one, other in zip(streamed, whole, strict=True):
        assert one.start == pytest.approx(other.start, abs=1.01 * frame)
        assert one.end == pytest.approx(other.end, abs=1.01 * frame)


def words_of(events: list[Event]) -> list[Word]:
    return [word for event in events if isinstance(event, Utterance) for word in event.words]


def what(event: Event) -> tuple[object, ...]:
    """All that an event says, scores apart."""
    if isinstance(event, Detection):
        return event.label, event.time
    assert isinstance(event, Utterance)
    return tuple(dataclasses.replace(word, confidence=1.0) for word in event.words)


def test_a_stream_that_was_reset_is_a_fresh_one_to_the_bit(model: Model, int8: Model) -> None:
    audio = sound(SAMPLES)
    pieces = np.split(audio, range(1_439, len(audio), 1_439))
    for candidate in (model, int8):
        used = Stream(candidate)
        used.push(audio[::-1].copy())
        for finished in (False, True):
            if finished:
                used.finish()
            used.reset()
            fresh = Stream(candidate)
            for piece in pieces:
                assert used.push(piece) == fresh.push(piece)
                np.testing.assert_array_equal(used.posteriors, fresh.posteriors)
        assert used.finish() == fresh.finish()
