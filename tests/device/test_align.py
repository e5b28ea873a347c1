"""Forced alignment against the definition: the best of all paths that read a text."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decode.alphabet import Alphabet, Span
from asr.decode.ctc_paths import align
from tests.support.tiny_models import card

ALPHABET = Alphabet.of(card("ctc", ("<blank>", " ", "a", "b")))
NAMING = Alphabet.of(card("ctc", ("<blank>", "low", "high")))


def random_scores(seed: int, frames: int, labels: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, labels)) * 2.0
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def spans_of(path: tuple[int, ...]) -> list[Span]:
    """The runs of labels on a path."""
    spans: list[Span] = []
    for label, run in itertools.groupby(enumerate(path), lambda entry: entry[1]):
        frames = [frame for frame, _ in run]
        spans.append(Span(label, frames[0], frames[-1] + 1))
    return [span for span in spans if span.label]


def score(path: tuple[int, ...], log_probs: np.ndarray) -> float:
    return float(sum(row[label] for row, label in zip(log_probs, path, strict=True)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.lists(st.integers(1, 2), max_size=4))
def test_the_alignment_is_the_best_path_of_all(seed: int, frames: int, labels: list[int]) -> None:
    log_probs = random_scores(seed, frames, 3)
    paths = [
        path
        for path in itertools.product(range(3), repeat=frames)
        if [span.label for span in spans_of(path)] == labels
    ]
    if not paths:
        with pytest.raises(ValueError, match=f"{frames} frames are too few for {len(labels)}"):
            align(log_probs, labels, NAMING)
        return
    best = max(paths, key=lambda path: score(path, log_probs))
    assert align(log_probs, labels, NAMING) == spans_of(best)


def test_separators_beside_a_separator_say_nothing() -> None:
    path = [1, 1, 2, 0, 1, 0, 1, 3, 3, 1, 0]
    log_probs = np.log(np.eye(4, dtype=np.float32)[path] * 0.9 + 0.025)
    spans = align(log_probs, [2, 1, 3], ALPHABET)
    assert [(span.label, span.start, span.end) for span in spans if span.label != 1] == [
        (2, 2, 3),
        (3, 7, 9),
    ]


def test_no_labels_need_no_frames_to_lie_in() -> None:
    assert align(random_scores(0, 3, 4), [], ALPHABET) == []
    with pytest.raises(ValueError, match="0 frames are too few for 1 labels"):
        align(np.zeros((0, 4), np.float32), [2], ALPHABET)
