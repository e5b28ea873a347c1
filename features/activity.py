"""Where nobody speaks: a pause to cut long recordings at, found by their energy."""

import numpy as np

PAUSE_SECONDS = 0.5


def quietest(samples: np.ndarray, sample_rate: int, seconds: float = PAUSE_SECONDS) -> int:
    """Return the index of the middle of the quietest `seconds` of float32 (n,), n > 0.

    Of several the first. What counts is the energy of the differences of successive samples: a
    first-order high-pass, so that hum, rumble and a constant offset do not pass for speech.
    """
    width = max(1, min(round(seconds * sample_rate), len(samples)))
    power = np.square(np.diff(samples, prepend=samples[:1]), dtype=np.float64)
    total = np.concatenate([[0.0], np.cumsum(power)])
    return int((total[width:] - total[:-width]).argmin()) + width // 2
