"""MPEG audio frames (layers I to III): joined files, holes, and files without a length."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from features.audio.parts import Damage, Unit
from features.audio.window import CHUNK, Window

HEADER = 4
BITRATES = {  # kbit/s by (MPEG 1 or not, layer)
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44_100, 48_000, 32_000)  # Hz in MPEG 1; halved in 2, quartered in 2.5
SYNC = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]")  # no reserved version or layer
COUNT_TAGS = {b"Xing": 8, b"Info": 8, b"VBRI": 14}  # where each keeps the number of frames
TAG_REACH = 64  # bytes of a frame in which such a tag begins
FRAMES_GIVEN = 1  # a flag of Xing and Info
TRAILER = 4096  # bytes after the last frame that may be tags of a rare kind


class Header(NamedTuple):
    """What every frame of a recording shares, and the size of this one in bytes."""

    kind: tuple[int, int, int, bool]  # version, layer, rate in Hz, mono
    size: int


class _Count:
    """Follows which part frames belong to by what the tags say about their number."""

    def __init__(self, damage: Damage) -> None:
        self.part = 0
        self.kind: tuple | None = None
        self._left: int | None = None
        self._damage = damage

    def take(self, header: Header, frame: bytes) -> int:
        """Return the part of a frame."""
        declared = _declared_frames(frame)
        ends = declared is not None or self._left == 0 or header.kind != self.kind
        if self.kind is not None and ends:
            self.cut()
        self.kind = header.kind
        if declared is not None:
            self._left = declared if declared >= 0 else None
        elif self._left:
            self._left -= 1
        return self.part

    def cut(self) -> None:
        """What comes next is another part."""
        self.part += 1
        self._left = None

    def end(self) -> None:
        """Compare what there was with what the last tag declared."""
        if self._left and self._left > 1:
            self._damage.note(f"{self._left} of the frames that it declares are missing")


def mp3_frames(window: Window, damage: Damage) -> Iterator[Unit]:
    """Yield the frames of MPEG audio; a part is a recording, or what is left of it beyond a hole.

    Tags around the frames are passed over in silence, other bytes between frames are counted in
    `damage`. Ends where no further frame is found.
    """
    count = _Count(damage)
    lost, junk, synchronous = 0, 0, False  # junk: what is lost and not just zeros
    while head := window.ahead(HEADER):
        header = frame_header(head)
        known = header is not None and synchronous and header.kind == count.kind
        if header and (known or _continues(window, header)):
            frame = window.take(header.size)
            if len(frame) < header.size:  # the usual end of what a broken recorder leaves
                break
            if lost and count.kind is not None:
                damage.hole(lost)
                count.cut()
            lost, junk, synchronous = 0, 0, True
            yield Unit(count.take(header, frame), frame)
        elif size := _tag_size(window):
            _skip(window, size)
        else:
            skipped = window.take(_to_next(window))
            lost += len(skipped)
            junk += len(skipped.strip(b"\0"))
            synchronous = False
    if junk > TRAILER:
        damage.note(f"{junk} bytes after its last frame are no sound")
    count.end()


def frame_header(data: bytes) -> Header | None:
    """Return the header that `data` begins with, None if it is none that sound can follow."""
    if len(data) < HEADER or not SYNC.match(data):
        return None
    version, layer = data[1] >> 3 & 3, 4 - (data[1] >> 1 & 3)  # version: 3 is 1, 2 is 2, 0 is 2.5
    bitrate, rate = data[2] >> 4, data[2] >> 2 & 3
    if bitrate in (0, 15) or rate == 3:
        return None
    hertz = RATES[rate] >> (0 if version == 3 else 1 if version == 2 else 2)
    bits = 1000 * BITRATES[version == 3, layer][bitrate]
    padding = data[2] >> 1 & 1
    if layer == 1:
        size = (12 * bits // hertz + padding) * 4
    else:
        size = (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding
    return Header((version, layer, hertz, data[3] >> 6 == 3), size)


def begins_mp3(data: bytes) -> bool:
    """Whether `data`, some kilobytes from the start of a file, is MPEG audio, tag or no tag."""
    if data.startswith(b"ID3"):
        return True
    header = frame_header(data)
    return header is not None and frame_header(data[header.size :]) is not None


def _continues(window: Window, header: Header) -> bool:
    """Whether a frame like this one, or the end, follows: bytes can look like one by chance."""
    following = window.ahead(header.size + HEADER)[header.size :]
    after = frame_header(following)
    return not following or (after is not None and after.kind == header.kind)


def is_counted(frame: bytes) -> bool:
    """Whether a recording that begins with this frame states how many follow."""
    return (_declared_frames(frame) or -1) >= 0


def _declared_frames(frame: bytes) -> int | None:
    """Return how many frames follow, if this frame holds no sound but a tag that may say so.

    -1 if the tag does not, None if there is no tag.
    """
    for name, place in COUNT_TAGS.items():
        start = frame.find(name, HEADER, TAG_REACH)
        if start >= 0:
            given = name == b"VBRI" or frame[start + 7] & FRAMES_GIVEN
            number = frame[start + place : start + place + 4]
            return int.from_bytes(number, "big") if given else -1
    return None


def _tag_size(window: Window) -> int:
    """Return the size of the tag (ID3, APE) that comes next, 0 if none does."""
    head = window.ahead(32)
    if head.startswith(b"ID3") and len(head) >= 10:
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head.startswith(b"TAG"):
        return 128
    if head.startswith(b"APETAGEX"):
        return 32 + int.from_bytes(head[12:16], "little")
    return 0


def _skip(window: Window, size: int) -> None:
    while size > 0 and (taken := len(window.take(min(size, CHUNK)))):
        size -= taken


def _to_next(window: Window) -> int:
    """Return how many bytes to skip to where the next frame or tag may begin."""
    head = window.ahead(CHUNK)
    places = [match.start()] if (match := SYNC.search(head, 1)) else []
    places += [place for tag in (b"TAG", b"ID3", b"APETAGEX") if (place := head.find(tag, 1)) > 0]
    return min(places, default=max(1, len(head) - 8 if len(head) == CHUNK else len(head)))
