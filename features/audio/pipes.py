"""Sound through a pipe: files of any kind as they come, and raw PCM."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile

from features.audio.errors import AudioError
from features.audio.files import mended_blocks, split_blocks, splitter
from features.audio.headers import mended
from features.audio.media import begins_media, piped_media_blocks
from features.audio.parts import Damage
from features.audio.samples import from_int16
from features.audio.sndfile import Block, ForwardFile, open_bytes, read_blocks
from features.audio.window import Window

WIDTHS = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}  # bytes
STATE_LENGTH = {"AIFF", "AU", "WAV", "WAVEX"}  # formats whose header says how much follows
NO_LENGTH = 0x7F000000  # bytes and above: what encoders write who do not know
HEAD = 1 << 12  # bytes from which to tell what comes; a live source has sent them soon


def pipe_blocks(pipe: Any, name: str, seconds: float, damage: Damage) -> Iterator[Block]:
    """Yield the samples of the audio file that comes through a pipe. Raises AudioError."""
    window = Window(pipe)
    _check_flows(window, name)
    head = window.ahead(HEAD)
    try:
        if begins_media(head):
            yield from piped_media_blocks(window, name, seconds, damage)
        elif split := splitter(head):
            yield from split_blocks(split, window, seconds, damage)
        elif header := mended(head):
            damage.note(header.fault)
            yield from mended_blocks(window, header, seconds, damage)
        else:
            with open_bytes(iter(window.read1, b"")) as file:
                yield from _counted(file, read_blocks(file, seconds, damage), damage)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{name}: cannot be decoded ({error.error_string.rstrip('.')}); pipe a WAV or FLAC "
            "file into it, or say that it is raw PCM by its rate"
        ) from None


def _counted(file: ForwardFile, blocks: Iterator[Block], damage: Damage) -> Iterator[Block]:
    """Pass blocks on, and note it if fewer samples come than the header says."""
    frames = 0
    for block in blocks:
        frames += len(block.samples)
        yield block
    width = file.channels * WIDTHS.get(file.subtype, 0)
    stated, missing = width * file.frames, width * (file.frames - frames)
    if file.format in STATE_LENGTH and missing > 0 and stated < NO_LENGTH:
        damage.note(f"{missing} of its {stated} bytes are missing")


def raw_blocks(pipe: Any, rate: int, name: str, damage: Damage) -> Iterator[Block]:
    """Yield 16-bit little-endian mono samples as they arrive. Raises AudioError."""
    window = Window(pipe)
    _check_flows(window, name)
    odd = b""
    while data := window.read1():
        data = odd + data
        whole = len(data) - len(data) % 2
        odd = data[whole:]
        if whole:
            yield Block(rate, from_int16(np.frombuffer(data[:whole], "<i2"))[:, None])
    if odd:
        damage.note("it ends inside a sample; is it 16-bit mono PCM?")


def _check_flows(window: Window, name: str) -> None:
    if not window.ahead(1):
        raise AudioError(f"{name}: nothing comes from it; pipe a recording into it")
