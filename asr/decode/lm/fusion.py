"""The protocol of all that guides a beam search, and how several guides add up.

A `Fusion` adds a log-score to a hypothesis whenever it grows by a label, and one when it ends. It
sees the labels that make up the text, with exactly one separator between two words and at most one
at the end; whether or not the last separator is there must not change the sum.
"""

import functools
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np

CACHED_ROWS = 2**14


class Fusion(Protocol):
    """States are immutable. Forbidden growth and forbidden ends score -inf."""

    def start(self) -> Any:
        """The state of the empty text."""
        ...

    def rows(self, states: Sequence[Any], /) -> np.ndarray:
        """What growing by each label adds, (states, labels); 0 for the blank."""
        ...

    def advance(self, state: Any, label: int, /) -> Any:
        """The state after `label`."""
        ...

    def final(self, state: Any, /) -> float:
        """What ending the text here adds."""
        ...


class CachedRows:
    """Computes the row of a hashable state once."""

    def __init__(self) -> None:
        self.row = functools.lru_cache(CACHED_ROWS)(self._row)

    def _row(self, state: Any) -> np.ndarray:
        raise NotImplementedError

    def rows(self, states: Sequence[Hashable]) -> np.ndarray:
        return np.stack([self.row(state) for state in states])


class Sum:
    """Several guides at once."""

    def __init__(self, parts: Sequence[Fusion]) -> None:
        self._parts = parts

    def start(self) -> tuple[Any, ...]:
        return tuple(part.start() for part in self._parts)

    def rows(self, states: Sequence[tuple[Any, ...]]) -> np.ndarray:
        columns = zip(*states, strict=True)
        rows = (part.rows(own) for part, own in zip(self._parts, columns, strict=True))
        return functools.reduce(np.add, rows)

    def advance(self, state: tuple[Any, ...], label: int) -> tuple[Any, ...]:
        return tuple(part.advance(own, label) for part, own in zip(self._parts, state, strict=True))

    def final(self, state: tuple[Any, ...]) -> float:
        return sum(part.final(own) for part, own in zip(self._parts, state, strict=True))
