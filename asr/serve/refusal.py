"""What a client gets in place of what it asked for."""

import contextlib
from collections.abc import Iterator

from asr.runtime.samples import StreamError
from features.errors import EarshotError


class RefusedError(EarshotError):
    """A client asks for what it does not get. status: of HTTP; code: that a WebSocket closes with
    (RFC 6455, section 7.4)."""

    def __init__(self, message: str, status: int = 400, code: int = 1008) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Make an answer to the client of what the library says of its audio or its options."""
    try:
        yield
    except StreamError as error:
        raise RefusedError(str(error), 400, 1007) from None
    except RefusedError:
        raise
    except EarshotError as error:
        raise RefusedError(str(error)) from None
