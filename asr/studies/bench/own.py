"""Models of this project as peers: what they take is measured in the same way."""

from collections.abc import Iterable
from pathlib import Path

from asr.decode.keywords.typed import SpotOptions, parse_keywords
from asr.decode.options import DecodeOptions
from asr.model import Model
from asr.recognise import spot, transcribe
from asr.runtime.session import session_options
from asr.studies.bench.others import RATE, Detector, Peer, Transcriber


class Own(Peer):
    """A model of this project, beside the others: the way `asr transcribe` runs it.

    model: its path; no_lm: anything but "" for letters alone.
    """

    def __init__(self, model: str, no_lm: str = "") -> None:
        self._model = Model(Path(model), session_options(1))
        self._options = DecodeOptions(no_lm=bool(no_lm))
        self.name = self._model.card.name + ", no language model" * bool(no_lm)
        self.licence = self._model.card.licence

    def files(self) -> Iterable[Path]:
        yield self._model.path
        if not self._options.no_lm and self._model.language_model is not None:
            yield self._model.language_model

    def load(self) -> Transcriber:
        return lambda samples: transcribe(self._model, samples, RATE, self._options).text


class OwnWord(Peer):
    """A keyword of a model of this project, beside the others: the way `asr spot` runs it.

    model: its path; keyword: typed, or "" for those that it has learnt.
    """

    def __init__(self, model: str, keyword: str) -> None:
        self._model = Model(Path(model), session_options(1))
        typed = self._model.card.task == "ctc"
        self._options = SpotOptions(keywords=parse_keywords(keyword)) if typed else None
        self.name, self.licence = self._model.card.name, self._model.card.licence

    def files(self) -> Iterable[Path]:
        return [self._model.path]

    def load(self) -> Detector:
        return lambda samples: [
            (float(found.time), float(found.score))
            for found in spot(self._model, samples, RATE, self._options)
        ]
