"""Signs of life: how whoever holds something that others may take up says that it still works."""

import contextlib
import threading
from collections.abc import Callable, Iterator

RENEWED_SECONDS = 20.0  # between two signs of life
STALE_SECONDS = 120.0  # without one, after which another may take it up


@contextlib.contextmanager
def renewed(renew: Callable[[], object]) -> Iterator[None]:
    """Call `renew` every RENEWED_SECONDS, from a thread, until the block has ended."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(RENEWED_SECONDS):
            with contextlib.suppress(Exception):  # one that is missed is followed by another
                renew()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
