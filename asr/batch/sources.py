"""What the commands do with files: find them, and recognise each in the format that is wanted."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.batch.workers import Report, Work
from asr.decode.keywords.typed import SpotOptions
from asr.decode.options import DecodeOptions
from asr.transcripts.formats import EventFormat, Format, detection_line, document
from features.audio import AudioError, find_audio


@dataclass(frozen=True)
class Source:
    """A file to recognise, and its place below the folder that was asked for."""

    path: Path
    place: Path


def find_sources(paths: Iterable[Path]) -> list[Source | AudioError]:
    """Return the audio files that `paths` stand for, or in place of them what is wrong."""
    sources: list[Source | AudioError] = []
    for path in paths:
        folder = path if path.is_dir() else path.parent
        try:
            sources += (Source(file, file.relative_to(folder)) for file in find_audio(path))
        except AudioError as error:
            sources.append(error)
    return sources


def transcriber(model: str, options: DecodeOptions, format: Format, **session: Any) -> Work:
    """Return a function that transcribes a file in `format`; `session` is for `load`.

    Raises ModelError, CardError, DecodeError.
    """
    from asr.model import load
    from asr.recognise import transcribe, transcribing_stream

    recogniser = load(model, **session)
    transcribing_stream(recogniser, options)  # so that options are refused once, not for every file

    def work(file: Path, report: Report) -> str:
        transcript = transcribe(recogniser, file, options=options, progress=report)
        return document(transcript, str(file), format)

    return work


def spotter(model: str, options: SpotOptions | None, format: EventFormat, **session: Any) -> Work:
    """Return a function that finds a file's keywords; `session` is for `load`.

    Raises ModelError, CardError, DecodeError.
    """
    from asr.model import load
    from asr.recognise import spot, spotting_stream

    spots = load(model, **session)
    spotting_stream(spots, options)  # so that keywords are refused once, not for every file

    def work(file: Path, report: Report) -> str:
        events = spot(spots, file, options=options, progress=report)
        return "".join(detection_line(event, str(file), format) for event in events)

    return work
