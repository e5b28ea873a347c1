"""What a stream takes for sound."""

import numpy as np

from features.audio import PEAK_LIMIT
from features.errors import EarshotError


class StreamError(EarshotError, ValueError):
    """A stream was given something that is no audio, too much of it, or used after its end."""


def checked(samples: np.ndarray) -> np.ndarray:
    """Return `samples` if they are float32 (n,) of sensible size. Raises StreamError."""
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 1:
        kind = getattr(samples, "dtype", type(samples).__name__)
        raise StreamError(
            f"a stream takes float32 (samples,), not {kind} {getattr(samples, 'shape', '')}; "
            "features.audio.read_audio makes it from anything"
        )
    peak = np.abs(samples).max(initial=0.0)
    if not np.isfinite(peak):
        raise StreamError("the audio has NaN or infinite samples; check where it comes from")
    if peak > PEAK_LIMIT:
        raise StreamError(
            f"float samples reach {peak:.4g} but belong in [-1, 1]; divide 16-bit values by 32768"
        )
    return samples
