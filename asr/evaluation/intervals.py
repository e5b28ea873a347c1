"""How sure a figure is: 95 % confidence intervals of shares and of error rates."""

import numpy as np

CONFIDENCE_Z = 1.96  # two-sided 95 % of the normal distribution
QUANTILES = (0.025, 0.975)
RESAMPLES = 1000
SEED = 0


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson, 1927)."""
    share, z = right / n, CONFIDENCE_Z
    centre = share + z * z / (2 * n)
    spread = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, float((centre - spread) / scale)), min(1.0, float((centre + spread) / scale))


def bootstrap_interval(errors: np.ndarray, lengths: np.ndarray) -> tuple[float, float]:
    """95 % interval of sum(errors) / sum(lengths), resampling the utterances, or the speakers, that
    they are counted over (Bisani & Ney, 2004)."""
    rng = np.random.default_rng(SEED)
    draws = rng.integers(len(errors), size=(RESAMPLES, len(errors)))
    rates = errors[draws].sum(axis=1) / lengths[draws].sum(axis=1)
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


def percent(share: float, interval: tuple[float, float]) -> str:
    """A share and its interval as tables show them, in percent."""
    low, high = interval
    return f"{100 * share:.2f} ({100 * low:.1f} to {100 * high:.1f})"
