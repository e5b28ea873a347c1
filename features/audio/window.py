"""Bytes of a file or a pipe, looked at before they are taken."""

from collections.abc import Iterable
from typing import Any

CHUNK = 1 << 16


class Window:
    """A stream of bytes with a look ahead. `read` makes it a file for whoever wants one."""

    def __init__(self, file: Any) -> None:
        self._read = getattr(file, "read1", file.read)  # what there is, without waiting for more
        self._data = b""
        self._start = 0
        self._ended = False

    def ahead(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end, without taking them."""
        while len(self._data) - self._start < size and not self._ended:
            more = self._read(CHUNK)
            self._ended = not more
            self._data = self._data[self._start :] + (more or b"")
            self._start = 0
        return self._data[self._start : self._start + size]

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        data = self.ahead(size)
        self._start += len(data)
        return data

    def read1(self, size: int = CHUNK) -> bytes:
        """Return the next bytes as they arrive, at most `size`; none only at the end."""
        self.ahead(1)
        return self.take(min(size, len(self._data) - self._start))

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, all that is left if it is negative."""
        if size >= 0:
            return self.take(size)
        return b"".join(iter(self.read1, b""))


class Chunks:
    """Bytes that come piece by piece, as a file that a Window looks at."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = filter(None, chunks)

    def read(self, size: int) -> bytes:
        """Return the next piece, of any size; none at the end."""
        return next(self._chunks, b"")
