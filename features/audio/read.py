"""The ways in: whatever holds sound becomes float32 (samples,) at a model's rate."""

import io
import itertools
import os
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from features.audio.arrays import NAME as ARRAY
from features.audio.arrays import array_samples
from features.audio.errors import AudioError
from features.audio.files import file_blocks
from features.audio.mix import Mixer
from features.audio.parts import Damage
from features.audio.pipes import pipe_blocks, raw_blocks
from features.audio.resample import check_rate, resample, resample_blocks
from features.audio.samples import fault_of
from features.audio.sndfile import Block
from features.paths import shown

# A path, the bytes of a file, a binary file object, or samples: (n,) or (n, channels).
Source = str | os.PathLike[str] | bytes | bytearray | BinaryIO | ArrayLike

WHOLE_SECONDS = 30.0  # blocks in which a file is decoded to be read whole
PIPE = "standard input"


def read_audio(source: Source, sample_rate: int, *, source_rate: float | None = None) -> np.ndarray:
    """Return the whole of `source` as float32 (samples,) at `sample_rate` Hz, at least one sample.

    source: a path; the content of an audio file as bytes; a binary file object, read from its
        beginning if it can seek; or samples (n,) or (n, channels) in anything array-like. Floats
        are taken as they are, integers are divided by their full scale.
    source_rate: rate of an array in Hz, `sample_rate` if not given. A file states its own.
    Raises AudioError.
    """
    blocks = _mono(source, sample_rate, source_rate, WHOLE_SECONDS)
    pieces = [
        resample(np.concatenate([block for _, block in run]), rate, sample_rate)
        for rate, run in itertools.groupby(blocks, key=itemgetter(0))
    ]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def stream_audio(
    source: Source,
    sample_rate: int,
    *,
    source_rate: float | None = None,
    block_seconds: float = 4.0,
) -> Iterator[np.ndarray]:
    """Yield `source` as float32 (n,) blocks at `sample_rate` Hz, a file in constant memory.

    A block holds about `block_seconds`; n varies and is never 0. Together the blocks are what
    `read_audio` returns. Raises AudioError, at the block where the trouble is.
    """
    return _at_rate(_mono(source, sample_rate, source_rate, block_seconds), sample_rate)


def stream_pipe(
    pipe: BinaryIO,
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
    damage = Damage()
    if source_rate is not None:
        check_rate(source_rate, PIPE)
        blocks = raw_blocks(pipe, source_rate, PIPE, damage)
    elif pipe.seekable():  # a file that was redirected
        blocks = file_blocks(pipe, PIPE, block_seconds, damage)
    else:
        blocks = pipe_blocks(pipe, PIPE, block_seconds, damage)
    return _at_rate(_mixed(blocks, PIPE, damage), sample_rate)


def name_of(source: Source) -> str:
    """Return what messages call `source`."""
    if isinstance(source, str | os.PathLike):
        return shown(source)
    if isinstance(source, bytes | bytearray) or hasattr(source, "read"):
        name = getattr(source, "name", None)
        return shown(name) if isinstance(name, str) else "audio file in memory"
    return ARRAY


def _mono(
    source: Any, sample_rate: int, source_rate: float | None, seconds: float
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the rate and the samples, float32 (n,), n > 0, of each block. Raises AudioError."""
    name, damage = name_of(source), Damage()
    if name == ARRAY:
        rate = sample_rate if source_rate is None else source_rate
        blocks = iter([Block(rate, array_samples(source))])
    elif source_rate is not None:
        raise AudioError(f"{name}: a file states its own rate; leave source_rate out")
    elif isinstance(source, bytes | bytearray):
        blocks = file_blocks(io.BytesIO(source), name, seconds, damage)
    elif hasattr(source, "read") and not _seekable(source, name):
        blocks = pipe_blocks(source, name, seconds, damage)
    else:
        blocks = file_blocks(source, name, seconds, damage)
    yield from _mixed(blocks, name, damage)


def _seekable(file: Any, name: str) -> bool:
    if isinstance(file, io.TextIOBase):
        raise AudioError(f"{name}: is a text file; open it in binary mode")
    return hasattr(file, "seekable") and file.seekable()


def _mixed(
    blocks: Iterator[Block], name: str, damage: Damage
) -> Iterator[tuple[float, np.ndarray]]:
    """Mix the channels of blocks and check their samples. Raises AudioError."""
    done = False
    for (rate, channels), run in itertools.groupby(blocks, lambda b: (b.rate, b.samples.shape[1])):
        check_rate(rate, name)
        mixer = Mixer(channels, rate, name)
        for mixed in itertools.chain((mixer.push(block.samples) for block in run), mixer.rest()):
            if fault := fault_of(mixed):
                raise AudioError(f"{name}: {fault}")
            if len(mixed):
                done = True
                yield rate, mixed
    if not done:
        raise AudioError(f"{name}: no sample can be decoded from it; record or copy it again")
    damage.report(name)


def _at_rate(blocks: Iterator[tuple[float, np.ndarray]], sample_rate: int) -> Iterator[np.ndarray]:
    for rate, run in itertools.groupby(blocks, key=itemgetter(0)):
        yield from resample_blocks((block for _, block in run), rate, sample_rate)
