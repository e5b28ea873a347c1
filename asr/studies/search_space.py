"""What a search for hyper-parameters varies: fields of a configuration, in ranges and choices."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import Trial

from asr.training.config import parse_setting
from features.errors import EarshotError

GRID_POINTS = 5  # of a range that a grid divides
MANY_TIMES = 10.0  # a range that spans so much is one of magnitudes
DEFAULTS = (
    "optimisation.learning_rate=5e-4..1e-2",
    "optimisation.weight_decay=1e-3..0.1",
    "model.encoder.dropout=0.0..0.4",
)


class SpaceError(EarshotError, ValueError):
    """A range that cannot be searched."""


@dataclass(frozen=True)
class Span:
    """All numbers from low to high, both included; whole ones if both are ints."""

    low: float
    high: float

    @property
    def log(self) -> bool:
        """Whether it spans so much that its logarithm is drawn."""
        return self.low > 0 and self.high / self.low >= MANY_TIMES

    def suggest(self, trial: Trial, key: str) -> Any:
        """Return the value of a trial."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)

    def grid(self) -> list[Any]:
        """Return GRID_POINTS values, evenly spaced; fewer if there are fewer whole numbers."""
        spaced = np.geomspace if self.log else np.linspace
        points = spaced(self.low, self.high, GRID_POINTS).clip(self.low, self.high).tolist()
        if isinstance(self.low, int) and isinstance(self.high, int):
            return sorted({round(point) for point in points})
        return points


@dataclass(frozen=True)
class Choice:
    """One of these values, as an override spells them."""

    values: tuple[str, ...]

    def suggest(self, trial: Trial, key: str) -> Any:
        """Return the value of a trial."""
        return trial.suggest_categorical(key, self.values)

    def grid(self) -> list[Any]:
        """Return all values."""
        return list(self.values)


Space = dict[str, Span | Choice]


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], Space]:
    """Return the overrides that fix a field, and the space of those that give it a range.

    A range is `field=low..high` or `field=a|b|c`. Raises SpaceError, ConfigError.
    """
    fixed: list[str] = []
    space: Space = {}
    for override in overrides:
        key, _, text = override.partition("=")
        dimension = _dimension(key, text)
        if dimension is None:
            fixed.append(override)
        else:
            space[key] = dimension
    return fixed, space


def _dimension(key: str, text: str) -> Span | Choice | None:
    if "|" in text:
        values = tuple(dict.fromkeys(text.split("|")))
        for value in values:
            parse_setting(key, value)
        if len(values) < 2:
            raise SpaceError(f"{key}={text}: is one value only; write it without |")
        return Choice(values)
    low, _, high = text.partition("..")
    if not (_is_number(low) and _is_number(high)):
        return None  # perhaps a path
    ends = parse_setting(key, low), parse_setting(key, high)
    if not ends[0] < ends[1]:
        raise SpaceError(f"{key}={text}: is no range from a lower to a higher number")
    return Span(*ends)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def grid(space: Space) -> list[dict[str, Any]]:
    """Return every combination of the grids of the dimensions."""
    rows = itertools.product(*(dimension.grid() for dimension in space.values()))
    return [dict(zip(space, row, strict=True)) for row in rows]


def suggest(space: Space, trial: Trial) -> list[str]:
    """Return the overrides of a trial."""
    return as_overrides({key: space[key].suggest(trial, key) for key in space})


def as_overrides(parameters: dict[str, Any]) -> list[str]:
    """Return the values of a trial as overrides of a configuration."""
    return [f"{key}={value}" for key, value in parameters.items()]
