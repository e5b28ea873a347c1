"""The decoder of MP3 writes to the standard error of the process what it thinks of a frame."""

import os
import tempfile
import threading

CHATTER = (b"[src/libmpg123", b"Note: ", b"Warning: Xing", b"Warning: Encountered")


class _Quiet:
    """A context, for any number of threads, in which lines of libmpg123 are dropped.

    libsndfile offers no way to ask it for silence. What others write meanwhile is held back and
    written when the last thread leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._stderr = -1
        self._held = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                return
            try:
                self._stderr = os.dup(2)
            except OSError:  # this process has no standard error
                return
            self._held = tempfile.TemporaryFile()
            os.dup2(self._held.fileno(), 2)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside or self._held is None:
                return
            os.dup2(self._stderr, 2)
            os.close(self._stderr)
            with self._held as held:
                held.seek(0)
                kept = [line for line in held if not line.startswith(CHATTER)]
            self._held = None
            if kept:
                os.write(2, b"".join(kept))


quiet = _Quiet()
