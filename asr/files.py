"""Text files, read in one way; and files that are written whole or not at all."""

import codecs
import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from features.errors import EarshotError

ANOTHER_FILE = "name another file"


class ReadError(EarshotError, OSError):
    """A text file cannot be read."""


class WriteError(EarshotError, OSError):
    """A file cannot be written to where it was wanted."""


def read_bytes(path: str | os.PathLike[str], kind: str) -> bytes:
    """Return what is in a file. kind: what it should be, for the message of a ReadError."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or error
        raise ReadError(f"{path}: cannot be read as {kind} ({reason}); name a text file") from None


def read_text(path: str | os.PathLike[str], kind: str = "text") -> str:
    """Return what a text file says. kind: what it should be, for the message of a ReadError."""
    return decode_text(read_bytes(path, kind), path, kind)


def decode_text(content: bytes, path: str | os.PathLike[str], kind: str = "text") -> str:
    """Return the text of a file's content: UTF-8, with or without a byte order mark.

    Raises ReadError, which names `path` and the `kind` of file that it should be.
    """
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ReadError(
            f"{path}: cannot be read as {kind} (byte {error.start + 1} is not UTF-8); "
            "save it as text in UTF-8"
        ) from None


def split_lines(text: str) -> list[str]:
    """Return the lines of a text without their ends.

    Only a line feed ends a line, with or without a carriage return before it: `str.splitlines`
    also cuts at characters that stand inside lines, such as U+2028 in a JSON string.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def read_lines(path: str | os.PathLike[str], kind: str = "text") -> list[str]:
    """Return the lines of a text file (`read_text`, `split_lines`). Raises ReadError."""
    return split_lines(read_text(path, kind))


def parse_json(text: str) -> Any:
    """Return what a JSON text says. Raises ValueError, whatever is wrong with it."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


@contextlib.contextmanager
def whole_file(path: Path, remedy: str = ANOTHER_FILE) -> Iterator[Path]:
    """Yield a file beside `path` to write to; at the end it takes its place in one move.

    Each writer has a file of its own, so that of several at once the last to end stays, whole; what
    it wrote is on the disk before it moves, so that a power cut leaves the old file or the new one.
    Folders that are missing are made. If anything goes wrong, all is as it was before. Raises
    WriteError, whose message ends with the remedy.
    """
    with writing(path, remedy):
        if path.exists() and not path.is_file():  # what stands for /dev/stdout must stay
            yield path
            return
        place = path.resolve()  # a link stays one
        place.parent.mkdir(parents=True, exist_ok=True)
        part = _new_file(place)
        try:
            yield part
            _to_disk(part)
            part.replace(place)
        finally:
            with contextlib.suppress(OSError):  # in its place by now, or never written
                part.unlink()


def _new_file(place: Path) -> Path:
    """Make an empty hidden file beside `place`, with the mode that any new file has there."""
    # Half the name is enough to know it by, and fits where `place` has the longest name allowed.
    stem = place.name[: len(place.name) // 2]
    while True:
        part = place.with_name(f".{stem}.{secrets.token_hex(4)}.part")
        with contextlib.suppress(FileExistsError):
            part.touch(exist_ok=False)
            return part


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path, remedy: str) -> Iterator[None]:
    """Turn the system's refusal to write `path` into a WriteError."""
    try:
        yield
    except EarshotError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"{path}: cannot be written ({reason}); {remedy}") from None


def write_figures(path: Path, figures: dict[str, Any]) -> None:
    """Write figures as JSON. Raises WriteError."""
    with whole_file(path) as part:
        part.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
