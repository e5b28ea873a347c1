"""Where the labels of a known text lie: the best CTC path through it."""

from collections.abc import Sequence

import numpy as np

from asr.decode.alphabet import Alphabet, Span


def align(
    log_probs: np.ndarray, labels: Sequence[int], alphabet: Alphabet, first: int = 0
) -> list[Span]:
    """Return the frames of each label on the most probable path that reads `labels`.

    log_probs: (frames, labels), whose first frame is frame `first`. Viterbi search over the labels
    with a blank before, between and after them (Graves et al., ICML 2006, section 4.1, with max for
    the sum). Blanks beside a separator, or at either end, may be separators too: more of them say
    nothing else.
    Raises ValueError if the frames are too few.
    """
    states = np.full(2 * len(labels) + 1, alphabet.blank)
    states[1::2] = labels
    scores = _state_scores(log_probs, states, alphabet)
    can_skip = np.zeros(len(states), bool)
    can_skip[3::2] = states[3::2] != states[1:-2:2]
    path = _best_path(scores, can_skip)
    spans: list[Span] = []
    for number, label in enumerate(labels):
        frames = np.flatnonzero(path == 2 * number + 1)
        spans.append(Span(label, first + int(frames[0]), first + int(frames[-1]) + 1))
    return spans


def _state_scores(log_probs: np.ndarray, states: np.ndarray, alphabet: Alphabet) -> np.ndarray:
    """Log-probabilities of the states, (frames, states)."""
    scores = log_probs[:, states].astype(float)
    if alphabet.separator is not None:
        apart = np.pad(states[1::2] == alphabet.separator, 1, constant_values=True)
        gaps = np.flatnonzero(apart[:-1] | apart[1:]) * 2
        scores[:, gaps] = np.maximum(scores[:, gaps], log_probs[:, [alphabet.separator]])
    return scores


def _best_path(scores: np.ndarray, can_skip: np.ndarray) -> np.ndarray:
    """The state of each frame, (frames,). From a state: stay, the next, or the one after that."""
    frames, count = scores.shape
    came = np.zeros((frames, count), np.int8)
    best = np.full(count + 2, -np.inf)  # two states before the first one, never reached
    best[2:4] = scores[0, :2] if frames else -np.inf
    forbidden = np.where(can_skip, 0.0, -np.inf)
    for frame in range(1, frames):
        stay, following, skipping = best[2:], best[1:-1], best[:-2] + forbidden
        step = np.maximum(stay, following)
        came[frame] = np.where(skipping > step, 2, following > stay)
        best[2:] = np.maximum(step, skipping) + scores[frame]
    last = best[2:][-2:]
    if not frames or last.max() == -np.inf:
        raise ValueError(f"{frames} frames are too few for {count // 2} labels")
    state = count - len(last) + int(last.argmax())
    path = np.zeros(frames, int)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(came[frame, state])
    return path
