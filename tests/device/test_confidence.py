"""Confidence of words against its definition, and the times that a calibration corrects."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.card import UNCALIBRATED, Calibration, CardError
from asr.decode.alphabet import Alphabet
from asr.decode.beam import BeamDecoder
from asr.decode.confidence import REACH_SECONDS, confidences, readings, stretches
from asr.decode.greedy import GreedyDecoder
from asr.events import Utterance
from tests.support.decoding import scored
from tests.support.tiny_models import HOP, LETTERS, SAMPLE_RATE, card

FRAME = HOP / SAMPLE_RATE
BLANK, SEPARATOR, A, B = range(4)
ALPHABET = Alphabet.of(card("ctc", LETTERS))

seeds = st.integers(0, 2**32 - 1)


def random_scores(seed: int, frames: int, labels: int = len(LETTERS)) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, labels)) * 2.0
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def frames_of(labels: Sequence[int]) -> np.ndarray:
    """Log-probabilities (frames, labels) whose best labels are `labels`."""
    return np.log(np.eye(len(LETTERS), dtype=np.float32)[list(labels)] * 0.9 + 0.02)


def decode(log_probs: np.ndarray, alphabet: Alphabet = ALPHABET) -> Utterance:
    decoder = GreedyDecoder(alphabet)
    events = [*decoder.push(scored(log_probs)), *decoder.finish()]
    (utterance,) = (event for event in events if isinstance(event, Utterance))
    return utterance


def reading_by_definition(log_probs: np.ndarray, word: Sequence[int], separator: int | None):
    """The summed probability of all paths that read the word and, around it, nothing."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        read = [label for label, _ in itertools.groupby(path) if label != BLANK]
        while read and read[0] == separator:
            read.pop(0)
        while read and read[-1] == separator:
            read.pop()
        if read == list(word):
            total += math.exp(sum(row[k] for row, k in zip(log_probs, path, strict=True)))
    return total


@given(seeds, st.lists(st.lists(st.sampled_from([A, B]), min_size=1, max_size=3), min_size=1))
def test_a_reading_is_the_sum_over_all_paths(seed: int, words: list[list[int]]) -> None:
    rng = np.random.default_rng(seed)
    log_probs = random_scores(seed, 12, labels=4)
    starts = rng.integers(0, 8, len(words))
    frames = [(int(s), int(s + rng.integers(1, 5))) for s in starts]
    for separator in (SEPARATOR, None):
        found = readings(log_probs, frames, words, BLANK, separator)
        expected = [
            reading_by_definition(log_probs[start:end], word, separator)
            for (start, end), word in zip(frames, words, strict=True)
        ]
        np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5, atol=1e-12)


