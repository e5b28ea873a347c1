"""Measures of confidence and of word times, against their definitions and on made-up words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.card import UNCALIBRATED, Calibration
from asr.decode.confidence import confidences
from asr.evaluation.outcomes import Outcome
from asr.evaluation.report import word_lines
from asr.evaluation.words import (
    Judged,
    area_under_curve,
    calibration_error,
    judge,
    normalised_cross_entropy,
    reliability,
    word_figures,
)
from asr.events import Word
from asr.studies.calibrate import fit_calibration, fit_logistic

COUNT = 20_000
NO_TIMES = np.zeros((0, 2))

some_words = st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.booleans()), min_size=2)


def made_up(scale: float, offset: float, count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of words, and which are right if the calibration is this one."""
    rng = np.random.default_rng(1)
    log_probs = -np.logaddexp(0.0, -rng.normal(scale=2.0, size=count))
    chances = confidences(log_probs, Calibration(scale=scale, offset=offset, onset=0.0))
    return log_probs, rng.random(count) < chances


def outcome(reference: str, words: str, marked: tuple[float, float] | None = None) -> Outcome:
    """Each word takes half a second, from 1 s on."""
    recognised = tuple(Word(w, 1 + k / 2, 1.4 + k / 2, 0.5) for k, w in enumerate(words.split()))
    return Outcome("", "", reference, words, 9.0, 0.1, words=recognised, marked=marked)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.4, -1.0), (2.0, 0.7)])
def test_fit_recovers_a_known_calibration_and_lowers_the_error(scale: float, offset: float) -> None:
    log_probs, right = made_up(scale, offset)
    raw = Judged(confidences(log_probs, UNCALIBRATED), right, NO_TIMES)
    found = fit_calibration(raw, UNCALIBRATED)
    assert (found.scale, found.offset) == pytest.approx((scale, offset), abs=0.08)
    after = confidences(log_probs, found)
    assert calibration_error(after, right) < 0.01
    if scale != 1.0:
        assert calibration_error(raw.confidences, right) > 0.05
        assert area_under_curve(after, right) == area_under_curve(raw.confidences, right)
        assert np.mean((after - right) ** 2) < np.mean((raw.confidences - right) ** 2)
        nce = normalised_cross_entropy
        assert nce(after, right) > nce(raw.confidences, right)


def test_calibrating_twice_changes_nothing() -> None:
    log_probs, right = made_up(0.5, 0.5)
    first = fit_calibration(
        Judged(confidences(log_probs, UNCALIBRATED), right, NO_TIMES), UNCALIBRATED
    )
    again = fit_calibration(Judged(confidences(log_probs, first), right, NO_TIMES), first)
    assert vars(again) == pytest.approx(vars(first), abs=1e-3)


@given(st.lists(st.tuples(st.floats(-9, 9), st.booleans()), min_size=2, max_size=30))
def test_logistic_fit_is_a_stationary_point(words: list[tuple[float, bool]]) -> None:
    scores, right = np.array([s for s, _ in words]), np.array([r for _, r in words])
    scale, offset = fit_logistic(scores, right)
    rights, wrongs = right.sum(), (~right).sum()
    targets = np.where(right, (rights + 1) / (rights + 2), 1 / (wrongs + 2))
    left = targets - 1 / (1 + np.exp(-(scale * scores + offset)))
    assert abs(left.sum()) < 1e-3 and abs((left * scores).sum()) < 1e-2


def test_uninformative_givenare_refused() -> None:
    given = np.array([0.1, 0.2, 0.8, 0.9])
    for right, message in (
        ([True] * 4, "right and wrong words are needed"),
        ([False] * 4, "right and wrong words are needed"),
        ([True, True, False, False], "wrong words have as much confidence as right ones"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_calibration(Judged(given, np.array(right), NO_TIMES), UNCALIBRATED)


def test_late_onsets_are_corrected_and_early_ones_left() -> None:
    scores, right = np.array([0.2, 0.7]), np.array([False, True])
    current = Calibration(scale=1.0, offset=0.0, onset=0.02)
    for starts, onset in (([0.03, 0.05, 0.4], 0.07), ([-0.5, -0.1], 0.0), ([], 0.02)):
        offsets = np.array([(start, -0.3) for start in starts]).reshape(-1, 2)
        assert fit_calibration(Judged(scores, right, offsets), current).onset == pytest.approx(
            onset
        )


def test_calibration_error_of_a_known_overconfidence() -> None:
    right = np.tile([True, False, True, True], 300)
    assert calibration_error(np.full(1200, 0.95), right) == pytest.approx(0.2)
    assert calibration_error(np.full(1200, 0.75), right) == pytest.approx(0.0)
    bins = reliability(np.linspace(0, 1, 1200), right)
    assert bins[:, 2].tolist() == [80] * 15 and np.all(np.diff(bins[:, 0]) > 0)


@given(some_words)
def test_area_under_curve_is_the_share_of_ordered_pairs(words: list[tuple[float, bool]]) -> None:
    scores, right = np.array([s for s, _ in words]), np.array([r for _, r in words])
    pairs = np.sign(scores[right][:, None] - scores[~right][None])
    if pairs.size:
        assert area_under_curve(scores, right) == pytest.approx((1 + pairs.mean()) / 2)


def test_normalised_cross_entropy_is_zero_for_the_mean_and_one_for_the_truth() -> None:
    right = np.tile([True, False, True, True], 5)
    assert normalised_cross_entropy(np.full(20, 0.75), right) == pytest.approx(0.0)
    assert normalised_cross_entropy(right.astype(float), right) == pytest.approx(1.0)
    assert normalised_cross_entropy(np.full(20, 0.2), right) < 0.0


def test_words_are_judged_by_the_alignment_with_the_reference() -> None:
    judged = judge([outcome("a b c", "a x c"), outcome("a b", "b"), outcome("a", "a a")])
    assert judged.right.tolist()[:4] == [True, False, True, True]
    assert sorted(judged.right.tolist()[4:]) == [False, True]
    assert np.all(judged.confidences == 0.5) and judged.offsets.shape == (0, 2)


@pytest.mark.parametrize(
    ("reference", "words", "marked", "offset"),
    [
        ("a b c", "a b c", (1.45, 1.95), (0.05, -0.05)),
        ("a b c", "a b c", (1.3, 2.5), (0.2, -0.1)),
        ("a b c", "a x c", (1.45, 1.95), None),
        ("a b c", "a b x", (1.3, 2.5), None),
        ("a b c", "a b c", (5.0, 6.0), None),
        ("a b c", "a b c", None, None),
        ("a", "", (1.0, 2.0), None),
    ],
)
def test_word_times_are_compared_with_keyword_marks(
    reference: str,
    words: str,
    marked: tuple[float, float] | None,
    offset: tuple[float, float] | None,
) -> None:
    offsets = judge([outcome(reference, words, marked)]).offsets
    assert offsets.tolist() == ([pytest.approx(offset)] if offset else [])


def test_figures_without_data_are_none_and_not_printed() -> None:
    silent = word_figures(judge([outcome("a", "")]))
    assert (silent["n"], silent["ece"], silent["starts"], word_lines(silent)) == (0, None, None, [])
    figures = word_figures(judge([outcome("a b", "a x", (0.9, 1.4)), outcome("a", "a")]))
    first, second = word_lines(figures)
    assert first.startswith("confidence of 3 words, 66.7 % right: ECE 16.7 %, Brier 0.250")
    assert second.endswith("begin +100 ms (+100 to +100), end +0 ms (+0 to +0)")
