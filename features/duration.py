"""How long an audio file is."""

import os

import soundfile

from features.audio.read import read_audio
from features.audio.sndfile import open_file

COUNTED_RATE = 16_000  # of a file that is decoded to be measured


def stated_duration(path: str | os.PathLike[str]) -> float | None:
    """Return the seconds of audio by a file's header, None if it has no such header.

    Good enough to show how far one has come: the header of a damaged file can be wrong.
    """
    try:
        with open_file(path) as file:
            return file.frames / file.samplerate or None
    except (OSError, ValueError, TypeError, soundfile.LibsndfileError):
        return None


def duration(path: str | os.PathLike[str]) -> float:
    """Return the seconds of audio by a file's header, or by decoding it if its header does not say
    it, as those of phones and films do not. Raises AudioError if it cannot be read."""
    return stated_duration(path) or len(read_audio(path, COUNTED_RATE)) / COUNTED_RATE
