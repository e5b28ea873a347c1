"""Ogg pages (RFC 3533): where a chained stream goes on, and which pages are damaged."""

import zlib
from collections.abc import Iterator

from features.audio.parts import Damage, Unit
from features.audio.window import Window

CAPTURE = b"OggS"
HEADER = 27  # bytes before the table of segments
LONGEST = HEADER + 255 + 255 * 255
BEGINS = 2  # a flag of the first page of a stream
REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def ogg_pages(window: Window, damage: Damage) -> Iterator[Unit]:
    """Yield the sound pages of an Ogg file; a part is a link of a chain.

    Ends where no further page is found. Damaged pages are left out and counted in `damage`.
    """
    part, began, lost = 0, True, 0
    while head := window.ahead(LONGEST):
        page = _page(head)
        if not page:
            lost += len(window.take(_to_next(head)))
            continue
        if lost:
            damage.hole(lost)
            lost = 0
        begins = bool(page[5] & BEGINS)
        part += begins and not began  # several streams of one link begin side by side
        began = begins
        window.take(len(page))
        yield Unit(part, page)
    if lost:
        damage.note("it ends inside a page")


def _page(head: bytes) -> bytes:
    """Return the page that `head` begins with, b"" if there is none or its checksum differs."""
    if not head.startswith(CAPTURE) or len(head) < HEADER:
        return b""
    body = HEADER + head[26]
    page = head[: body + sum(head[HEADER:body])]
    blank = page[:22] + bytes(4) + page[26:]
    return page if _checksum(blank) == int.from_bytes(page[22:26], "little") else b""


def _checksum(data: bytes) -> int:
    """Return Ogg's CRC-32: that of zlib with the bits of bytes and result the other way round,
    beginning with 0 and not inverted."""
    value = zlib.crc32(data.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "little").translate(REVERSED), "big")


def _to_next(head: bytes) -> int:
    """Return how many bytes to skip to where the next page may begin."""
    place = head.find(CAPTURE, 1)
    if place > 0:
        return place
    return max(1, len(head) - len(CAPTURE) + 1) if len(head) == LONGEST else len(head)
