"""Single words of a transcript, measured: whether they are right, their confidence, their times.

A word is right if the alignment of the fewest errors pairs it with the same word of the reference.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jiwer
import numpy as np

from asr.evaluation.outcomes import Outcome
from asr.events import Word

BINS = 15
BIN_WORDS = 10  # fewer make no bin of their own
MARGIN = 1e-9  # a confidence is no nearer to 0 or 1 when its logarithm is taken


@dataclass(frozen=True)
class Judged:
    """Words, judged: their confidence and whether they are right, (words,) each.

    offsets: how much later than it is marked a keyword was recognised to begin and to end, in
    seconds, (keywords, 2).
    """

    confidences: np.ndarray
    right: np.ndarray
    offsets: np.ndarray


def judge(outcomes: Iterable[Outcome]) -> Judged:
    """Judge all words of recordings, and the times of the keywords that were recognised."""
    confidences: list[float] = []
    right: list[bool] = []
    offsets: list[tuple[float, float]] = []
    for outcome in outcomes:
        fits = _right(outcome.reference, outcome.words)
        confidences += [word.confidence for word in outcome.words]
        right += fits
        if outcome.marked is not None:
            offsets += _offset(outcome.words, fits, outcome.marked)
    return Judged(np.array(confidences), np.array(right, bool), np.array(offsets).reshape(-1, 2))


def _right(reference: str, words: Sequence[Word]) -> list[bool]:
    """Whether each word was said. A label may be several words; then all of them have to be."""
    owners = [number for number, word in enumerate(words) for _ in word.text.split()]
    wrong: set[int] = set()
    if words:
        hypothesis = " ".join(word.text for word in words)
        for chunk in jiwer.process_words(reference, hypothesis).alignments[0]:
            if chunk.type != "equal":
                wrong.update(owners[chunk.hyp_start_idx : chunk.hyp_end_idx])
    return [number not in wrong for number in range(len(words))]


def _offset(
    words: Sequence[Word], right: Sequence[bool], marked: tuple[float, float]
) -> list[tuple[float, float]]:
    """How the words whose middle lies in the mark are off, if there are any and all are right."""
    inside = [
        number
        for number, word in enumerate(words)
        if marked[0] <= (word.start + word.end) / 2 <= marked[1]
    ]
    if not inside or not all(right[number] for number in inside):
        return []
    return [(words[inside[0]].start - marked[0], words[inside[-1]].end - marked[1])]


def word_figures(judged: Judged) -> dict[str, Any]:
    """How good the confidences and the times are; None where there is nothing to measure.

    ece: expected calibration error (Guo et al., 2017), over up to `BINS` bins of equal size;
    brier: mean squared error; auc: how often a right word has the higher confidence of a right
    and a wrong one; nce: normalised cross entropy, the share of the entropy that the confidences
    take away (Siu & Gish, 1999): 0 if they say no more than how many words are right, 1 if all.
    starts, ends: lower quartile, median and upper quartile of the offsets, in seconds.
    """
    confidences, right = judged.confidences, judged.right
    mixed = 0 < right.sum() < len(right)
    starts = ends = None
    if len(judged.offsets):
        starts, ends = np.quantile(judged.offsets, [0.25, 0.5, 0.75], axis=0).T.tolist()
    return {
        "n": len(right),
        "right": float(right.mean()) if len(right) else None,
        "ece": calibration_error(confidences, right) if len(right) else None,
        "brier": float(np.mean((confidences - right) ** 2)) if len(right) else None,
        "auc": area_under_curve(confidences, right) if mixed else None,
        "nce": normalised_cross_entropy(confidences, right) if mixed else None,
        "marked": len(judged.offsets),
        "starts": starts,
        "ends": ends,
    }


def reliability(confidences: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Bins of equally many words by confidence: its mean, share right, words; (n, 3)."""
    order = np.argsort(confidences, kind="stable")
    bins = np.array_split(order, min(BINS, max(1, len(order) // BIN_WORDS)))
    return np.array([(confidences[b].mean(), right[b].mean(), len(b)) for b in bins])


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """How far mean confidence and share of right words are apart, on average over the bins."""
    mean, share, count = reliability(confidences, right).T
    return float(np.sum(np.abs(mean - share) * count) / count.sum())


def area_under_curve(confidences: np.ndarray, right: np.ndarray) -> float:
    """How probably, of a right and a wrong word, the right one has the higher confidence; a tie
    is half (Bamber, 1975)."""
    _, places, counts = np.unique(confidences, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    rights, wrongs = int(right.sum()), int((~right).sum())
    return float((ranks[right].sum() - rights * (rights + 1) / 2) / (rights * wrongs))


def normalised_cross_entropy(confidences: np.ndarray, right: np.ndarray) -> float:
    """1 - H(right | confidence) / H(right), of words that are not all right or all wrong."""
    share = right.mean()
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    likelihoods = np.clip(np.where(right, confidences, 1 - confidences), MARGIN, 1.0)
    return float(1.0 + np.log(likelihoods).mean() / entropy)
