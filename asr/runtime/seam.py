"""Joining the frames of two runs of a model over overlapping audio, no label lost or doubled."""

import numpy as np

# Near the end of its audio a run lacks the context that it would need; nothing is joined there.
UNSURE = 1 / 8


def find_seam(left: np.ndarray, right: np.ndarray, blank: int) -> int:
    """Return the frame from which on `right` is to be taken instead of `left`.

    left, right: log_probs (frames, labels) of the same stretch of audio: the end of one run and
    the beginning of the next. The seam is the middle of the longest stretch in which both find
    nothing, so that a label whose peak the two see at different frames stands on one side of it;
    if there is none, of the longest one in which they find the same label; else of all.
    """
    edge = int(UNSURE * len(left))
    first, again = (run.argmax(axis=1)[edge : len(run) - edge] for run in (left, right))
    for alike in ((first == blank) & (again == blank), first == again):
        if alike.any():
            return edge + _middle_of_longest(alike)
    return len(left) // 2


def _middle_of_longest(flags: np.ndarray) -> int:
    """Return the middle of the longest stretch of True in bool (n,), which has one."""
    changes = np.diff(np.pad(flags.astype(np.int8), 1))
    starts, ends = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)
    longest = int((ends - starts).argmax())
    return int(starts[longest] + ends[longest] + 1) // 2
