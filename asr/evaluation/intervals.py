"""How certain a figure is: 95 % confidence intervals of shares and of error rates.

The sample of an evaluation is its speakers: recordings of one voice are right or wrong together.
Where every recording has a speaker of its own, or all have the same, recordings are the sample.
"""

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE_Z = 1.96  # two-sided 95 % of the normal distribution
QUANTILES = (0.025, 0.975)
RESAMPLES = 1000
SEED = 0


def sampling_units(speakers: Sequence[str] | np.ndarray) -> np.ndarray:
    """The number of the unit that each recording is drawn with, (recordings,): its speaker, or the
    recording itself if there is one speaker only or no speaker has two."""
    names, numbers = np.unique(np.asarray(speakers), return_inverse=True)
    return np.arange(len(speakers)) if len(names) in (1, len(speakers)) else numbers


def interval_over(speakers: Sequence[str] | np.ndarray) -> str:
    """What the intervals draw: "speakers" or "recordings"."""
    units = sampling_units(speakers)
    return "recordings" if len(np.unique(units)) == len(units) else "speakers"


def share_interval(
    counts: np.ndarray, totals: np.ndarray, speakers: Sequence[str] | np.ndarray
) -> tuple[float, float]:
    """95 % interval of sum(counts) / sum(totals), a share, (recordings,) each, over their speakers.

    Never narrower than that of independent trials: a few speakers without an error prove less than
    the bootstrap, which can draw none, makes of them.
    """
    low, high = wilson_interval(int(counts.sum()), int(totals.sum()))
    if interval_over(speakers) == "recordings":
        return low, high
    drawn = rate_interval(counts, totals, speakers)
    return min(low, drawn[0]), max(high, drawn[1])


def rate_interval(
    errors: np.ndarray, lengths: np.ndarray, speakers: Sequence[str] | np.ndarray
) -> tuple[float, float]:
    """95 % interval of sum(errors) / sum(lengths), (recordings,) each, over their speakers."""
    units = sampling_units(speakers)
    return bootstrap_interval(np.bincount(units, errors), np.bincount(units, lengths))


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a share of independent trials (Wilson, 1927)."""
    share, z = right / n, CONFIDENCE_Z
    centre = share + z * z / (2 * n)
    spread = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, float((centre - spread) / scale)), min(1.0, float((centre + spread) / scale))


def bootstrap_interval(errors: np.ndarray, lengths: np.ndarray) -> tuple[float, float]:
    """95 % interval of sum(errors) / sum(lengths), resampling the units that they are counted over
    (Bisani & Ney, 2004). A draw of units without any length has no rate and does not count."""
    rng = np.random.default_rng(SEED)
    draws = rng.integers(len(errors), size=(RESAMPLES, len(errors)))
    totals = lengths[draws].sum(axis=1)
    rates = errors[draws].sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(rates, QUANTILES)
    return float(low), float(high)


def crossed_interval(errors: np.ndarray, totals: np.ndarray) -> tuple[float, float]:
    """95 % interval of sum(errors) / sum(totals), [seeds, speakers] both.

    Seeds and speakers are drawn independently of each other, the pigeonhole bootstrap (Owen, 2007):
    what another training would give for other people.
    """
    rng = np.random.default_rng(SEED)
    seeds, speakers = errors.shape
    rates = []
    for _ in range(RESAMPLES):
        rows, columns = rng.integers(seeds, size=seeds), rng.integers(speakers, size=speakers)
        drawn = np.ix_(rows, columns)
        rates.append(errors[drawn].sum() / totals[drawn].sum())
    low, high = np.quantile(rates, QUANTILES)
    return float(low), float(high)


def poisson_bound(count: int, confidence: float = 0.95) -> float:
    """The expectation that a count of rare events proves not to be exceeded (Garwood, 1936): with
    it, so few events would come with a probability of 1 - confidence. 3.0 for none at 95 %.
    """
    low, high = 0.0, 10.0 + 2.0 * count + 10.0 * math.sqrt(count)
    for _ in range(60):
        middle = (low + high) / 2
        terms = (k * math.log(middle) - middle - math.lgamma(k + 1) for k in range(count + 1))
        few = sum(map(math.exp, terms))
        low, high = (middle, high) if few > 1.0 - confidence else (low, middle)
    return high
