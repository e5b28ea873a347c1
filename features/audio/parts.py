"""A file or a pipe as its parts: recordings that were joined, and what lies around a hole.

libsndfile reads the first of joined recordings only, and gives up an MP3 at a hole. Here the units
of a format (MP3 frames, Ogg pages) are checked one by one; each run of them that belongs together
is a part, to be decoded for itself.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

logger = logging.getLogger(__name__)


class Unit(NamedTuple):
    """The bytes of a frame or page, and the number of the part that they belong to."""

    part: int
    data: bytes


@dataclass
class Damage:
    """What is wrong with a recording, collected while it is read."""

    holes: int = 0
    lost_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    def hole(self, size: int) -> None:
        """Count `size` bytes in a row that are no sound."""
        self.holes += 1
        self.lost_bytes += size

    def note(self, text: str) -> None:
        """Keep what else is to be said, once."""
        if text not in self.notes:
            self.notes.append(text)

    def __bool__(self) -> bool:
        return bool(self.holes or self.notes)

    def report(self, name: str) -> None:
        """Log one warning if anything is wrong."""
        said = list(self.notes)
        if self.holes:
            places = "one place" if self.holes == 1 else f"{self.holes} places"
            said.insert(0, f"{self.lost_bytes} bytes in {places} are no sound, the rest was read")
        if said:
            logger.warning("%s: damaged: %s", name, "; ".join(said))


def parts(units: Iterator[Unit]) -> Iterator[Iterator[bytes]]:
    """Yield the bytes of each part, to be consumed before the next one is asked for."""
    for _, members in groupby(units, key=attrgetter("part")):
        yield (unit.data for unit in members)
