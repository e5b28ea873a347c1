"""Sound in blocks of any size to events: the one path that files and microphones both take."""

from collections.abc import Sequence

import numpy as np

from asr.decode.keywords.typed import SpotOptions
from asr.decode.options import DecodeOptions, build_decoder, settling
from asr.events import Event
from asr.model import Model
from asr.runtime import scorers
from asr.runtime.samples import StreamError, checked
from asr.runtime.scorers import NOTHING, Scores, scorer_for
from asr.runtime.session import ModelError


class Stream:
    """A scorer and a decoder: push audio as it comes, get the events that it brings.

        stream = asr.Stream(model)
        for block in microphone:
            for event in stream.push(block):
                print(event)
        for event in stream.finish():
            print(event)

    A model that classifies yields Detections, with SpotOptions of these keywords only; a ctc model
    yields Partials while an utterance goes on and an Utterance when it ends, or, with SpotOptions,
    Detections of the keywords in them. The last events come with `finish`. A language model that
    stands beside a ctc model is used, unless the options say otherwise; for keywords it is the
    dictionary that says how they sound.

    posteriors: what the model makes of this moment, float32 (labels,), zeros at first.
    settling: after so many seconds of silence nothing that was said before still waits.
    Raises ModelError or DecodeError if the options do not fit the model.
    """

    def __init__(self, model: Model, options: DecodeOptions | SpotOptions | None = None) -> None:
        self.card = model.card
        self._model = model
        if model.card.task == "ctc":
            options = (options or DecodeOptions()).beside(model.language_model)
        self._decoder = build_decoder(model.card, options)
        self.settling = settling(model.card, options)
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state; what follows is as if the stream were new."""
        self._scorer = scorer_for(self._model, self.card.closing_silence)
        self._decoder.reset()
        self._finished = False
        self.posteriors = np.zeros(len(self.card.labels), np.float32)

    def push(self, block: np.ndarray) -> list[Event]:
        """Take float32 (n,) at the model's rate, any n >= 0, and return the events it brings.

        Raises StreamError if the block is not that, has NaN in it, or the stream has ended. What
        is refused leaves the stream as it was.
        """
        self._check_open()
        return self._decode(self._scorer.push(checked(block)))

    def finish(self, last: np.ndarray = NOTHING) -> list[Event]:
        """Take a last block, as `push` does, end the audio and return the last events.

        That is cheaper than to push it first. What still waits comes out: the frames that
        look-ahead held back, the utterance that is open, the keyword that waited to be confirmed.
        The stream can be used again after reset().
        """
        self._check_open()
        last = checked(last)
        self._finished = True
        return self._decode(self._scorer.finish(last)) + self._decoder.finish()

    def _check_open(self) -> None:
        if self._finished:
            raise StreamError("this stream has ended; call reset() before pushing more audio")

    def _decode(self, runs: list[Scores]) -> list[Event]:
        events: list[Event] = []
        for scores in runs:
            events += self._decoder.push(scores)
            self.posteriors = np.exp(scores.log_probs[-1])
        return events


def push_together(streams: Sequence[Stream], blocks: Sequence[np.ndarray]) -> list[list[Event]]:
    """Push a block to each of several streams of one model; return the events of each.

    They are those of `push`, at a lower cost: a streaming model steps many streams at once.
    Raises StreamError as `push` does; no stream has taken anything then.
    """
    for stream, block in zip(streams, blocks, strict=True):
        stream._check_open()
        checked(block)
    runs = scorers.push_together([stream._scorer for stream in streams], blocks)
    return [stream._decode(scores) for stream, scores in zip(streams, runs, strict=True)]


def live_stream(model: Model, options: DecodeOptions | SpotOptions | None = None) -> Stream:
    """Return a stream for sound that does not end. Raises ModelError if the model needs an end."""
    if model.card.task == "ctc" and not model.card.streaming:
        raise ModelError(
            f"{model.path}: this model needs whole utterances and cannot listen live; "
            "use 'asr transcribe' on a file, or a streaming model"
        )
    return Stream(model, options)
