"""Which files of a folder are sound."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from features.audio.errors import AudioError
from features.audio.media import REMEDY, media_reader
from features.paths import shown

logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = frozenset(
    {
        *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".sph", ".voc"),
        *(".flac", ".ogg", ".oga", ".opus"),
        *(".mp3", ".mp2", ".mp1", ".mpga"),
        *(".aiff", ".aif", ".aifc", ".caf", ".au", ".snd"),
    }
)
MEDIA_SUFFIXES = frozenset(
    {
        *(".m4a", ".m4b", ".aac", ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".amr", ".awb"),
        *(".webm", ".weba", ".mka", ".mkv", ".wma", ".wmv", ".asf", ".avi", ".flv", ".ogv"),
        *(".mpg", ".mpeg", ".rm", ".ra"),
        *(".ac3", ".eac3", ".ape", ".wv", ".tta", ".tak", ".mpc", ".dsf", ".spx"),
    }
)


def find_audio(path: str | os.PathLike[str]) -> list[Path]:
    """Return the audio files that `path` stands for, sorted.

    A file stands for itself, whatever its suffix; a folder for every file under it whose suffix
    is that of audio, hidden files apart. Files and folders that only look like it and cannot be
    read here are named in a warning. Raises AudioError if there is none.
    """
    root = Path(path)
    try:
        if not root.is_dir():
            root.stat()
            return [root]
    except (OSError, ValueError) as error:
        reason = "may not be read" if isinstance(error, PermissionError) else "no such file"
        remedy = "change its permissions" if isinstance(error, PermissionError) else "check"
        raise AudioError(f"{shown(root)}: {reason} or folder; {remedy} the path") from None
    suffixes = AUDIO_SUFFIXES | (MEDIA_SUFFIXES if media_reader() else frozenset())
    found, left_out = [], Counter()
    for file in _files(root):
        suffix = file.suffix.lower()
        if suffix in suffixes:
            found.append(file)
        elif suffix in MEDIA_SUFFIXES:
            left_out[suffix] += 1
    named = ", ".join(f"{count} {suffix}" for suffix, count in sorted(left_out.items()))
    if not found:
        raise AudioError(f"{shown(root)}: {_why_none(named)}")
    if named:
        logger.warning("%s: left out %s; %s", shown(root), named, REMEDY)
    return sorted(found)


def _why_none(left_out: str) -> str:
    if left_out:
        return f"no audio that can be read here, but {left_out}; {REMEDY}"
    known = len(AUDIO_SUFFIXES | MEDIA_SUFFIXES)
    return (
        f"no audio in this folder; check the path, or name a file: of names, {known} endings are "
        "known as audio (.wav, .flac, .ogg, .mp3, .m4a, ...)"
    )


def _files(root: Path) -> Iterator[Path]:
    """Yield all files under `root` that are not hidden; folders behind links too, each once."""
    seen = set()

    def unreadable(error: OSError) -> None:
        logger.warning("%s: left out (%s)", shown(error.filename), error.strerror)

    for folder, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names if not name.startswith("."))
