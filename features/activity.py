"""Where somebody speaks and where nobody does, by the energy of the sound."""

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


def spoken_span(samples: np.ndarray, sample_rate: int) -> tuple[int, int]:
    """From where to where (samples) something is said in float32 (n,): where 20 ms are louder than
    30 dB under the loudest and 6 dB above the quietest tenth, or than 10 dB under the loudest.
    """
    size = max(1, sample_rate // 50)
    count = len(samples) // size
    if not count:
        return 0, len(samples)
    power = np.square(samples[: count * size].reshape(count, size)).mean(axis=1)
    peak = power.max()
    loud = np.flatnonzero(power >= min(max(1e-3 * peak, 4.0 * np.quantile(power, 0.1)), 0.1 * peak))
    return int(loud[0]) * size, (int(loud[-1]) + 1) * size
