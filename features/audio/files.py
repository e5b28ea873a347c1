"""Files of any kind, on disk or in memory, as blocks of samples."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import soundfile

from features.audio.errors import AudioError
from features.audio.flac import MAGIC, flac_streams
from features.audio.folders import MEDIA_SUFFIXES
from features.audio.headers import LONGEST, Mended, mended
from features.audio.media import REMEDY, begins_media, media_blocks, media_reader
from features.audio.mp3 import begins_mp3, is_counted, mp3_frames
from features.audio.ogg import CAPTURE, ogg_pages
from features.audio.parts import Damage, Unit, parts
from features.audio.sndfile import Block, open_bytes, open_file, open_flac, read_blocks
from features.audio.window import Window

Split = Callable[[Window, Damage], Iterator[Unit]]


def file_blocks(source: Any, name: str, seconds: float, damage: Damage) -> Iterator[Block]:
    """Yield the samples of a path or a seekable binary file, from its beginning.

    What is wrong and leaves something to decode is counted in `damage`. Raises AudioError.
    """
    with _opened(source, name) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(LONGEST)
        if not head:
            raise AudioError(f"{name}: is an empty file; record or copy it again")
        header = mended(head, size)
        if header is not None:
            damage.note(header.fault)
            file.seek(0)
            yield from mended_blocks(Window(file), header, seconds, damage)
            return
        split = splitter(head)
        if split and not _is_plain(split, file):
            file.seek(0)
            yield from split_blocks(split, Window(file), seconds, damage)
            return
    _rewind(source)
    if begins_media(head):
        yield from media_blocks(source, name, seconds, damage)
    else:
        yield from _plain_blocks(source, name, seconds, damage)


def splitter(head: bytes) -> Split | None:
    """Return what takes apart the kind of file that `head` begins, None for other kinds."""
    if head.startswith(CAPTURE):
        return ogg_pages
    if head.startswith(MAGIC):
        return flac_streams
    return mp3_frames if begins_mp3(head) else None


def split_blocks(split: Split, window: Window, seconds: float, damage: Damage) -> Iterator[Block]:
    """Yield the samples of all parts, one after the other."""
    opened = open_flac if split is flac_streams else open_bytes
    for part in parts(split(window, damage)):
        try:
            with opened(part) as file:
                yield from read_blocks(file, seconds, damage)
        except soundfile.LibsndfileError:
            damage.note("a part of it cannot be decoded")


def mended_blocks(
    window: Window, header: Mended, seconds: float, damage: Damage
) -> Iterator[Block]:
    """Yield the samples of a file whose first bytes are replaced. Raises LibsndfileError."""

    def chunks() -> Iterator[bytes]:
        window.take(len(header.header))
        yield header.header
        yield from iter(window.read1, b"")

    with open_bytes(chunks()) as file:
        yield from read_blocks(file, seconds, damage)


def _is_plain(split: Split, file: Any) -> bool:
    """Whether libsndfile reads all of it by itself: one part, undamaged and of known length."""
    file.seek(0)
    damage = Damage()
    units = split(Window(file), damage)
    first = last = next(units, None)
    if first is None:
        return True
    for unit in units:
        last = unit
    one = last is not None and last.part == 0
    return one and not damage and (split is not mp3_frames or is_counted(first.data))


def _plain_blocks(source: Any, name: str, seconds: float, damage: Damage) -> Iterator[Block]:
    try:
        file = open_file(source)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless '.raw'
        reason = getattr(error, "error_string", "no header").rstrip(".")
        yield from _last_resort(source, name, seconds, damage, reason)
        return
    with file:
        yield from read_blocks(file, seconds, damage)


def _last_resort(
    source: Any, name: str, seconds: float, damage: Damage, reason: str
) -> Iterator[Block]:
    """What libsndfile does not open, `media` may, under rarer names and in rarer states."""
    if media_reader():
        _rewind(source)
        decoded = False
        with contextlib.suppress(AudioError):
            for block in media_blocks(source, name, seconds, damage):
                decoded = True
                yield block
        if decoded:
            return
    remedy = "convert it to WAV or FLAC, or copy it again"
    if not media_reader() and Path(name).suffix.lower() in MEDIA_SUFFIXES:
        remedy = REMEDY
    raise AudioError(f"{name}: cannot be decoded ({reason}); {remedy}")


def _rewind(source: Any) -> None:
    """Have a file object read from its beginning again."""
    if not isinstance(source, str | os.PathLike):
        source.seek(0)


@contextlib.contextmanager
def _opened(source: Any, name: str) -> Iterator[Any]:
    """Give a seekable binary file: `source` itself, or what is at that path. Raises AudioError."""
    if not isinstance(source, str | os.PathLike):
        yield source
        return
    path = Path(source)
    try:
        if path.is_dir():
            raise AudioError(f"{name}: is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise AudioError(f"{name}: is not a regular file; save the audio to one first")
        file = path.open("rb")
    except (OSError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{name}: {why_unopened(error)}") from None
    with file:
        yield file


def why_unopened(error: OSError | ValueError) -> str:
    """Say why a path leads to nothing that can be read, and what to do."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        return "no such file; check the path"  # ValueError: a NUL in it
    if isinstance(error, PermissionError):
        return "may not be read; change its permissions"
    return f"cannot be read ({error.strerror}); copy it to another place"
