"""Files and arrays to transcripts and keywords, through the same stream as the microphone."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from asr.decode.keywords.typed import SpotOptions
from asr.decode.options import DecodeOptions
from asr.events import Detection, Event, NearMiss, Utterance, Word
from asr.microphone import Microphone, Playback
from asr.model import Model
from asr.runtime.samples import StreamError
from asr.runtime.scorers import NOTHING
from asr.runtime.session import ModelError
from asr.stream import Stream, live_stream
from features.audio import AudioError, Source, name_of, stream_audio

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Transcript:
    """What was said: all of it, utterance by utterance, and how long the audio is in seconds."""

    text: str
    segments: tuple[Utterance, ...]
    duration: float

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all utterances."""
        return tuple(word for segment in self.segments for word in segment.words)


def transcribe(
    model: Model,
    source: Source,
    sample_rate: int | None = None,
    options: DecodeOptions | None = None,
    progress: Progress | None = None,
) -> Transcript:
    """Transcribe a file (its path, its bytes, or a binary file object), or samples in anything
    array-like at `sample_rate` (the model's own if not given).

    A file of any length takes the same memory. `options` say how the scores are decoded; `progress`
    is called with the seconds of audio that are done, as they grow. Raises
    ModelError if the model spots keywords, AudioError if the audio cannot be used.
    """
    samples = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal samples
        for block in stream_audio(source, model.card.sample_rate, source_rate=sample_rate):
            samples += len(block)
            yield block

    blocks = _reported(counted(), model.card.sample_rate, progress)
    events = _file_events(transcribing_stream(model, options), blocks, name_of(source))
    segments = tuple(event for event in events if isinstance(event, Utterance))
    text = " ".join(segment.text for segment in segments)
    return Transcript(text, segments, samples / model.card.sample_rate)


def spot(
    model: Model,
    source: Source,
    sample_rate: int | None = None,
    options: SpotOptions | None = None,
    progress: Progress | None = None,
) -> list[Detection | NearMiss]:
    """Find the keywords in a source, as for `transcribe`.

    options: which, for a model that transcribes. progress: as for `transcribe`. Raises ModelError
    if there are none for such a model or some for another, DecodeError if it cannot say them,
    AudioError if the audio cannot be used.
    """
    blocks = stream_audio(source, model.card.sample_rate, source_rate=sample_rate)
    blocks = _reported(blocks, model.card.sample_rate, progress)
    events = _file_events(spotting_stream(model, options), blocks, name_of(source))
    return [event for event in events if isinstance(event, Detection | NearMiss)]


def transcribe_blocks(
    model: Model,
    blocks: Iterable[np.ndarray],
    options: DecodeOptions | None = None,
    name: str = "audio",
) -> Iterator[Utterance]:
    """Transcribe blocks of float32 (n,) at the model's rate; yield utterances as they end.

    Raises as `transcribe` does; `name` is what the blocks are called in errors.
    """
    for event in _live_events(transcribing_stream(model, options), blocks, name):
        if isinstance(event, Utterance):
            yield event


def spot_blocks(
    model: Model,
    blocks: Iterable[np.ndarray],
    options: SpotOptions | None = None,
    name: str = "audio",
) -> Iterator[Detection | NearMiss]:
    """Find keywords in blocks of float32 (n,) at the model's rate; yield them as they come.

    Raises as `spot` does; `name` is what the blocks are called in errors.
    """
    for event in _live_events(spotting_stream(model, options), blocks, name):
        if isinstance(event, Detection | NearMiss):
            yield event


def listen(
    model: Model,
    on_event: Callable[[Event], object],
    options: DecodeOptions | SpotOptions | None = None,
    source: Microphone | Playback | None = None,
) -> None:
    """Recognise live sound: call `on_event` with each event, until it returns False.

    source: a microphone, the system's default one if not given, or a file at its pace, which ends
    by itself. Ctrl-C raises KeyboardInterrupt. Raises ModelError if the model cannot listen live,
    MicrophoneError if there is no microphone or it goes away.
    """
    stream = live_stream(model, options)
    with source or Microphone(model.card.sample_rate) as opened:
        for block in opened:
            for event in stream.push(block):
                if on_event(event) is False:
                    return
    for event in stream.finish():
        if on_event(event) is False:
            return


def spotting_stream(model: Model, options: SpotOptions | None) -> Stream:
    """Return a stream that spots keywords. Raises ModelError, DecodeError."""
    if model.card.task != "classify" and options is None:
        raise ModelError(
            f"{model.path}: this model transcribes and knows no keywords of its own; "
            "type some with --keywords, or use 'asr transcribe', or another model"
        )
    return Stream(model, options)


def transcribing_stream(model: Model, options: DecodeOptions | None) -> Stream:
    """Return a stream that transcribes. Raises ModelError, DecodeError."""
    if model.card.task != "ctc":
        raise ModelError(
            f"{model.path}: this model spots keywords and does not transcribe; "
            "use 'asr spot', or another model"
        )
    return Stream(model, options)


def _live_events(stream: Stream, blocks: Iterable[np.ndarray], name: str) -> Iterator[Event]:
    with _named(name):
        for block in blocks:
            yield from stream.push(block)
        yield from stream.finish()


def _file_events(stream: Stream, blocks: Iterable[np.ndarray], name: str) -> Iterator[Event]:
    """Push a block when the next one is there: the last one goes in together with the end."""
    with _named(name):
        last = NOTHING
        for block in blocks:
            yield from stream.push(last)
            last = block
        yield from stream.finish(last)


@contextlib.contextmanager
def _named(audio: str) -> Iterator[None]:
    """Say which audio it is that a stream refuses."""
    try:
        yield
    except StreamError as error:
        raise AudioError(f"{audio}: {error}") from None


def _reported(
    blocks: Iterable[np.ndarray], sample_rate: int, progress: Progress | None
) -> Iterator[np.ndarray]:
    """Yield blocks; when the next one is asked for, report the seconds that are done."""
    samples = 0
    for block in blocks:
        yield block
        samples += len(block)
        if progress:
            progress(samples / sample_rate)
