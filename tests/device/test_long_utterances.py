"""Whole-utterance models on long audio: cut at pauses, joined again, no word lost or doubled."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import asr
from asr.model import Model
from asr.recognise import transcribe
from asr.runtime.scorers import WHOLE_SECONDS, WholeScorer, scorer_for
from asr.runtime.seam import UNSURE, find_seam
from features.activity import quietest
from tests.support import tiny_models
from tests.support.tiny_models import HOP, SAMPLE_RATE, tones

FRAMES = 200
BLANK = 0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return asr.load(tiny_models.whole_ctc(tmp_path_factory.mktemp("models") / "whole.onnx"))


@pytest.fixture(scope="module")
def blurred(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model whose scores depend on 0.2 s to both sides, so that its runs differ at their ends."""
    path = tiny_models.whole_ctc(tmp_path_factory.mktemp("models") / "blurred.onnx")
    proto = onnx.load(path)
    last = proto.graph.node.pop()
    nodes = [
        helper.make_node("Transpose", list(last.input), ["by_label"], perm=[0, 2, 1]),
        helper.make_node(
            "AveragePool",
            ["by_label"],
            ["smooth"],
            kernel_shape=[41],
            pads=[20, 20],
            count_include_pad=1,
        ),
        helper.make_node("Transpose", ["smooth"], ["again"], perm=[0, 2, 1]),
        helper.make_node("LogSoftmax", ["again"], list(last.output), axis=-1),
    ]
    proto.graph.node.extend(nodes)
    onnx.save(proto, path)
    return asr.load(path)


def talk(seconds: float, low: float, high: float, between: float = 0.1) -> np.ndarray:
    """Words of one to four letters, pauses from `low` to `high` seconds after them."""
    rng = np.random.default_rng(0)
    pieces: list[np.ndarray] = []
    while sum(map(len, pieces)) < seconds * SAMPLE_RATE:
        word = rng.choice(["a", "b", "c"], size=rng.integers(1, 5))
        pieces += [tones(*word, " ", seconds=0.21, pause=between)]
        pieces.append(np.zeros(round(rng.uniform(low, high) * SAMPLE_RATE)))
    audio = np.concatenate(pieces)
    return (audio + 1e-4 * rng.standard_normal(len(audio))).astype(np.float32)


def best(log_probs: np.ndarray) -> list[int]:
    """The labels of the best path, repeats and blanks removed."""
    path = log_probs.argmax(axis=1)
    return [int(label) for label in path[np.diff(path, prepend=-1) != 0] if label != BLANK]


def at_once(model: Model, audio: np.ndarray) -> np.ndarray:
    return model.step(audio[None], {})[0][0]


@pytest.mark.parametrize("pause", [0.4, 0.05, 0.0], ids=["pauses", "hardly any", "none"])
def test_no_word_is_lost_or_doubled_at_a_seam(model: Model, blurred: Model, pause: float) -> None:
    audio = talk(200.0, pause, 2 * pause, between=0.2 * pause)
    np.testing.assert_array_equal(model.log_probs(audio), at_once(model, audio))
    cut, whole = blurred.log_probs(audio), at_once(blurred, audio)
    assert cut.shape == whole.shape
    assert best(cut) == best(whole)
    assert len(best(cut)) > 300


def test_words_keep_their_times_beyond_a_cut(model: Model) -> None:
    audio = talk(150.0, 0.3, 2.0)
    words = [word for utterance in transcribe(model, audio).segments for word in utterance.words]
    assert len(words) > 50
    for word in words:
        inside = audio[round(word.start * SAMPLE_RATE) : round(word.end * SAMPLE_RATE)]
        edges = np.abs([inside[:HOP], inside[-HOP:]]).max(axis=1)
        assert (edges > 0.2).all()


@pytest.mark.parametrize("extra", [-1, 0, 1, HOP, 16_000])
def test_audio_around_the_limit(model: Model, extra: int) -> None:
    audio = np.resize(talk(10.0, 0.3, 0.3), round(WHOLE_SECONDS * SAMPLE_RATE) + extra)
    np.testing.assert_array_equal(model.log_probs(audio), at_once(model, audio))


