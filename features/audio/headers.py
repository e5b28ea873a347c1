"""Headers that were never finished: a recorder fills in the lengths at the end, unless it died."""

import struct
from typing import NamedTuple

UNKNOWN = b"\xff\xff\xff\xff"  # a length: up to the end of the file
PLACEHOLDER = 0x7FFF0000  # and above: lengths that encoders write to pipes
LONGEST = 1 << 14  # bytes in which the sound must begin
CHUNK = struct.Struct("<4sI")


class Mended(NamedTuple):
    """A header to read in place of the first bytes of a file, as many as `header` has."""

    header: bytes
    fault: str


def mended(head: bytes, size: int | None = None) -> Mended | None:
    """Return a header that leaves the length open if that in `head` is wrong; None if it is right.

    head: the first LONGEST bytes of a file, or all of it.
    size: of the file in bytes, None if it comes through a pipe.
    """
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return _mended_wav(head, size)
    if head.startswith(b".snd") and head[8:12] == bytes(4) and len(head) > 24:
        return Mended(head[:8] + UNKNOWN, "its header states no length")
    return None


def _mended_wav(head: bytes, size: int | None) -> Mended | None:
    """RIFF: name, size, then chunks of name, size, content; RF64 keeps long sizes in "ds64"."""
    long_size = None
    place = 12
    while place + CHUNK.size <= len(head):
        name, length = CHUNK.unpack_from(head, place)
        start = place + CHUNK.size
        if name == b"data":
            if head.startswith(b"RF64") and length == 0xFFFFFFFF:
                length = long_size or 0
            return _mended_data(head, start, length, size)
        if name == b"ds64":
            long_size = int.from_bytes(head[start + 8 : start + 16], "little")
        place = start + length + length % 2
    return None


def _mended_data(head: bytes, start: int, length: int, size: int | None) -> Mended | None:
    """The samples begin at `start`, and the header states `length` bytes of them."""
    follows = head[start : start + 4]
    if length == 0 and follows and not _is_chunk(head, start, size):
        header = bytearray(head[:start])
        header[:8] = b"RIFF" + UNKNOWN
        header[-4:] = UNKNOWN
        if header[12:16] == b"ds64":
            header[12:16] = b"JUNK"
        return Mended(bytes(header), "its header states no length")
    if size is not None and size - start < length < PLACEHOLDER:
        return Mended(head[:start], f"{length - (size - start)} of its {length} bytes are missing")
    return None


def _is_chunk(head: bytes, place: int, size: int | None) -> bool:
    """Whether another chunk begins at `place`: the file is a recording of no samples."""
    if len(head) < place + CHUNK.size:
        return False
    name, length = CHUNK.unpack_from(head, place)
    fits = size is None or place + CHUNK.size + length <= size
    return fits and name.isascii() and name.decode().isprintable()
