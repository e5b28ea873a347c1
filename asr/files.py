"""Files that are written whole or not at all."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from features.errors import EarshotError

ANOTHER_FILE = "name another file"


class WriteError(EarshotError, OSError):
    """A file cannot be written to where it was wanted."""


@contextlib.contextmanager
def whole_file(path: Path, remedy: str = ANOTHER_FILE) -> Iterator[Path]:
    """Yield a file beside `path` to write to; at the end it takes its place in one move.

    Folders that are missing are made. If anything goes wrong, all is as it was before. Raises
    WriteError, whose message ends with the remedy.
    """
    with writing(path, remedy):
        if path.exists() and not path.is_file():  # what stands for /dev/stdout must stay
            yield path
            return
        place = path.resolve()  # a link stays one
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name}.part")
        try:
            yield part
            part.replace(place)
        finally:
            with contextlib.suppress(OSError):  # in its place by now, or it could not be made
                part.unlink()


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
