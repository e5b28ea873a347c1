"""Arrays as audio: numpy's, and whatever numpy can make one of."""

from typing import Any

import numpy as np

from features.audio.errors import AudioError

CHANNEL_LIMIT = 64
NAME = "audio array"


def array_samples(source: Any) -> np.ndarray:
    """Return anything array-like as float32 (samples, channels). Raises AudioError.

    source: (samples,) or (samples, channels); floats are taken as they are, integers are divided
        by their full scale. Lists, tensors on the CPU and the like will do.
    """
    array = _as_array(source)
    if array.ndim not in (1, 2) or (array.size and array.dtype.kind not in "iuf"):
        raise AudioError(
            f"{NAME}: has shape {array.shape} and type {array.dtype}; give (samples,) or "
            f"(samples, channels) of integers or floats"
        )
    if array.size == 0:
        raise AudioError(f"{NAME}: holds no samples; record it again")
    if array.ndim == 2 and array.shape[1] > CHANNEL_LIMIT:
        raise AudioError(f"{NAME}: has {array.shape[1]} channels; give it as (samples, channels)")
    if array.dtype.kind != "f":
        limits = np.iinfo(array.dtype)
        middle = 0 if limits.min else (limits.max + 1) // 2
        array = (array.astype(np.float64) - middle) / ((limits.max - limits.min + 1) / 2)
    with np.errstate(over="ignore"):  # a double too large becomes inf, which the check names
        return array.reshape(len(array), -1).astype(np.float32)


def _as_array(source: Any) -> np.ndarray:
    if np.ma.isMaskedArray(source) and np.ma.is_masked(source):
        raise AudioError(f"{NAME}: has masked samples; fill them or leave them out")
    try:
        array = np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU
        reason = str(error).partition("\n")[0]
        raise AudioError(f"{NAME}: is no array of numbers ({reason}); give a numpy array") from None
    if array.dtype == object:
        raise AudioError(
            f"{NAME}: {type(source).__name__} is neither a path, a file nor an array of numbers; "
            "give one of these"
        )
    return array
