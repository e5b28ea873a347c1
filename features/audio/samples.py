"""Samples: float32 in [-1, 1], their scale as integers, and what no sound can hold."""

import numpy as np

FULL_SCALE = 32768.0  # of 16-bit PCM: the sample -32768 is -1.0

# Float audio above full scale exists (an unlimited mix), 40 dB above it does not: those are
# integers in disguise, which every feature would quietly accept.
PEAK_LIMIT = 100.0


def from_int16(pcm: np.ndarray) -> np.ndarray:
    """Return 16-bit samples of any shape as float32 in [-1, 1)."""
    return pcm.astype(np.float32) / np.float32(FULL_SCALE)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Return float samples of any shape as int16, clipped; undoes `from_int16` exactly."""
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def fault_of(samples: np.ndarray) -> str:
    """Say why float samples of any shape cannot be sound; "" if they can."""
    if not samples.size:
        return ""
    peak = max(samples.max(), -samples.min())
    if not np.isfinite(peak):  # NaN as well: max and min hand it on
        return "has samples that are NaN or infinite; export or record it again"
    if peak > PEAK_LIMIT:
        return f"reaches {peak:.4g} but belongs in [-1, 1]; divide 16-bit values by 32768"
    return ""
