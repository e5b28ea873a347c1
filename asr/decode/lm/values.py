"""Numbers by their places: arrays, or what stands for them in a compact file."""

from typing import Protocol, overload

import numpy as np


class Values(Protocol):
    """What can be asked for the number at a place, or for those at many."""

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, place: int, /) -> float: ...

    @overload
    def __getitem__(self, place: np.ndarray | slice, /) -> np.ndarray: ...