def test_any_cutting_of_long_audio_gives_the_same_scores(blurred: Model) -> None:
    audio = talk(130.0, 0.1, 0.5)
    whole = blurred.log_probs(audio)
    for step in (4999, 7 * SAMPLE_RATE):
        scores = scorer_for(blurred)
        pieces = np.split(audio, range(step, len(audio), step))
        runs = [run for piece in pieces for run in scores.push(piece)] + [*scores.finish()]
        np.testing.assert_array_equal(np.concatenate([run.log_probs for run in runs]), whole)


def test_no_run_is_longer_than_the_limit(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    step = model.step

    def watched(pcm: np.ndarray, state: dict[str, np.ndarray]) -> object:
        lengths.append(pcm.shape[1])
        return step(pcm, state)

    monkeypatch.setattr(model, "step", watched)
    scores = WholeScorer(model)
    for _ in range(30):
        list(scores.push(np.zeros(10 * SAMPLE_RATE, np.float32)))
    list(scores.finish())
    assert max(lengths) <= WHOLE_SECONDS * SAMPLE_RATE
    assert len(lengths) <= 11  # and none is much shorter than half of it


@given(data=st.data())
def test_a_seam_keeps_every_label_once(data: st.DataObject) -> None:
    """Two runs that see a label's peak a frame apart and score nonsense where their audio ends."""
    edge = int(UNSURE * FRAMES)
    gaps = data.draw(st.lists(st.integers(6, 40), max_size=25), label="gaps")
    peaks = [edge + p for p in np.cumsum(gaps).tolist() if p < FRAMES - 2 * edge - 1]
    labels = [data.draw(st.integers(1, 4), label="label") for _ in peaks]
    runs = []
    for unsure in (slice(-edge, None), slice(edge)):
        path = np.full(FRAMES, BLANK)
        for peak, label in zip(peaks, labels, strict=True):
            path[peak + data.draw(st.integers(-1, 1), label="shift")] = label
        path[unsure] = data.draw(st.integers(1, 4), label="nonsense")
        runs.append(np.log(np.eye(5)[path] * 0.9 + 0.02))
    left, right = runs
    seam = find_seam(left, right, BLANK)
    assert best(np.concatenate([left[:seam], right[seam:]])) == labels


def test_runs_without_blanks_are_joined_where_they_agree() -> None:
    path = np.r_[np.full(60, 1), np.full(80, 2), np.full(60, 3)]
    left, right = np.log(np.eye(4)[path] + 0.01), np.log(np.eye(4)[path] + 0.01)
    right[:90] = np.log(np.eye(4)[1] + 0.01)
    seam = find_seam(left, right, BLANK)
    assert best(np.concatenate([left[:seam], right[seam:]])) == [1, 2, 3]
    assert find_seam(np.log(np.eye(4)[path] + 0.01), np.roll(left, 1, axis=1), BLANK) == 100


def test_the_quietest_place_is_the_pause_whatever_the_offset_and_hum() -> None:
    rng = np.random.default_rng(1)
    time = np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE
    speech = 0.3 * np.sin(2 * np.pi * 700 * time) + 0.01 * rng.standard_normal(len(time))
    speech[round(6.0 * SAMPLE_RATE) : round(6.8 * SAMPLE_RATE)] *= 0.02
    # Loud hum that is weakest elsewhere, and an offset that is gone elsewhere.
    hum = np.where(time < 2.0, 0.0, 0.3 + 0.4 * np.sin(2 * np.pi * 50 * time))
    place = quietest((speech + hum).astype(np.float32), SAMPLE_RATE) / SAMPLE_RATE
    assert 6.2 < place < 6.6


@pytest.mark.parametrize("samples", [1, 2, 100, 7999, 8000, 8001])
def test_a_quietest_place_of_little_audio(samples: int) -> None:
    assert 0 <= quietest(np.zeros(samples, np.float32), SAMPLE_RATE) <= samples
