"""Greedy CTC decoding and the keyword trigger, against plain definitions of what they do."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.card import ENDPOINT, Alarms, ModelCard, Trigger
from asr.decode.alphabet import Alphabet
from asr.decode.beam import BeamDecoder
from asr.decode.greedy import GreedyDecoder
from asr.decode.keywords.trained import KeywordTrigger
from asr.decode.keywords.typed import SpotOptions, parse_keywords
from asr.events import Detection, Event, Partial, Utterance
from asr.runtime.scorers import Scores
from tests.support.decoding import of_speech, scored
from tests.support.tiny_models import HOP, KEYWORDS, LETTERS, SAMPLE_RATE, WORDS, card

FRAME = HOP / SAMPLE_RATE
PAUSE_SECONDS, LONG_SECONDS = ENDPOINT.trailing_silence, ENDPOINT.soft_limit
LONGEST_SECONDS = ENDPOINT.hard_limit
PAUSE = round(PAUSE_SECONDS / FRAME)
SPELLING = card("ctc", LETTERS)
NAMING = card("ctc", WORDS)

runs = st.lists(
    st.tuples(st.integers(0, 4), st.one_of(st.integers(1, 5), st.integers(70, 90))), max_size=15
)


def frames_of(labels: list[int], count: int = len(LETTERS)) -> np.ndarray:
    """Log-probabilities (frames, labels) whose best labels are `labels`."""
    return np.log(np.eye(count, dtype=np.float32)[labels] * 0.9 + 0.01)


def decode(
    model_card: ModelCard, labels: list[int], cuts: list[int] | None = None
) -> list[Partial | Utterance]:
    decoder = GreedyDecoder(Alphabet.of(model_card))
    log_probs = frames_of(labels, len(model_card.labels))
    events: list[Event] = []
    for part in np.split(log_probs, cuts or []):
        events += decoder.push(scored(part))
    return of_speech(events + decoder.finish())


def utterances(events: Sequence[Event]) -> list[Utterance]:
    return [event for event in events if isinstance(event, Utterance)]


def letters(text: str) -> list[int]:
    """Labels of a frame string in which "-" is the blank."""
    return [0 if letter == "-" else LETTERS.index(letter) for letter in text]


def collapsed(labels: list[int]) -> list[str]:
    """The texts of the utterances by definition: cut at pauses, drop repeats, drop blanks."""
    quiet = [(is_quiet, list(run)) for is_quiet, run in itertools.groupby(labels, lambda x: x < 2)]
    pieces: list[list[int]] = [[]]
    for is_quiet, run in quiet:
        if is_quiet and len(run) >= PAUSE:
            pieces.append([])
        else:
            pieces[-1] += run
    texts = [
        "".join(LETTERS[label] for label, _ in itertools.groupby(piece) if label)
        for piece in pieces
    ]
    return [" ".join(text.split()) for text in texts if text.strip()]


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ("", None),
        ("---", None),
        ("- --", None),
        ("a", "a"),
        ("aaa", "a"),
        ("a-a", "aa"),
        ("ab", "ab"),
        ("--aab--b c--", "abb c"),
        ("  a  b  ", "a b"),
        ("a- -b", "a b"),
        ("a - b", "a b"),
    ],
)
def test_repeats_collapse_and_blanks_separate(frames: str, text: str | None) -> None:
    events = utterances(decode(SPELLING, letters(frames)))
    assert [event.text for event in events] == ([] if text is None else [text])


@given(runs)
def test_the_text_is_the_best_path_by_definition(path: list[tuple[int, int]]) -> None:
    labels = [label for label, length in path for _ in range(length)]
    events = utterances(decode(SPELLING, labels))
    assert [event.text for event in events] == collapsed(labels)


@given(runs, st.data())
def test_utterances_do_not_depend_on_the_cutting(
    path: list[tuple[int, int]], data: st.DataObject
) -> None:
    labels = [label for label, length in path for _ in range(length)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(labels)), max_size=8)))
    assert utterances(decode(SPELLING, labels, cuts)) == utterances(decode(SPELLING, labels))


def test_words_know_their_time() -> None:
    (event,) = utterances(decode(SPELLING, letters("--ab-b-  -cc--")))
    assert event.text == "abb c"
    assert [(word.text, word.start, word.end) for word in event.words] == [
        ("abb", pytest.approx(2 * FRAME), pytest.approx(6 * FRAME)),
        ("c", pytest.approx(10 * FRAME), pytest.approx(12 * FRAME)),
    ]
    assert (event.start, event.end) == (event.words[0].start, event.words[-1].end)


def test_whole_words_are_joined_by_spaces() -> None:
    low, high = WORDS.index("low"), WORDS.index("high")
    (event,) = utterances(decode(NAMING, [0, low, low, high, 0, high, 0]))
    assert event.text == "low high high"
    assert len(event.words) == 3


def test_a_pause_ends_an_utterance_and_partials_come_before() -> None:
    decoder = GreedyDecoder(Alphabet.of(SPELLING))
    events = [
        decoder.push(scored(frames_of(letters(part))))
        for part in ("-a", "a-", "b", "-" * PAUSE, "-c")
    ]
    assert events[0] == [Partial("a", FRAME, 2 * FRAME)]
    assert events[1] == []
    assert events[2] == [Partial("ab", FRAME, 5 * FRAME)]
    assert [(type(event), event.text) for event in utterances(events[3])] == [(Utterance, "ab")]
    (partial,) = events[4]
    assert isinstance(partial, Partial) and partial.text == "c"
    assert [event.text for event in utterances(decoder.finish())] == ["c"]


def test_a_pause_that_is_a_frame_too_short_ends_nothing() -> None:
    (event,) = utterances(decode(SPELLING, letters("a" + "-" * (PAUSE - 1) + "b")))
    assert event.text == "ab"


@pytest.mark.parametrize("gap", ["", " "], ids=["no gap between words", "gaps"])
@pytest.mark.parametrize("decoder", [GreedyDecoder, lambda alphabet: BeamDecoder(alphabet, 2)])
def test_what_is_kept_of_endless_talk_is_bounded(
    decoder: Callable[[Alphabet], GreedyDecoder | BeamDecoder], gap: str
) -> None:
    alphabet = Alphabet(LETTERS, 0, frame_seconds=0.1)
    word = letters("aa-a-b" + gap)
    log_probs = frames_of(word * round(3 * LONGEST_SECONDS / 0.1 / len(word)))
    patient = decoder(alphabet)
    found = utterances([*patient.push(scored(log_probs)), *patient.finish()])
    longest = LONG_SECONDS + len(word) * 0.1 if gap else LONGEST_SECONDS
    assert len(found) == (6 if gap else 3)
    assert max(event.end - event.start for event in found) <= longest


@pytest.mark.slow
def test_a_label_that_an_utterance_is_cut_inside_is_read_once() -> None:
    longest = round(LONGEST_SECONDS / FRAME)
    labels = letters("ab" * (longest // 2 - 1) + "cccc" + "ab")
    assert [event.text[-2:] for event in utterances(decode(SPELLING, labels))] == ["bc", "ab"]


def test_reset_forgets_the_open_utterance_and_the_time() -> None:
    decoder = GreedyDecoder(Alphabet.of(SPELLING))
    decoder.push(scored(frames_of(letters("-ab"))))
    decoder.reset()
    events = decoder.push(scored(frames_of(letters("ba")))) + decoder.finish()
    assert events == decode(SPELLING, letters("ba"))


def moment(end: int, posteriors: np.ndarray) -> Scores:
    """Posteriors (labels,) of the audio up to sample `end`."""
    with np.errstate(divide="ignore"):
        return scored(np.log(posteriors), end)


def trigger_card(threshold: float = 0.5, smoothing: float = 0.0, refractory: float = 0.0):
    trigger = Trigger(threshold=threshold, smoothing=smoothing, refractory=refractory)
    return card("classify", KEYWORDS, window_length=HOP, trigger=trigger)


def fire(
    model_card: ModelCard, scores: list[float], label: str = "low", keywords: str = ""
) -> list[Detection]:
    """Push one score every 0.1 s for one label; the rest goes to silence."""
    options = SpotOptions(keywords=parse_keywords(keywords)) if keywords else None
    trigger = KeywordTrigger(model_card, options)
    index = KEYWORDS.index(label)
    detections: list[Event] = []
    for step, score in enumerate(scores, start=1):
        posteriors = np.zeros(len(KEYWORDS), np.float32)
        posteriors[0], posteriors[index] = 1.0 - score, score
        detections += trigger.push(moment(step * SAMPLE_RATE // 10, posteriors))
    return [event for event in detections if isinstance(event, Detection)]


def times(detections: list[Detection]) -> list[float]:
    return [round(detection.time, 3) for detection in detections]


def test_a_crossing_fires_once_until_the_score_has_fallen() -> None:
    scores = [0.2, 0.9, 0.9, 0.6, 0.4, 0.5, 0.9]
    detections = fire(trigger_card(), scores)
    assert times(detections) == [0.2, 0.6]
    assert detections[0].score == pytest.approx(0.9)


def test_the_threshold_itself_is_enough() -> None:
    assert times(fire(trigger_card(threshold=0.5), [0.49, 0.5])) == [0.2]


def test_smoothing_averages_over_its_time() -> None:
    scores = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    detections = fire(trigger_card(threshold=0.6, smoothing=0.3), scores)
    assert times(detections) == [0.7]
    assert detections[0].score == pytest.approx(2 / 3)


def test_smoothing_at_the_start_uses_what_there_is() -> None:
    assert times(fire(trigger_card(smoothing=1.0), [0.9])) == [0.1]


def test_nothing_fires_in_the_refractory_time_and_a_held_score_fires_after_it() -> None:
    scores = [0.9, 0.1, 0.9, 0.1, 0.1, 0.9]
    assert times(fire(trigger_card(refractory=0.5), scores)) == [0.1, 0.6]
    held = [0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9]
    assert times(fire(trigger_card(refractory=0.5), held)) == [0.1, 0.6]


@pytest.mark.parametrize("label", ["_silence_", "_unknown_"])
def test_background_never_fires(label: str) -> None:
    assert fire(trigger_card(), [0.9, 0.1, 0.9], label) == []


def test_keywords_that_are_typed_fire_alone_and_from_thresholds_of_their_own() -> None:
    scores = [0.2, 0.6, 0.2, 0.8]
    assert times(fire(trigger_card(), scores, keywords="low")) == [0.2, 0.4]
    assert times(fire(trigger_card(), scores, keywords="high=0.9, low=0.7")) == [0.4]
    assert fire(trigger_card(), scores, keywords="high") == []
    assert times(fire(trigger_card(), scores, "high", keywords="high=0.1")) == [0.1]


def test_a_keyword_can_have_a_threshold_of_its_own_in_the_card() -> None:
    alarms = Alarms(budget=1.0, hours=1.0, count=0, at_most=3.0, thresholds={"low": 0.7})
    model_card = replace(trigger_card(), alarms=alarms)
    scores = [0.2, 0.6, 0.2, 0.8]
    assert times(fire(model_card, scores)) == [0.4]
    assert times(fire(model_card, scores, "high")) == [0.2, 0.4]
    assert times(fire(model_card, scores, keywords="low=0.5")) == [0.2, 0.4]


def test_reset_arms_the_trigger_again() -> None:
    trigger = KeywordTrigger(trigger_card(refractory=9.0))
    loud = np.array([0, 0, 1, 0], np.float32)
    first = trigger.push(moment(1600, loud))
    assert trigger.push(moment(3200, loud)) == []
    trigger.reset()
    assert trigger.push(moment(1600, loud)) == first


@given(
    st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), max_size=40),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.sampled_from([0.1, 0.3, 0.8]),
)
def test_detections_keep_their_distance_and_their_threshold(
    scores: list[float], smoothing: float, refractory: float
) -> None:
    model_card = trigger_card(smoothing=smoothing, refractory=refractory)
    detections = fire(model_card, scores)
    for earlier, later in itertools.pairwise(detections):
        assert later.time - earlier.time >= refractory - 1e-9
    assert all(detection.score >= 0.5 for detection in detections)
