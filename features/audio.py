"""Reading sound: any file or array to float32 mono at the rate that a model wants.

Samples are float32 in [-1, 1]; channels are averaged; resampling is soxr's "HQ" (linear phase, 20
bits). A file read whole and the same file streamed give the same samples. What a damaged file
still holds is used, and a warning is logged that says where it ends.
"""

import contextlib
import io
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import soundfile
import soxr

from features.errors import EarshotError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif"})
RESAMPLING_QUALITY = "HQ"

# Float audio above full scale exists (an unlimited mix), 40 dB above it does not: those are
# integers in disguise, which every feature would quietly accept.
PEAK_LIMIT = 100.0
CHANNEL_LIMIT = 64
READ_FRAMES = 1 << 20
PIPE = "standard input"
PIPE_BYTES = 1 << 16

logger = logging.getLogger(__name__)


class AudioError(EarshotError, ValueError):
    """Audio that cannot be used: missing, unreadable, empty, or not made of numbers."""


class _ForwardFile(soundfile.SoundFile):
    """A sound file that is read from its start to its end.

    soundfile seeks to where it already is after every read of a seekable file, which libsndfile
    gets wrong near the end of Opus streams and in FLAC files of unknown length.
    """

    def seekable(self) -> bool:
        return False


class _Rewound(io.RawIOBase):
    """A pipe that libsndfile opens as a FLAC file: it wants to go back to the start once."""

    def __init__(self, pipe: io.BufferedReader) -> None:
        self._pipe = pipe
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
        data = again + self._pipe.read(len(buffer) - len(again))
        if self._place <= len(self._head) < PIPE_BYTES:
            self._head += data[len(again) :]
        self._place += len(data)
        buffer[: len(data)] = data
        return len(data)


