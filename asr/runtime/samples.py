"""What a stream takes for sound."""

import numpy as np

from features.audio.samples import fault_of
from features.errors import EarshotError


class StreamError(EarshotError, ValueError):
    """A stream was given something that is no audio, too much of it, or used after its end."""


def checked(samples: np.ndarray) -> np.ndarray:
    """Return `samples` if they are float32 (n,) of sensible size. Raises StreamError."""
    plain = isinstance(samples, np.ndarray) and not np.ma.isMaskedArray(samples)
    if not plain or samples.dtype != np.float32 or samples.ndim != 1:
        given = f"{samples.dtype} {samples.shape}" if plain else type(samples).__name__
        raise StreamError(
            f"a stream takes float32 (samples,), not {given}; "
            "features.audio.read_audio makes it from anything"
        )
    if fault := fault_of(samples):
        raise StreamError(f"the audio {fault}")
    return samples
