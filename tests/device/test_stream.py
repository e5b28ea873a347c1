"""Streams: however the audio is cut, the same scores and the same events come out."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr.events import Detection, Event, Utterance
from asr.model import Model, ModelError
from asr.recognise import spot, transcribe
from asr.runtime import scorers
from asr.runtime.samples import StreamError
from asr.runtime.scorers import ROWS, scorer_for
from asr.stream import Stream, live_stream, push_together
from tests.support import tiny_models
from tests.support.tiny_models import BLOCK, HOP, SAMPLE_RATE, tones

KINDS = ("streaming_ctc", "streaming_classify", "whole_ctc", "whole_classify")
PAUSE = np.zeros(SAMPLE_RATE, np.float32)
SPEECH = {
    "ctc": np.concatenate([tones("a", "b", " ", "c", seconds=0.07), PAUSE, tones("b", "a")]),
    "classify": tones("low", "_unknown_", "high", seconds=0.35, pause=0.45),
}


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    return asr.load(getattr(tiny_models, request.param)(path))


def push_all(model: Model, pieces: list[np.ndarray]) -> list[Event]:
    stream = Stream(model)
    return [event for piece in pieces for event in stream.push(piece)] + stream.finish()


def score_all(model: Model, pieces: list[np.ndarray]) -> np.ndarray:
    scores = scorer_for(model)
    runs = [run for piece in pieces for run in scores.push(piece)] + list(scores.finish())
    return np.concatenate([run.log_probs for run in runs])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_cutting_gives_the_same_scores_and_events(model: Model, data: st.DataObject) -> None:
    samples = data.draw(st.integers(1, len(SPEECH[model.card.task])), label="samples")
    audio = SPEECH[model.card.task][:samples]
    step = data.draw(st.sampled_from([97, HOP, 333, BLOCK, 5000]), label="step")
    regular = list(range(step, samples, step))
    extra = data.draw(st.lists(st.integers(0, samples), max_size=6), label="cuts")
    pieces = np.split(audio, sorted(regular + extra))
    np.testing.assert_array_equal(score_all(model, pieces), model.log_probs(audio))
    assert push_all(model, pieces) == push_all(model, [audio]) == Stream(model).finish(audio)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_streams_pushed_together_give_what_each_gives_alone(
    model: Model, data: st.DataObject
) -> None:
    audio = SPEECH[model.card.task]
    steps = data.draw(
        st.lists(st.sampled_from([97, HOP, 333, BLOCK, 5000]), min_size=2, max_size=5)
    )
    pieces = [
        np.split(np.roll(audio, 1000 * n), range(step, len(audio), step))
        for n, step in enumerate(steps)
    ]
    alone = [push_all(model, own) for own in pieces]
    streams = [Stream(model) for _ in steps]
    together: list[list[Event]] = [[] for _ in steps]
    for turn in range(max(map(len, pieces))):
        rows = [n for n, own in enumerate(pieces) if turn < len(own)]
        events = push_together([streams[n] for n in rows], [pieces[n][turn] for n in rows])
        for n, own in zip(rows, events, strict=True):
            together[n] += own
    assert [own + stream.finish() for own, stream in zip(together, streams, strict=True)] == alone


@pytest.mark.parametrize("name", asr.bundled_models())
def test_a_batch_of_streams_gives_the_scores_of_single_ones_to_the_bit(name: str) -> None:
    model = asr.load(name)
    length = 3 * (model.card.block_length or 0)
    noise = np.random.default_rng(0).normal(0.0, 0.05, (ROWS + 1, length)).astype(np.float32)
    rows = [scorer_for(model) for _ in noise]
    together = scorers.push_together(rows, list(noise))
    for runs, sound in zip(together, noise, strict=True):
        np.testing.assert_array_equal(
            [run.log_probs for run in runs],
            [run.log_probs for run in scorer_for(model).push(sound)],
        )


def test_a_refused_block_leaves_all_streams_as_they_were(keyword_model: Path) -> None:
    model = asr.load(keyword_model)
    good, bad = Stream(model), Stream(model)
    audio = SPEECH["classify"]
    with pytest.raises(StreamError):
        push_together([good, bad], [audio, np.full(10, np.nan, np.float32)])
    assert good.finish(audio) == bad.finish(audio) == Stream(model).finish(audio)


def test_one_sample_at_a_time(model: Model) -> None:
    audio = SPEECH[model.card.task][: 2 * BLOCK + 7]
    pieces = np.split(audio, len(audio))
    np.testing.assert_array_equal(score_all(model, pieces), model.log_probs(audio))


def test_the_caller_may_reuse_its_buffer(model: Model) -> None:
    audio = SPEECH[model.card.task]
    stream = Stream(model)
    buffer = np.empty(1000, np.float32)
    events: list[Event] = []
    for start in range(0, len(audio), len(buffer)):
        piece = audio[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        events += stream.push(buffer[: len(piece)])
    assert events + stream.finish() == push_all(model, [audio])


def test_the_end_is_as_if_silence_followed(tmp_path: Path) -> None:
    audio = np.ones(2 * BLOCK + 7, np.float32) * 0.3
    silence = np.zeros(BLOCK - 7, np.float32)
    for kind in ("streaming_ctc", "streaming_classify"):
        model = asr.load(getattr(tiny_models, kind)(tmp_path / "m.onnx"))
        alone, followed = model.log_probs(audio), model.log_probs(np.append(audio, silence))
        np.testing.assert_array_equal(alone, followed[: len(alone)])


def test_what_was_said_is_what_comes_out(model: Model) -> None:
    events = push_all(model, [SPEECH[model.card.task]])
    if model.card.task == "ctc":
        texts = [event.text for event in events if isinstance(event, Utterance)]
        assert texts == ["ab c", "ba"]
    else:
        assert [e.label for e in events if isinstance(e, Detection)] == ["low", "high"]


def test_detections_come_while_the_word_is_said(model: Model) -> None:
    if model.card.task == "ctc":
        pytest.skip("keywords only")
    words = {"low": (0.45, 0.80), "high": (2.05, 2.40)}
    events = push_all(model, [SPEECH["classify"]])
    delay = 0.1 if model.card.streaming else 0.5
    for event in events:
        assert isinstance(event, Detection)
        start, end = words[event.label]
        assert start < event.time <= end + delay


def test_reset_is_bit_exact(model: Model) -> None:
    audio = SPEECH[model.card.task]
    stream = Stream(model)
    first = stream.push(audio) + stream.finish()
    scores = stream.posteriors.copy()
    stream.reset()
    stream.push(tones("b", "high", "a")[:5001])
    stream.reset()
    assert not stream.posteriors.any()
    assert stream.push(audio) + stream.finish() == first
    np.testing.assert_array_equal(stream.posteriors, scores)


def test_streams_beside_each_other_do_not_touch(model: Model) -> None:
    """Pushed in turns, and in threads of their own: the same to the bit as one after the other."""
    audio = SPEECH[model.card.task]
    sounds = [np.array_split(np.roll(audio, 3001 * k), 9 + 4 * k) for k in range(4)]
    alone = [push_all(model, pieces) for pieces in sounds]
    streams = [Stream(model) for _ in sounds]
    events: list[list[Event]] = [[] for _ in sounds]
    for turn in range(max(map(len, sounds))):
        for stream, found, pieces in zip(streams, events, sounds, strict=True):
            found += stream.push(pieces[turn]) if turn < len(pieces) else []
    assert [h + s.finish() for h, s in zip(events, streams, strict=True)] == alone
    with ThreadPoolExecutor(len(sounds)) as threads:
        assert list(threads.map(lambda pieces: push_all(model, pieces), sounds)) == alone


def test_silence_and_nothing_at_all_bring_no_event(model: Model) -> None:
    empty = np.zeros(0, np.float32)
    assert push_all(model, []) == []
    assert push_all(model, [empty, empty]) == []
    assert push_all(model, [np.zeros(20_001, np.float32)]) == []


def test_a_finished_stream_wants_a_reset(model: Model) -> None:
    stream = Stream(model)
    stream.finish()
    with pytest.raises(StreamError, match=r"has ended; call reset\(\)"):
        stream.push(np.zeros(1, np.float32))
    with pytest.raises(StreamError, match=r"has ended; call reset\(\)"):
        stream.finish()
    stream.reset()
    assert stream.push(np.zeros(1, np.float32)) == []


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros(10), "float64"),
        (np.zeros(10, np.int16), "int16"),
        (np.zeros((1, 10), np.float32), r"\(1, 10\)"),
        ([0.0, 0.0], "list"),
        (np.array([0.0, np.nan], np.float32), "NaN"),
        (np.array([np.inf], np.float32), "infinite"),
        (np.array([0.1, -32768.0], np.float32), r"reaches 3\.277e\+04 .* divide 16-bit values"),
    ],
)
def test_what_is_no_audio_is_refused_and_leaves_no_trace(
    model: Model, block: np.ndarray, message: str
) -> None:
    audio = SPEECH[model.card.task]
    stream = Stream(model)
    events = stream.push(audio[:9000])
    with pytest.raises(StreamError, match=message):
        stream.push(block)
    events += stream.push(audio[9000:]) + stream.finish()
    assert events == push_all(model, [audio])


def test_a_file_gives_what_its_samples_give(model: Model, tmp_path: Path) -> None:
    audio = SPEECH[model.card.task]
    path = tmp_path / "speech.wav"
    soundfile.write(path, audio, SAMPLE_RATE, subtype="FLOAT")
    if model.card.task == "ctc":
        assert transcribe(model, path) == transcribe(model, audio)
    else:
        assert spot(model, path) == spot(model, audio)


def test_whole_utterances_cannot_be_recognised_live(tmp_path: Path) -> None:
    model = asr.load(tiny_models.whole_ctc(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match=r"m\.onnx: .*cannot listen live"):
        live_stream(model)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path: Path) -> None:
    model = asr.load(tiny_models.streaming_ctc(tmp_path / "m.onnx"))
    peaks = []
    for minutes in (1, 4):
        path = tmp_path / f"{minutes}.wav"
        soundfile.write(path, np.resize(tones("a"), minutes * 60 * SAMPLE_RATE) * 0.0, SAMPLE_RATE)
        tracemalloc.start()
        transcript = transcribe(model, path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert transcript.duration == 60.0 * minutes
    assert peaks[1] < peaks[0] + 100_000