def find_audio(path: str | os.PathLike[str]) -> list[Path]:
    """Return the audio files that `path` stands for, sorted.

    A file stands for itself, whatever its suffix; a folder for every file under it whose suffix
    is in `AUDIO_SUFFIXES`, hidden files apart. Raises AudioError if there is none.
    """
    root = Path(path)
    if not root.is_dir():
        if not root.exists():
            raise AudioError(f"{root}: no such file or folder; check the path")
        return [root]
    found = [
        Path(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
    ]
    if not found:
        suffixes = " ".join(sorted(AUDIO_SUFFIXES))
        raise AudioError(f"{root}: no audio in this folder; looked for {suffixes}")
    return sorted(found)


def read_audio(
    source: str | os.PathLike[str] | np.ndarray,
    sample_rate: int,
    *,
    source_rate: int | None = None,
) -> np.ndarray:
    """Return the whole of `source` as float32 (samples,) at `sample_rate` Hz, at least one sample.

    source: a path, or an array (samples,) or (samples, channels); floats are taken as they are,
        integers are divided by their full scale.
    source_rate: rate of an array in Hz, `sample_rate` if not given. A file states its own.
    Raises AudioError.
    """
    if isinstance(source, np.ndarray):
        rate = sample_rate if source_rate is None else source_rate
        if rate <= 0:
            raise AudioError(f"audio array: its rate is {rate} Hz; give the one it was recorded at")
        return _resample(_mono_array(source), rate, sample_rate)
    if source_rate is not None:
        raise AudioError(f"{source}: a file states its own rate; leave source_rate out")
    with _open(source) as file:
        blocks = list(_mono_blocks(file, source, READ_FRAMES))
        rate = file.samplerate
    mono = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return _resample(mono, rate, sample_rate)


def stream_audio(
    path: str | os.PathLike[str], sample_rate: int, *, block_seconds: float = 4.0
) -> Iterator[np.ndarray]:
    """Yield a file as float32 (n,) blocks at `sample_rate` Hz, in constant memory.

    A block holds about `block_seconds`; n varies and is never 0. Together the blocks are what
    `read_audio` returns. Raises AudioError, at the block where the trouble is.
    """
    with _open(path) as file:
        frames = max(1, round(block_seconds * file.samplerate))
        blocks = _mono_blocks(file, path, frames)
        yield from _at_rate(blocks, file.samplerate, sample_rate)


def stream_pipe(
    pipe: io.BufferedReader,
    sample_rate: int,
    *,
    source_rate: int | None = None,
    block_seconds: float = 0.25,
) -> Iterator[np.ndarray]:
    """Yield what comes through a pipe, such as sys.stdin.buffer, as `stream_audio` does.

    source_rate: None if an audio file of any format comes through the pipe; the rate in Hz of raw
        PCM, signed 16-bit little-endian mono, whose blocks are yielded as soon as they arrive.
    Raises AudioError.
    """
    if not pipe.peek(1):
        raise AudioError(f"{PIPE}: nothing comes from it; pipe a recording into it")
    if source_rate is None:
        with _open_pipe(pipe) as file:
            rate = file.samplerate
            blocks = _mono_blocks(file, PIPE, max(1, round(block_seconds * rate)))
            yield from _at_rate(blocks, rate, sample_rate)
    else:
        yield from _at_rate(_raw_blocks(pipe), source_rate, sample_rate)


def _open_pipe(pipe: io.BufferedReader) -> _ForwardFile:
    """Open the audio file that comes through a pipe, or say in one line why not."""
    try:
        if pipe.seekable():  # a file that was redirected
            return _ForwardFile(pipe)
        if pipe.peek(4).startswith(b"fLaC"):
            return _ForwardFile(cast(BinaryIO, _Rewound(pipe)))
        return _ForwardFile(_flowing_on(pipe), closefd=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{PIPE}: cannot be decoded ({error.error_string.rstrip('.')}); pipe a WAV or FLAC "
            "file into it, or say that it is raw PCM by its rate"
        ) from None


def _flowing_on(pipe: BinaryIO) -> int:
    """Return a file descriptor from which all of `pipe` can be read, also what is buffered.

    libsndfile reads most formats from a pipe only if it has the descriptor.
    """
    outlet, inlet = os.pipe()

    def flow() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(inlet, "wb") as file:
            shutil.copyfileobj(pipe, file, PIPE_BYTES)

    threading.Thread(target=flow, daemon=True).start()
    return outlet


def _raw_blocks(pipe: io.BufferedReader) -> Iterator[np.ndarray]:
    """Yield signed 16-bit little-endian samples as float32 (n,), n > 0, as they arrive."""
    odd = b""
    while data := pipe.read1(PIPE_BYTES):
        data = odd + data
        whole = len(data) - len(data) % 2
        odd = data[whole:]
        if whole:
            yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768
    if odd:
        logger.warning("%s: ends inside a sample; is it 16-bit mono PCM?", PIPE)


def _open(path: str | os.PathLike[str]) -> _ForwardFile:
    """Open a regular file for reading, or say in one line why not."""
    location = Path(path)
    if not location.exists():
        raise AudioError(f"{path}: no such file; check the path")
    if location.is_dir():
        raise AudioError(f"{path}: is a folder; name a file in it")
    if not location.is_file():
        raise AudioError(f"{path}: is not a regular file; save the audio to one first")
    try:
        return _ForwardFile(location)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless '.raw'
        raise AudioError(f"{path}: {_why_unreadable(location, error)}") from None


def _why_unreadable(path: Path, error: Exception) -> str:
    if path.stat().st_size == 0:
        return "is an empty file; record or copy it again"
    if not os.access(path, os.R_OK):
        return "may not be read; change its permissions"
    reason = getattr(error, "error_string", "no header").rstrip(".")
    return f"cannot be decoded ({reason}); convert it to WAV or FLAC, or copy it again"


def _mono_blocks(
    file: _ForwardFile, path: str | os.PathLike[str], frames: int
) -> Iterator[np.ndarray]:
    """Yield the rest of `file` as checked float32 (n,), n <= frames. Raises AudioError."""
    buffer = np.empty((min(frames, file.frames + 1), file.channels), np.float32)
    done, ended = 0, False
    while not ended:
        # soundfile does not tell how much it decoded before an error: it is what is not NaN.
        buffer.fill(np.nan)
        try:
            decoded = len(file.read(out=buffer))
            ended = decoded < len(buffer)
        except soundfile.LibsndfileError:
            decoded, ended = _leading_numbers(buffer), True
            if done + decoded:
                seconds = (done + decoded) / file.samplerate
                logger.warning("%s: damaged, only its first %.2f s were read", path, seconds)
        if decoded:
            yield _checked(_mix(buffer[:decoded]), str(path))
        done += decoded
    if not done:
        raise AudioError(f"{path}: no sample can be decoded from it; record or copy it again")


def _leading_numbers(buffer: np.ndarray) -> int:
    """Count the rows before the first NaN in a (frames, channels) buffer."""
    unwritten = np.isnan(buffer).any(axis=1)
    return int(unwritten.argmax()) if unwritten.any() else len(buffer)


def _mono_array(array: np.ndarray) -> np.ndarray:
    """Mix an array (samples,) or (samples, channels) of any real type to checked float32."""
    name = "audio array"
    if array.ndim not in (1, 2) or array.dtype.kind not in "iuf":
        raise AudioError(
            f"{name}: has shape {array.shape} and type {array.dtype}; give (samples,) or "
            f"(samples, channels) of integers or floats"
        )
    if array.size == 0:
        raise AudioError(f"{name}: holds no samples; record it again")
    if array.ndim == 2 and array.shape[1] > CHANNEL_LIMIT:
        raise AudioError(f"{name}: has {array.shape[1]} channels; give it as (samples, channels)")
    if array.dtype.kind != "f":
        limits = np.iinfo(array.dtype)
        middle = 0 if limits.min else (limits.max + 1) // 2
        array = (array.astype(np.float64) - middle) / ((limits.max - limits.min + 1) / 2)
    with np.errstate(over="ignore"):  # a double too large becomes inf, which the check names
        return _checked(_mix(array.reshape(len(array), -1).astype(np.float32)), name)


def _mix(samples: np.ndarray) -> np.ndarray:
    """Average the channels of float32 (samples, channels); the result is a fresh (samples,)."""
    return samples[:, 0].copy() if samples.shape[1] == 1 else samples.mean(axis=1)


def _checked(mono: np.ndarray, name: str) -> np.ndarray:
    """Return `mono` if every sample is a number of sensible size."""
    peak = np.maximum(mono.max(), -mono.min())
    if not np.isfinite(peak):
        raise AudioError(f"{name}: has samples that are NaN or infinite; export or record it again")
    if peak > PEAK_LIMIT:
        raise AudioError(
            f"{name}: float samples reach {peak:.4g} but belong in [-1, 1]; "
            f"divide 16-bit values by 32768"
        )
    return mono


def _resample(mono: np.ndarray, source_rate: int, sample_rate: int) -> np.ndarray:
    if source_rate == sample_rate:
        return mono
    resampled = soxr.resample(mono, source_rate, sample_rate, quality=RESAMPLING_QUALITY)
    return resampled if len(resampled) else _too_short()


def _at_rate(
    blocks: Iterator[np.ndarray], source_rate: int, sample_rate: int
) -> Iterator[np.ndarray]:
    if source_rate == sample_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(
        source_rate, sample_rate, 1, dtype="float32", quality=RESAMPLING_QUALITY
    )
    length = 0
    for block in blocks:
        resampled = resampler.resample_chunk(block)
        length += len(resampled)
        if len(resampled):
            yield resampled
    rest = resampler.resample_chunk(np.empty(0, np.float32), last=True)
    if len(rest):
        yield rest
    elif not length:
        yield _too_short()


def _too_short() -> np.ndarray:
    """Audio shorter than one output sample: a single zero, so that a file gives a result."""
    return np.zeros(1, np.float32)
