"""Sound in blocks of any size to events: the one path that files and microphones both take.

However the audio is cut, the model runs on the same samples in the same order, so the scores and
the events are the same to the bit.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from asr.card import ModelCard
from asr.decode.keywords.trained import KeywordTrigger
from asr.decode.keywords.typed import KeywordSpotter, SpotOptions
from asr.decode.options import DecodeOptions, decoder_for
from asr.events import Detection, Event
from asr.model import Model, ModelError
from asr.runtime.seam import find_seam
from features.activity import quietest
from features.audio import PEAK_LIMIT
from features.errors import EarshotError

STEP_SECONDS = 4.0  # the most that a streaming model is given at once; more is no faster
WHOLE_SECONDS = 60.0  # the longest audio that a whole-utterance ctc model is given at once
OVERLAP_SECONDS = 1.0  # how far its runs reach over a cut
SHORTEST_SECONDS = 0.1  # shorter audio is zero-padded to this before it is scored
NOTHING = np.zeros(0, np.float32)


class StreamError(EarshotError, ValueError):
    """A stream was given something that is no audio, too much of it, or used after its end."""


class Scores(NamedTuple):
    """One run of a model: log_probs (frames, labels) of the audio up to sample `end`."""

    end: int
    log_probs: np.ndarray


class Scorer(Protocol):
    """Audio to scores. Each returned iterator must be exhausted before the next call."""

    def push(self, samples: np.ndarray) -> Iterator[Scores]:
        """Take samples (n,), any n >= 0, and yield the runs that they complete."""
        ...

    def finish(self, samples: np.ndarray = NOTHING) -> Iterator[Scores]:
        """Take the last samples and yield what they and the end of the audio complete."""
        ...


def scorer(model: Model) -> Scorer:
    """Return the way to feed audio to this kind of model."""
    if model.card.streaming:
        return BlockScorer(model)
    return WindowScorer(model) if model.card.task == "classify" else WholeScorer(model)


class BlockScorer:
    """Steps a streaming model block by block, carrying its state.

    Whole blocks that are there at once go through the model in one step, up to STEP_SECONDS of
    them; runs are yielded block by block all the same. The first look_ahead / hop_length frames of
    a ctc model describe the silence before the audio and are dropped; ceil(samples / hop_length)
    frames come out in all.
    """

    def __init__(self, model: Model) -> None:
        card = model.card
        if card.block_length is None:
            raise ValueError(f"model {card.name} does not stream")
        self._model = model
        self._framewise = card.task == "ctc"
        self._hop_length = card.hop_length
        self._look_ahead = card.look_ahead
        self._block_length = card.block_length
        seconds = STEP_SECONDS if model.takes_many_blocks else 0.0
        blocks = max(1, math.ceil(seconds * card.sample_rate / card.block_length))
        self._step_length = blocks * card.block_length
        self._waiting = NOTHING
        self._samples = 0
        self._stepped = 0
        self._state = model.initial_state()
        # Frames of real audio so far; below zero while the look-ahead fills.
        self._frames = -(card.look_ahead // card.hop_length)

    def push(self, samples: np.ndarray) -> Iterator[Scores]:
        self._samples += len(samples)
        heard = np.concatenate([self._waiting, samples])
        whole = len(heard) - len(heard) % self._block_length
        self._waiting = heard[whole:].copy()
        yield from self._steps(heard[:whole])

    def finish(self, samples: np.ndarray = NOTHING) -> Iterator[Scores]:
        self._samples += len(samples)
        if not self._samples:
            return
        wanted = math.ceil(self._samples / self._hop_length)
        missing = self._samples + self._look_ahead - self._stepped
        heard = np.zeros(math.ceil(missing / self._block_length) * self._block_length, np.float32)
        heard[: len(self._waiting) + len(samples)] = np.concatenate([self._waiting, samples])
        yield from self._steps(heard, wanted)

    def _steps(self, pcm: np.ndarray, wanted: int | None = None) -> Iterator[Scores]:
        for start in range(0, len(pcm), self._step_length):
            yield from self._step(pcm[start : start + self._step_length], wanted)

    def _step(self, pcm: np.ndarray, wanted: int | None = None) -> Iterator[Scores]:
        log_probs, self._state = self._model.step(pcm[None], self._state)
        blocks, labels = len(pcm) // self._block_length, log_probs.shape[2]
        for frames in log_probs.reshape(blocks, -1, labels):
            self._stepped += self._block_length
            if self._framewise:
                first = max(0, -self._frames)
                last = len(frames) if wanted is None else wanted - self._frames
                self._frames += len(frames)
                frames = frames[first:last]
            if len(frames):
                yield Scores(min(self._stepped, self._samples), frames)


class WindowScorer:
    """Slides a window over the audio for a whole-utterance classifier, every hop_length samples.

    Audio that ends between two windows is scored once more up to its end; audio shorter than the
    window is scored as it is.
    """

    def __init__(self, model: Model) -> None:
        card = model.card
        if card.window_length is None:
            raise ValueError(f"model {card.name} has no window")
        self._model = model
        self._hop_length = card.hop_length
        self._shortest = round(SHORTEST_SECONDS * card.sample_rate)
        self._window = np.zeros((1, card.window_length), np.float32)
        self._missing = card.window_length
        self._samples = 0

    def push(self, samples: np.ndarray) -> Iterator[Scores]:
        while len(samples):
            piece, samples = np.split(samples, [self._missing])
            self._window[0, : -len(piece)] = self._window[0, len(piece) :]
            self._window[0, -len(piece) :] = piece
            self._samples += len(piece)
            self._missing -= len(piece)
            if not self._missing:
                yield self._run(self._window)
                self._missing = self._hop_length

    def finish(self, samples: np.ndarray = NOTHING) -> Iterator[Scores]:
        yield from self.push(samples)
        length = self._window.shape[1]
        if 0 < self._samples < length:
            short = np.zeros((1, max(self._samples, self._shortest)), np.float32)
            short[0, : self._samples] = self._window[0, length - self._samples :]
            yield self._run(short)
        elif self._samples and self._missing < self._hop_length:
            yield self._run(self._window)

    def _run(self, window: np.ndarray) -> Scores:
        log_probs, _ = self._model.step(window, {})
        return Scores(self._samples, log_probs[0])


class WholeScorer:
    """Keeps an utterance until it ends and scores it in one run; long audio takes several.

    Of audio beyond WHOLE_SECONDS the run is cut at the quietest place of the second half. Both
    runs reach OVERLAP_SECONDS over a cut and are joined where both hear nothing; ceil(samples /
    hop_length) frames come out in all.
    """

    def __init__(self, model: Model) -> None:
        card = model.card
        if card.blank is None:
            raise ValueError(f"model {card.name} is no ctc model")
        self._model = model
        self._blank = card.blank
        self._sample_rate = card.sample_rate
        self._hop_length = card.hop_length
        self._overlap = round(OVERLAP_SECONDS * card.sample_rate / card.hop_length)  # frames
        self._audio = np.zeros((1, round(WHOLE_SECONDS * card.sample_rate)), np.float32)
        self._filled = 0
        self._samples = 0
        # Frames around the last cut, as the run before it scored them.
        self._before = np.zeros((0, len(card.labels)), np.float32)

    def push(self, samples: np.ndarray) -> Iterator[Scores]:
        length = self._audio.shape[1]
        while len(samples):
            if self._filled == length:
                yield self._cut()
            piece, samples = np.split(samples, [length - self._filled])
            self._audio[0, self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            self._samples += len(piece)

    def finish(self, samples: np.ndarray = NOTHING) -> Iterator[Scores]:
        yield from self.push(samples)
        if self._filled:
            yield Scores(self._samples, self._score(self._filled))

    def _cut(self) -> Scores:
        """Score up to beyond a pause and keep what comes after the beginning of the overlap."""
        overlap = self._overlap * self._hop_length
        first, last = self._filled // 2, self._filled - overlap
        pause = first + quietest(self._audio[0, first:last], self._sample_rate)
        cut = pause - pause % self._hop_length
        frames, self._before = np.split(self._score(cut + overlap), [-2 * self._overlap])
        rest = self._audio[0, cut - overlap : self._filled].copy()
        self._filled = len(rest)
        self._audio[0, : self._filled] = rest
        return Scores(self._samples, frames)

    def _score(self, samples: int) -> np.ndarray:
        """Return the frames of the first `samples`, joined to those of the run before."""
        log_probs, _ = self._model.step(self._audio[:, :samples], {})
        frames, before = log_probs[0], self._before
        seam = find_seam(before, frames[: len(before)], self._blank) if len(before) else 0
        return np.concatenate([before[:seam], frames[seam:]])


class Stream:
    """Hears audio as it comes and says what it made out.

    stream = model.stream()
    for block in microphone:
        for event in stream.push(block):
            print(event)

    A model that classifies yields Detections, with SpotOptions of these keywords only; a ctc model
    yields Partials while an utterance goes on and an Utterance when it ends, or, with SpotOptions,
    Detections of the keywords in them.
    """

    def __init__(self, model: Model, options: DecodeOptions | SpotOptions | None = None) -> None:
        self.card = model.card
        self._model = model
        self._trigger = self._decoder = self._spotter = None
        if model.card.task == "classify":
            self._trigger = KeywordTrigger(model.card, _spotting(model, options))
        elif isinstance(options, SpotOptions):
            self._spotter = KeywordSpotter(model.card, options)
        else:
            self._decoder = decoder_for(model.card, options or DecodeOptions())
        self.reset()

    def reset(self) -> None:
        """Forget everything; what follows is as if the stream were new."""
        self._scorer = scorer(self._model)
        for decoder in (self._trigger, self._decoder, self._spotter):
            if decoder is not None:
                decoder.reset()
        self._finished = False
        self._samples = 0
        self.posteriors = np.zeros(len(self.card.labels), np.float32)

    def push(self, block: np.ndarray) -> list[Event]:
        """Hear float32 (n,) at the model's rate, any n >= 0, and return the events it brings.

        Raises StreamError if the block is not that, has NaN in it, or the stream has ended. What
        is refused leaves the stream as it was.
        """
        self._check_open()
        events = self._decode(self._scorer.push(checked(block)))
        self._samples += len(block)
        return events

    def finish(self, last: np.ndarray = NOTHING) -> list[Event]:
        """Hear a last block, as `push` does, end the audio and return the last events.

        That is cheaper than to push it first. The stream can be used again after reset().
        """
        self._check_open()
        last = checked(last)
        self._finished = True
        end = (self._samples + len(last)) / self.card.sample_rate
        heard = np.concatenate([last, closing_silence(self.card) if end else NOTHING])
        events = [_not_after(event, end) for event in self._decode(self._scorer.finish(heard))]
        ending = self._decoder or self._spotter
        return [*events, *ending.finish()] if ending else events

    def _check_open(self) -> None:
        if self._finished:
            raise StreamError("this stream has ended; call reset() before pushing more audio")

    def _decode(self, runs: Iterator[Scores]) -> list[Event]:
        events: list[Event] = []
        for scores in runs:
            posteriors = np.exp(scores.log_probs[-1])
            if self._trigger:
                events += self._trigger.push(scores.end, posteriors)
                self.posteriors = self._trigger.smoothed
            else:
                if self._spotter:
                    events += self._spotter.push(scores.end, scores.log_probs)
                elif self._decoder:
                    events += self._decoder.push(scores.log_probs)
                self.posteriors = posteriors
        return events


def closing_silence(card: ModelCard) -> np.ndarray:
    """What a stream hears after the end: the silence in which a trigger, whose scores are smoothed,
    makes up its mind."""
    if card.trigger is None or not card.streaming:
        return NOTHING
    return np.zeros(round(card.trigger.smoothing * card.sample_rate), np.float32)


def _not_after(event: Event, end: float) -> Event:
    """A trigger that fires in the silence after the audio fires at its end."""
    return replace(event, time=min(event.time, end)) if isinstance(event, Detection) else event


def _spotting(model: Model, options: DecodeOptions | SpotOptions | None) -> SpotOptions | None:
    """What a model that classifies is told. Raises ModelError if that is about transcribing."""
    if isinstance(options, SpotOptions):
        return options
    if options not in (None, DecodeOptions()):
        raise ModelError(
            f"{model.path}: this model spots keywords; language models, word lists and the "
            "like are for a model that transcribes"
        )
    return None


def live_stream(model: Model, options: DecodeOptions | SpotOptions | None = None) -> Stream:
    """Return a stream for sound that does not end. Raises ModelError if the model needs an end."""
    if model.card.task == "ctc" and not model.card.streaming:
        raise ModelError(
            f"{model.path}: this model needs whole utterances and cannot listen live; "
            "use 'asr transcribe' on a file, or a streaming model"
        )
    return Stream(model, options)


def checked(samples: np.ndarray) -> np.ndarray:
    """Return `samples` if they are float32 (n,) of sensible size. Raises StreamError."""
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 1:
        kind = getattr(samples, "dtype", type(samples).__name__)
        raise StreamError(
            f"a stream takes float32 (samples,), not {kind} {getattr(samples, 'shape', '')}; "
            "features.audio.read_audio makes it from anything"
        )
    peak = np.abs(samples).max(initial=0.0)
    if not np.isfinite(peak):
        raise StreamError("the audio has NaN or infinite samples; check where it comes from")
    if peak > PEAK_LIMIT:
        raise StreamError(
            f"float samples reach {peak:.4g} but belong in [-1, 1]; divide 16-bit values by 32768"
        )
    return samples
