"""How long an audio file says it is."""

import os

import soundfile

from features.audio.sndfile import open_file


def stated_duration(path: str | os.PathLike[str]) -> float | None:
    """Return the seconds of audio by a file's header, None if it has no such header.

    Good enough to show how far one has come: the header of a damaged file can be wrong.
    """
    try:
        with open_file(path) as file:
            return file.frames / file.samplerate or None
    except (OSError, ValueError, TypeError, soundfile.LibsndfileError):
        return None
