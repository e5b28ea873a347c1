"""libsndfile: what it reads, block by block, and how to hand it what is no file."""

import contextlib
import io
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import soundfile

from features.audio.parts import Damage
from features.audio.quiet import quiet
from features.audio.window import CHUNK, Chunks, Window


class Block(NamedTuple):
    """Some samples of a recording: float32 (n, channels), n > 0, at `rate` Hz."""

    rate: float
    samples: np.ndarray


class ForwardFile(soundfile.SoundFile):
    """A sound file that is read from its start to its end.

    soundfile seeks to where it already is after every read of a seekable file, which libsndfile
    gets wrong near the end of Opus streams and in FLAC files of unknown length.
    """

    def seekable(self) -> bool:
        return False


class _Rewound(io.RawIOBase):
    """A pipe that libsndfile opens as a FLAC file: it wants to go back to the start once."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._head = b""
        self._place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Pretend to go anywhere; only what was read first is really there to be read again."""
        self._place = offset + (0, self._place, 1 << 62)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        again = self._head[self._place : self._place + len(buffer)]
        data = again + self._window.take(len(buffer) - len(again))
        if self._place <= len(self._head) < CHUNK:
            self._head += data[len(again) :]
        self._place += len(data)
        buffer[: len(data)] = data
        return len(data)


def open_file(file: str | os.PathLike[str] | Any) -> ForwardFile:
    """Open a path or a seekable binary file. Raises LibsndfileError; TypeError without a header."""
    if isinstance(file, str | os.PathLike):
        # soundfile encodes strings strictly, which names of other alphabets do not survive
        file = os.fspath(file) if os.name == "nt" else os.fsencode(file)
    return ForwardFile(file)


def open_flac(chunks: Iterable[bytes]) -> ForwardFile:
    """Open the FLAC file that `chunks` are, as they come. Raises LibsndfileError."""
    return ForwardFile(_Rewound(Window(Chunks(chunks))))  # pyright: ignore[reportArgumentType]


@contextlib.contextmanager
def open_bytes(chunks: Iterable[bytes]) -> Iterator[ForwardFile]:
    """Open what `chunks` hold together, as they come. Raises LibsndfileError.

    libsndfile reads what has no end only from a descriptor, so a thread writes them into a pipe.
    They are used by no other thread once this is left without an error.
    """
    outlet, inlet = os.pipe()

    def pour() -> None:
        gone = (BrokenPipeError, ValueError)  # the reader; the source, closed after an error
        with contextlib.suppress(*gone), os.fdopen(inlet, "wb", 0) as file:
            for chunk in chunks:
                file.write(chunk)

    thread = threading.Thread(target=pour, daemon=True)
    thread.start()
    try:
        file = ForwardFile(outlet, closefd=True)
    except soundfile.LibsndfileError:
        thread.join()  # libsndfile closed the descriptor
        raise
    with file:
        yield file
    thread.join()


def read_blocks(file: ForwardFile, seconds: float, damage: Damage) -> Iterator[Block]:
    """Yield the rest of `file` in blocks of about `seconds`, up to where it cannot be decoded."""
    rate = file.samplerate
    buffer = np.empty((_block_frames(file, seconds), file.channels), np.float32)
    done, ended = 0, False
    while not ended:
        # soundfile does not tell how much it decoded before an error: it is what is not NaN.
        buffer.fill(np.nan)
        try:
            with quiet if file.format == "MP3" else contextlib.nullcontext():
                decoded = len(file.read(out=buffer))
            ended = decoded < len(buffer)
        except soundfile.LibsndfileError:
            decoded, ended = _leading_numbers(buffer), True
            damage.note(f"only its first {(done + decoded) / rate:.2f} s can be decoded")
        if decoded:
            yield Block(rate, buffer[:decoded])
        done += decoded


def _block_frames(file: ForwardFile, seconds: float) -> int:
    return max(1, min(round(seconds * file.samplerate), file.frames + 1))


def _leading_numbers(buffer: np.ndarray) -> int:
    """Count the rows before the first NaN in a (frames, channels) buffer."""
    unwritten = np.isnan(buffer).any(axis=1)
    return int(unwritten.argmax()) if unwritten.any() else len(buffer)
