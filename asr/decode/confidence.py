"""The confidence of a word: the probability, over all CTC paths, that the sound around it reads it.

That the best path goes through a word says little: it has to go through some word. The forward
algorithm adds up all paths that read this word there, so what is left of 1 is what reads
something else.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from asr.card import Calibration

REACH_SECONDS = 0.24  # how far the sound of a word may reach into the gaps beside it
GREATEST_LOG_PROB = -1e-6  # for the sake of its logit
LEAST_EVIDENCE = -700.0  # exp overflows beyond; what is impossible has a confidence just above 0


def stretches(words: Sequence[tuple[int, int]], frames: int, reach: int) -> list[tuple[int, int]]:
    """Return the frames that belong to each word: its own, and half of the gaps beside it.

    words: from where to where (exclusive) they lie, in order, in `frames` frames; of a gap no more
    than `reach` frames.
    """
    middles = [(end + start) // 2 for (_, end), (start, _) in itertools.pairwise(words)]
    bounds = zip([0, *middles], words, [*middles, frames], strict=True)
    return [(max(low, s - reach), min(high, e + reach)) for low, (s, e), high in bounds]


def readings(
    log_probs: np.ndarray,
    frames: Sequence[tuple[int, int]],
    words: Sequence[Sequence[int]],
    blank: int,
    separator: int | None,
) -> np.ndarray:
    """Return the log-probability that each stretch of frames reads its word and nothing else.

    log_probs: (frames, labels); frames: from where to where (exclusive), for each word; words:
    their labels. The forward variables of CTC (Graves et al., ICML 2006, section 4.1), of all
    words at once; at both ends of a word the separator reads nothing, as a blank. Returns (words,).
    """
    scores, can_skip = _state_scores(log_probs, frames, words, blank, separator)
    skipping = np.where(can_skip, 0.0, -np.inf)
    forward = np.full((len(words), skipping.shape[1] + 2), -np.inf)  # two are never reached
    forward[:, 2:4] = scores[0, :, :2]
    for row in scores[1:]:
        arriving = np.logaddexp(forward[:, 2:], forward[:, 1:-1])
        forward[:, 2:] = np.logaddexp(arriving, forward[:, :-2] + skipping) + row
    every, last = np.arange(len(words)), np.array([2 * len(word) + 2 for word in words])
    return np.logaddexp(forward[every, last], forward[every, last - 1])


def _state_scores(
    log_probs: np.ndarray,
    frames: Sequence[tuple[int, int]],
    words: Sequence[Sequence[int]],
    blank: int,
    separator: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of the states, (frames, words, states), and which can be skipped to.

    After its last frame a word rests in its last blank, at no cost.
    """
    longest = max(end - start for start, end in frames)
    states = 2 * max(map(len, words)) + 1
    scores = np.full((longest, len(words), states), -np.inf)
    can_skip = np.zeros((len(words), states), bool)
    for number, ((start, end), labels) in enumerate(zip(frames, words, strict=True)):
        path = np.full(2 * len(labels) + 1, blank)
        path[1::2] = labels
        own = log_probs[start:end, path].astype(float)
        if separator is not None:
            own[:, [0, -1]] = np.logaddexp(own[:, [0, -1]], log_probs[start:end, [separator]])
        scores[: end - start, number, : len(path)] = own
        scores[end - start :, number, len(path) - 1] = 0.0
        can_skip[number, 3 : len(path) : 2] = path[3::2] != path[1:-2:2]
    return scores, can_skip


def confidences(log_probs: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Map log-probabilities of words to calibrated probabilities, (words,) each.

    Platt, "Probabilistic Outputs for Support Vector Machines" (1999), on the logit.
    """
    certain = np.minimum(log_probs, GREATEST_LOG_PROB)
    logits = certain - np.log(-np.expm1(certain))
    evidence = np.maximum(calibration.scale * logits + calibration.offset, LEAST_EVIDENCE)
    return 1.0 / (1.0 + np.exp(-evidence))
