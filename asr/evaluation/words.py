"""Single words of a transcript, measured: whether they are right, how sure they are, their times.

A word is right if the alignment of the fewest errors pairs it with the same word of what was said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np

from asr.card import Calibration
from asr.events import Word

if TYPE_CHECKING:
    from asr.evaluation.accuracy import Outcome

BINS = 15
BIN_WORDS = 10  # fewer make no bin of their own
SUREST = 1e-9  # a confidence is no nearer to 0 or 1 when its logarithm is taken
STEPS = 100  # of Newton's method; ten are usual
SMALLEST_STEP = 1e-9


@dataclass(frozen=True)
class Judged:
    """Words, judged: their confidence and whether they are right, (words,) each.

    offsets: how much later than it is marked a keyword was heard to begin and to end, in seconds,
    (keywords, 2).
    """

    confidences: np.ndarray
    right: np.ndarray
    offsets: np.ndarray


def judge(outcomes: Iterable["Outcome"]) -> Judged:
    """Judge all words of recordings, and the times of the keywords that were heard right."""
    confidences: list[float] = []
    right: list[bool] = []
    offsets: list[tuple[float, float]] = []
    for outcome in outcomes:
        fits = _right(outcome.said, outcome.words)
        confidences += [word.confidence for word in outcome.words]
        right += fits
        if outcome.marked is not None:
            offsets += _offset(outcome.words, fits, outcome.marked)
    return Judged(np.array(confidences), np.array(right, bool), np.array(offsets).reshape(-1, 2))


def _right(said: str, words: Sequence[Word]) -> list[bool]:
    """Whether each word was said. A label may be several words; then all of them have to be."""
    owners = [number for number, word in enumerate(words) for _ in word.text.split()]
    wrong: set[int] = set()
    if words:
        heard = " ".join(word.text for word in words)
        for chunk in jiwer.process_words(said, heard).alignments[0]:
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
    brier: mean squared error; auc: how often a right word is surer than a wrong one; nce:
    normalised cross entropy, the share of the doubt that the confidences take away (Siu & Gish,
    1999): 0 if they say no more than how many words are right, 1 if they know.
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
    """Bins of equally many words, the unsure first: mean confidence, share right, words; (n, 3)."""
    order = np.argsort(confidences, kind="stable")
    bins = np.array_split(order, min(BINS, max(1, len(order) // BIN_WORDS)))
    return np.array([(confidences[b].mean(), right[b].mean(), len(b)) for b in bins])


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """How far mean confidence and share of right words are apart, on average over the bins."""
    sure, share, count = reliability(confidences, right).T
    return float(np.sum(np.abs(sure - share) * count) / count.sum())


def area_under_curve(confidences: np.ndarray, right: np.ndarray) -> float:
    """The probability that a right word is surer than a wrong one; a tie is half (Bamber, 1975)."""
    _, places, counts = np.unique(confidences, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    rights, wrongs = int(right.sum()), int((~right).sum())
    return float((ranks[right].sum() - rights * (rights + 1) / 2) / (rights * wrongs))


def normalised_cross_entropy(confidences: np.ndarray, right: np.ndarray) -> float:
    """1 - H(right | confidence) / H(right), of words that are not all right or all wrong."""
    share = right.mean()
    doubt = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    sure = np.clip(np.where(right, confidences, 1 - confidences), SUREST, 1.0)
    return float(1.0 + np.log(sure).mean() / doubt)


def fit_calibration(judged: Judged, current: Calibration) -> Calibration:
    """What takes the place of the calibration with which these words were heard.

    Raises ValueError if confidences do not rise with the share of right words, or if that cannot
    be told. The ends of words are left alone: how early the last label comes hangs on its sound.
    """
    if not 0 < judged.right.sum() < len(judged.right):
        raise ValueError("right and wrong words are needed")
    sure = np.clip(judged.confidences, SUREST, 1 - SUREST)
    scale, offset = fit_logistic(np.log(sure / (1 - sure)), judged.right)
    if scale <= 0:
        raise ValueError("wrong words are as sure as right ones")
    late = float(np.median(judged.offsets[:, 0])) if len(judged.offsets) else 0.0
    return Calibration(
        scale=scale * current.scale,
        offset=scale * current.offset + offset,
        onset=max(0.0, current.onset + late),
    )


def fit_logistic(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Fit P(right) = sigmoid(scale * score + offset) by maximum likelihood, (n,) each.

    Platt (1999), with his targets, which keep a small or a separable set from certainty; by
    Newton's method with backtracking (Lin, Lin & Weng, 2007). Returns scale and offset.
    """
    rights, wrongs = right.sum(), (~right).sum()
    targets = np.where(right, (rights + 1) / (rights + 2), 1 / (wrongs + 2))
    inputs = np.stack([scores, np.ones(len(scores))], axis=1)

    def loss(weights: np.ndarray) -> float:
        logits = inputs @ weights
        return float(np.sum(np.logaddexp(0.0, logits) - targets * logits))

    weights = np.zeros(2)
    for _ in range(STEPS):
        shares = 1.0 / (1.0 + np.exp(-(inputs @ weights)))
        curvature = (inputs * (shares * (1 - shares))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, inputs.T @ (targets - shares))
        while np.abs(step).max() > SMALLEST_STEP and loss(weights + step) > loss(weights):
            step = step / 2
        if np.abs(step).max() <= SMALLEST_STEP:
            break
        weights = weights + step
    return float(weights[0]), float(weights[1])


def word_lines(figures: dict[str, Any]) -> list[str]:
    """Word figures as lines to print."""
    lines: list[str] = []
    if figures["nce"] is not None:
        lines.append(
            f"confidence of {figures['n']} words, {100 * figures['right']:.1f} % right: "
            f"ECE {100 * figures['ece']:.1f} %, Brier {figures['brier']:.3f}, "
            f"AUC {figures['auc']:.3f}, NCE {figures['nce']:.3f}"
        )
    if figures["marked"]:
        starts, ends = (
            "{1:+.0f} ms ({0:+.0f} to {2:+.0f})".format(*(1000 * time for time in figures[name]))
            for name in ("starts", "ends")
        )
        lines.append(
            f"{figures['marked']} marked words, median and middle half: begin {starts}, end {ends}"
        )
    return lines