@given(st.lists(st.integers(0, 12), min_size=2, max_size=12), st.integers(0, 5))
def test_words_share_the_frames_between_them(gaps: list[int], reach: int) -> None:
    bounds = np.cumsum(np.array(gaps[: len(gaps) // 2 * 2]) + [0, 1] * (len(gaps) // 2))
    words = [(int(start), int(end)) for start, end in bounds.reshape(-1, 2)]
    frames = words[-1][1] + 3
    found = stretches(words, frames, reach)
    for (start, end), (low, high) in zip(words, found, strict=True):
        assert max(0, start - reach) <= low <= start < end <= high <= min(frames, end + reach)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(found))
    wide = stretches(words, frames, frames)
    assert (wide[0][0], wide[-1][1]) == (0, frames)
    assert all(first[1] == second[0] for first, second in itertools.pairwise(wide))


def test_a_doubtful_frame_lowers_the_confidence_of_its_word_only() -> None:
    log_probs = frames_of([BLANK, A, B, SEPARATOR, SEPARATOR, A, BLANK])
    doubtful = log_probs.copy()
    doubtful[2, [A, B]] = math.log(0.45), math.log(0.47)
    sure, unsure = decode(log_probs), decode(doubtful)
    assert sure.text == unsure.text == "ab a"
    assert unsure.words[0].confidence < 0.7 * sure.words[0].confidence
    assert unsure.words[1] == sure.words[1]


def test_what_might_have_been_another_letter_beside_a_word_counts() -> None:
    log_probs = frames_of([BLANK, A, BLANK, BLANK])
    doubtful = log_probs.copy()
    doubtful[2, [BLANK, B]] = math.log(0.5), math.log(0.42)
    assert decode(doubtful).words[0].confidence < 0.7 * decode(log_probs).words[0].confidence


@given(seeds, st.integers(1, 12))
def test_both_decoders_are_as_sure_of_the_same_words(seed: int, frames: int) -> None:
    log_probs = random_scores(seed, frames)
    greedy, beam = GreedyDecoder(ALPHABET), BeamDecoder(ALPHABET, 1)
    for decoder in (greedy, beam):
        decoder.push(scored(log_probs))
    first, second = greedy.finish(), beam.finish()
    one, other = ([u for u in events if isinstance(u, Utterance)] for events in (first, second))
    if one and other and one[0].text == other[0].text:
        sure = [[word.confidence for word in u[0].words] for u in (one, other)]
        same = [[(word.start, word.end) for word in u[0].words] for u in (one, other)]
        assert same[0] != same[1] or sure[0] == pytest.approx(sure[1])


@given(
    st.lists(st.floats(-40.0, 0.0), min_size=2),
    st.floats(0.05, 5.0),
    st.floats(-5.0, 5.0),
)
def test_calibration_keeps_the_order(scores: list[float], scale: float, offset: float) -> None:
    scores = sorted(scores)
    sure = confidences(np.array(scores), Calibration(scale=scale, offset=offset, onset=0.0))
    assert np.all(np.diff(sure) >= 0) and np.all((sure > 0.0) & (sure <= 1.0))


def test_what_is_not_calibrated_is_the_probability_itself() -> None:
    probabilities = np.array([1e-9, 0.2, 0.5, 0.9, 0.9999])
    np.testing.assert_allclose(confidences(np.log(probabilities), UNCALIBRATED), probabilities)
    assert confidences(np.zeros(1), UNCALIBRATED)[0] == pytest.approx(1.0, abs=2e-6)
    calibrated = confidences(np.log([0.2]), Calibration(scale=2.0, offset=1.0, onset=0.0))
    assert calibrated[0] == pytest.approx(1 / (1 + math.exp(-1) * 4**2))


@pytest.mark.parametrize(
    "changes",
    [{"scale": 0.0}, {"scale": -1.0}, {"offset": math.nan}, {"onset": -0.1}, {"onset": math.inf}],
)
def test_a_calibration_that_makes_no_sense_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(CardError, match="calibration"):
        Calibration(**{"scale": 1.0, "offset": 0.0, "onset": 0.0} | changes)


def test_a_word_begins_before_its_first_label_but_after_the_word_before() -> None:
    labels = [*[BLANK] * 6, A, B, SEPARATOR, SEPARATOR, A, *[BLANK] * 6, SEPARATOR, B]
    onset = 4 * FRAME
    alphabet = Alphabet(LETTERS, BLANK, FRAME, Calibration(scale=1.0, offset=0.0, onset=onset))
    plain, moved = decode(frames_of(labels)), decode(frames_of(labels), alphabet)
    starts = [word.start for word in plain.words]
    assert [word.start for word in moved.words] == [
        pytest.approx(starts[0] - onset),
        pytest.approx(plain.words[0].end),
        pytest.approx(starts[2] - onset),
    ]
    assert moved.start == moved.words[0].start == moved.words[0].characters[0].start
    assert [word.end for word in moved.words] == [word.end for word in plain.words]
    early = decode(frames_of(labels[5:]), alphabet)
    assert early.start == 0.0


def test_the_sound_of_a_word_ends_somewhere() -> None:
    far = round(REACH_SECONDS / FRAME) + 3
    log_probs = frames_of([A, *[BLANK] * far])
    doubtful = log_probs.copy()
    doubtful[far, [BLANK, B]] = math.log(0.5), math.log(0.42)
    assert decode(doubtful).words == decode(log_probs).words


def test_impossible_word_has_a_confidence_near_zero() -> None:
    """No overflow and no zero, however steep the calibration."""
    log_probs = np.array([-np.inf, -1e4, -1.0, 0.0])
    with np.errstate(all="raise"):
        found = confidences(log_probs, Calibration(scale=5.0, offset=-3.0, onset=0.0))
    assert np.all((found > 0.0) & (found <= 1.0))
    assert found[0] < 1e-300
