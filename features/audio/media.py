"""What phones, browsers and video cameras record, through PyAV or an `ffmpeg` on the PATH."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soundfile

from features.audio.errors import AudioError
from features.audio.parts import Damage
from features.audio.sndfile import Block, ForwardFile, read_blocks
from features.audio.window import CHUNK, Window

REMEDY = 'install PyAV (pip install "earshot-asr[media]") or ffmpeg'

# Containers of sound and no others: no playlist or script that would open further files.
CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,eac3,flac,flv,loas,matroska,mov,mp3,mpc,"
    "mpc8,mpeg,mpegts,ogg,rm,tak,tta,voc,w64,wav,wv"
)
PROTOCOLS = "file,pipe"
SIGNATURES = (  # (where, what) a container that libsndfile does not read begins with
    (4, b"ftyp"),  # MP4, M4A, 3GP, MOV
    (4, b"moov"),
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF: WMA
    (0, b"#!AMR"),
    (0, b"\xff\xf1"),  # AAC
    (0, b"\xff\xf9"),
    (0, b"FLV\x01"),
    (0, b"wvpk"),
    (0, b"MAC "),  # Monkey's Audio
    (0, b"TTA1"),
)
SEEKING = ((4, b"ftyp"), (4, b"moov"))  # may keep at their end what is needed first


def media_reader() -> str:
    """Return what reads such files here: "PyAV", "ffmpeg", or "" if nothing does."""
    if importlib.util.find_spec("av"):
        return "PyAV"
    return "ffmpeg" if shutil.which("ffmpeg") else ""


def begins_media(head: bytes) -> bool:
    """Whether a file that begins with `head` is a container that libsndfile does not read."""
    return _begins(head, SIGNATURES)


def media_blocks(source: Any, name: str, seconds: float, damage: Damage) -> Iterator[Block]:
    """Yield the first sound track of a path, or of what a binary file object holds.

    Raises AudioError if there is none, or nothing here that reads it.
    """
    reader = media_reader()
    if not reader:
        raise AudioError(f"{name}: cannot be decoded without help; {REMEDY}")
    is_path = isinstance(source, str | os.PathLike)
    if reader == "PyAV":
        with Path(source).open("rb") if is_path else contextlib.nullcontext(source) as file:
            yield from _with_pyav(file, name, damage)
    else:
        with contextlib.nullcontext(source) if is_path else _stored(source) as path:
            yield from _with_ffmpeg(path, name, seconds, damage)


def piped_media_blocks(
    window: Window, name: str, seconds: float, damage: Damage
) -> Iterator[Block]:
    """Yield the first sound track of what comes through a pipe, as `media_blocks` does."""
    if _begins(window.ahead(16), SEEKING):
        with _stored(window) as path:
            yield from media_blocks(path, name, seconds, damage)
    else:
        yield from media_blocks(window, name, seconds, damage)


def _begins(head: bytes, signatures: tuple[tuple[int, bytes], ...]) -> bool:
    return any(head[place : place + len(what)] == what for place, what in signatures)


@contextlib.contextmanager
def _stored(source: Any) -> Iterator[str]:
    """Give the path of a temporary file that holds all that `source` does."""
    with tempfile.NamedTemporaryFile(prefix="earshot-") as file:
        shutil.copyfileobj(source, file, CHUNK)
        file.flush()
        yield file.name


def _with_pyav(file: Any, name: str, damage: Damage) -> Iterator[Block]:
    import av
    from av.audio.resampler import AudioResampler
    from av.error import FFmpegError

    limits = {"format_whitelist": CONTAINERS, "protocol_whitelist": PROTOCOLS}
    try:
        tags: dict[str, Any] = {"metadata_errors": "ignore"}
        if int(av.__version__.split(".")[0]) >= 19:  # it has no such option
            tags = {}
        container = av.open(file, container_options=limits, **tags)
    except (FFmpegError, ValueError) as error:
        raise AudioError(_undecoded(name, str(getattr(error, "strerror", error)))) from None
    with container:
        if not container.streams.audio:
            raise AudioError(f"{name}: has no sound track; choose a file with sound")
        packed = AudioResampler(format="flt")
        for frame in _frames(container, damage):
            for plain in packed.resample(frame):
                channels = plain.layout.nb_channels
                yield Block(plain.sample_rate, plain.to_ndarray().reshape(-1, channels))


def _frames(container: Any, damage: Damage) -> Iterator[Any]:
    """Yield the frames of the first sound track; what cannot be decoded is counted."""
    from av.error import FFmpegError, InvalidDataError

    packets = container.demux(container.streams.audio[0])
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except FFmpegError as error:
            damage.note(f"some of it cannot be decoded ({error.strerror})")
            if not isinstance(error, InvalidDataError):
                return
            continue
        yield from frames


def _with_ffmpeg(path: Any, name: str, seconds: float, damage: Damage) -> Iterator[Block]:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-format_whitelist", CONTAINERS]
    command += ["-protocol_whitelist", PROTOCOLS, "-i", b"file:" + os.fsencode(path)]
    command += ["-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        try:
            with ForwardFile(process.stdout.fileno(), closefd=False) as file:
                yield from read_blocks(file, seconds, damage)
        except soundfile.LibsndfileError:
            process.wait()
            raise AudioError(_undecoded(name, _last_line(errors))) from None
        if process.wait() or errors.tell():
            damage.note(f"some of it cannot be decoded ({_last_line(errors)})")


def _last_line(errors: Any) -> str:
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].rpartition(": ")[2] if lines else "no sound track"


def _undecoded(name: str, reason: str) -> str:
    remedy = "convert it to WAV or FLAC, or copy it again"
    return f"{name}: cannot be decoded ({reason.strip('.')}); {remedy}"
