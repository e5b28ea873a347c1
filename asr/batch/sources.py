"""What the commands do with files: find them, and recognise each in the format that is wanted."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.batch.locations import LocationError, Url, find_urls, is_url, opened
from asr.batch.workers import File, Report, Work
from asr.decode.keywords.typed import SpotOptions
from asr.decode.options import DecodeOptions
from asr.transcripts.formats import (
    EventFormat,
    Format,
    detection_line,
    detections_line,
    document,
)
from features.audio import AudioError, find_audio


@dataclass(frozen=True)
class Source:
    """A file to recognise, and its place below the folder that was asked for."""

    path: File
    place: Path

    def state(self) -> tuple[str, int, int | str]:
        """Return its whole name, its bytes, and what changes when it is written again."""
        if isinstance(self.path, Url):
            return str(self.path), self.path.size, self.path.version
        size, modified = 0, 0
        with contextlib.suppress(OSError):  # a file that cannot be examined fails when it is read
            facts = self.path.stat()
            size, modified = facts.st_size, facts.st_mtime_ns
        return str(self.path.resolve()), size, modified


def find_sources(paths: Iterable[str | os.PathLike[str]]) -> list[Source | AudioError]:
    """Return the audio files that paths and URLs stand for, or in place of them what is wrong."""
    sources: list[Source | AudioError] = []
    for path in paths:
        try:
            if is_url(str(path)):
                sources += [Source(*found) for found in find_urls(str(path))]
            else:
                sources += _local_sources(Path(path))
        except LocationError as error:
            sources.append(AudioError(str(error)))
        except AudioError as error:
            sources.append(error)
    return sources


def _local_sources(path: Path) -> list[Source]:
    folder = path if path.is_dir() else path.parent
    return [Source(file, file.relative_to(folder)) for file in find_audio(path)]


def transcriber(model: str, options: DecodeOptions, format: Format, **session: Any) -> Work:
    """Return a function that transcribes a file in `format`; `session` is for `load`.

    Raises ModelError, CardError, DecodeError.
    """
    from asr.model import load
    from asr.recognise import transcribe, transcribing_stream

    recogniser = load(model, **session)
    transcribing_stream(recogniser, options)  # so that options are refused once, not for every file

    def work(file: File, report: Report) -> str:
        with opened(file) as source:
            transcript = transcribe(recogniser, source, options=options, progress=report)
        return document(transcript, str(file), format)

    return work


def spotter(
    model: str,
    options: SpotOptions | None,
    format: EventFormat,
    whole: bool = False,
    **session: Any,
) -> Work:
    """Return a function that finds a file's keywords; `session` is for `load`.

    whole: all of a file in one line of JSON, not a line for each. Raises ModelError, CardError,
    DecodeError.
    """
    from asr.model import load
    from asr.recognise import spot, spotting_stream

    spots = load(model, **session)
    spotting_stream(spots, options)  # so that keywords are refused once, not for every file

    def work(file: File, report: Report) -> str:
        with opened(file) as source:
            events = spot(spots, source, options=options, progress=report)
        if whole:
            return detections_line(events, str(file))
        return "".join(detection_line(event, str(file), format) for event in events)

    return work
