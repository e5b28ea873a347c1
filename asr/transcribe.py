"""Files and arrays to transcripts and keywords, through the same stream as the microphone."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from asr.decode import Detection, Event, Utterance
from asr.decode.options import DecodeOptions
from asr.model import Model, ModelError
from asr.stream import StreamError
from features.audio import AudioError, read_audio, stream_audio

Source = str | os.PathLike[str] | np.ndarray


@dataclass(frozen=True)
class Transcript:
    """What was said: all of it, utterance by utterance, and how long the audio is in seconds."""

    text: str
    segments: tuple[Utterance, ...]
    duration: float


def transcribe(
    model: Model,
    source: Source,
    sample_rate: int | None = None,
    options: DecodeOptions | None = None,
) -> Transcript:
    """Write down a file, or an array at `sample_rate` (the model's own if not given).

    A file of any length takes the same memory. `options` say how the scores are decoded. Raises
    ModelError if the model spots keywords, AudioError if the audio cannot be used.
    """
    if model.card.task != "ctc":
        raise ModelError(
            f"{model.path}: this model spots keywords and does not transcribe; "
            "use 'asr spot', or another model"
        )
    events, duration = _hear(model, source, sample_rate, options)
    segments = tuple(event for event in events if isinstance(event, Utterance))
    return Transcript(" ".join(segment.text for segment in segments), segments, duration)


def spot(model: Model, source: Source, sample_rate: int | None = None) -> list[Detection]:
    """Find the keywords in a file, or in an array at `sample_rate` (the model's by default).

    Raises ModelError if the model transcribes, AudioError if the audio cannot be used.
    """
    if model.card.task != "classify":
        raise ModelError(
            f"{model.path}: this model transcribes and does not spot keywords; "
            "use 'asr transcribe', or another model"
        )
    events, _ = _hear(model, source, sample_rate)
    return [event for event in events if isinstance(event, Detection)]


def _hear(
    model: Model, source: Source, sample_rate: int | None, options: DecodeOptions | None = None
) -> tuple[list[Event], float]:
    """Push `source` through a stream; return the events worth keeping and the duration."""
    stream = model.stream(options)
    events: list[Event] = []
    samples = 0
    try:
        for block in _blocks(source, sample_rate, model.card.sample_rate):
            samples += len(block)
            events += (e for e in stream.push(block) if isinstance(e, Utterance | Detection))
        events += stream.finish()
    except StreamError as error:
        name = "audio array" if isinstance(source, np.ndarray) else source
        raise AudioError(f"{name}: {error}") from None
    return events, samples / model.card.sample_rate


def _blocks(source: Source, source_rate: int | None, sample_rate: int) -> Iterator[np.ndarray]:
    if isinstance(source, np.ndarray):
        yield read_audio(source, sample_rate, source_rate=source_rate)
    elif source_rate is not None:
        raise AudioError(f"{source}: a file states its own rate; leave sample_rate out")
    else:
        yield from stream_audio(source, sample_rate)
