"""FLAC files (RFC 9639) that were joined: where each begins."""

import re
from collections.abc import Iterator

from features.audio.parts import Damage, Unit
from features.audio.window import Window

MAGIC = b"fLaC"
# Before the magic and the head of the block that must follow it: STREAMINFO, the last or not, of
# 34 bytes. That the sound itself holds these eight bytes has a chance of 2^-63 a byte.
BEGINNING = re.compile(rb"(?=fLaC[\x00\x80]\x00\x00\x22)")
REACH = 7  # bytes that may be all but the last of a beginning


def flac_streams(window: Window, damage: Damage) -> Iterator[Unit]:
    """Yield the bytes of FLAC files one after the other, as they come; a part is a file."""
    part, held = -1, b""
    while more := window.read1():
        first, *others = BEGINNING.split(held + more)
        *whole, last = [(part, first), *enumerate(others, part + 1)]
        part, data = last
        held = data[-REACH:]
        yield from (Unit(*piece) for piece in whole if piece[1])
        yield Unit(part, data[:-REACH])
    yield Unit(part, held)
