"""The model card: everything about a model that its numbers do not say, kept inside the .onnx file.

The card is one JSON document under the metadata key `earshot`. It is strict in both directions: a
missing field, an unknown field or another schema version is an error, never a default, because a
default is how a device ends up computing other features than the ones the model was trained on.
"""

import dataclasses
import json
import math
import types
from dataclasses import dataclass
from typing import (
    Any,
    ClassVar,
    Literal,
    NoReturn,
    Self,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from asr.phonemes import SOUNDS
from features.errors import EarshotError

METADATA_KEY = "earshot"
LANGUAGE = "lm"  # the task of a LanguageCard
SCHEMA_VERSION = 5

Task = Literal["ctc", "classify"]
Precision = Literal["fp32", "int8"]


class CardError(EarshotError, ValueError):
    """The file is no Earshot model, or its card cannot be trusted."""


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """When a keyword counts as recognised. Times in seconds, threshold a probability in (0, 1]."""

    threshold: float
    smoothing: float
    refractory: float

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise CardError(f"trigger threshold {self.threshold} is not a probability in (0, 1]")
        if not (0.0 <= self.smoothing < math.inf and 0.0 <= self.refractory < math.inf):
            raise CardError("trigger smoothing and refractory must be times, 0 or more seconds")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How words of a ctc model are read: what 'asr calibrate' measured on recordings.

    scale, offset: the confidence of a word is sigmoid(scale * logit(p) + offset), p being the
    probability that the model gives it.
    onset: how long a word goes on, in seconds, before the model gives its first label.
    """

    scale: float
    offset: float
    onset: float

    def __post_init__(self) -> None:
        if not 0.0 < self.scale < math.inf or not math.isfinite(self.offset):
            raise CardError(f"calibration {self.scale}, {self.offset} turns confidence around")
        if not 0.0 <= self.onset < math.inf:
            raise CardError(f"calibration onset {self.onset} is no time that a word goes on")


UNCALIBRATED = Calibration(scale=1.0, offset=0.0, onset=0.0)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """When an utterance ends, where the options do not say otherwise; all in seconds.

    trailing_silence: without speech; soft_limit: of length, after which the next gap between words
    ends it; hard_limit: of length, after which it ends in any case.
    """

    trailing_silence: float
    soft_limit: float
    hard_limit: float

    def __post_init__(self) -> None:
        for name, seconds in vars(self).items():
            if not 0.0 < seconds < math.inf:
                raise CardError(f"endpoint {name} {seconds} is no time after which to end")


@dataclass(frozen=True, kw_only=True)
class Spotting:
    """When a typed keyword counts as recognised, where the options do not say otherwise.

    threshold: the score in (0, 1] that it needs. Times in seconds: for `refractory` after a
    detection there is none; a peak of the score must be the best for `confirm` before and after it.
    linger: what a second between two labels costs, lest letters far apart make a word.
    """

    threshold: float
    refractory: float
    confirm: float
    linger: float

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise CardError(f"spotting threshold {self.threshold} is not in (0, 1]")
        for name in ("refractory", "confirm", "linger"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise CardError(f"spotting {name} {getattr(self, name)} is not 0 or more")


# What the cards of new models say.
ENDPOINT = Endpoint(trailing_silence=0.8, soft_limit=30.0, hard_limit=60.0)
SPOTTING = Spotting(threshold=0.7, refractory=0.5, confirm=0.12, linger=1.5)


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """What 'asr calibrate --false-alarms-per-hour' measured on sound that holds no keyword.

    budget: false alarms per hour that were allowed, of all keywords together; hours: of sound;
    count: false alarms in them; at_most: false alarms per hour that this proves not to be exceeded,
    with 95 % confidence. thresholds: by keyword, trained or typed, in place
    of the one threshold of the rules.
    """

    budget: float
    hours: float
    count: int
    at_most: float
    thresholds: dict[str, float]

    def __post_init__(self) -> None:
        if not 0.0 < self.budget < math.inf or not 0.0 < self.hours < math.inf or self.count < 0:
            raise CardError("alarms need a budget and hours above 0, and no negative count")
        for keyword, threshold in self.thresholds.items():
            if type(threshold) not in (int, float) or not 0.0 < threshold <= 1.0:
                raise CardError(f"alarms: threshold {threshold} of '{keyword}' is not in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One set of data that the weights were trained on, and what its licence asks for."""

    name: str
    licence: str
    attribution: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the cards of all kinds of models say.

    instead: the remedy for whoever gives a file of the other kind.
    precision: of the weights of LSTMs and linear layers.
    """

    instead: ClassVar[str]

    schema: int
    name: str
    task: str
    labels: tuple[str, ...]
    encoder: dict[str, Any]
    precision: Precision
    parameters: int
    metrics: dict[str, Any]
    training_data: tuple[DataSource, ...]
    licence: str
    earshot_version: str
    git_commit: str
    weights_sha256: str

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            raise CardError("labels must be a non-empty list without repeats")

    def to_json(self) -> str:
        """The card as the JSON text that goes into the model file."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], path: str) -> Self:
        """Read the card from ONNX metadata; `path` names the file in errors. Raises CardError."""
        fields = _fields(metadata, path)
        if (fields.get("task") == LANGUAGE) != (cls is LanguageCard):
            raise CardError(f"{path}: {cls.instead}")
        return cls._from_fields(fields, path)

    @classmethod
    def _from_fields(cls, fields: dict[str, Any], path: str) -> Self:
        try:
            return _record(cls, fields, "its model card")
        except CardError as error:
            raise CardError(f"{path}: {error}; export it again") from None


@dataclass(frozen=True, kw_only=True)
class LanguageCard(Card):
    """What a program must know to run a language model. Its first label is both ends of a text."""

    instead: ClassVar[str] = "takes sound, so it is no language model; give it as the MODEL"


@dataclass(frozen=True, kw_only=True)
class ModelCard(Card):
    """What a program must know to run a model. Lengths are in samples at `sample_rate`.

    hop_length: distance between two output frames of `log_probs`.
    block_length: samples per step of a streaming model; None for whole-utterance models.
    look_ahead: delay of the output behind the input of a streaming model.
    window_length: what a classifier decides over: the last so many samples of a stream, or a
        window that is slid over whole utterances; None for ctc.
    background: labels that are scored but never reported (`_unknown_`, `_silence_`).
    trigger: of a classify model; calibration, endpoint, spotting: of a ctc model.
    lm_calibration: in place of `calibration` when a language model helps, which makes wrong words
        probable, too; None where that was not measured.
    phonemes: labels of the output of that name, for the same frames, which a ctc model may have:
        the blank, the boundary between words, and a letter for each phoneme (see `asr.phonemes`).
    alarms: None until thresholds were set by a budget of false alarms.
    """

    instead: ClassVar[str] = "is a language model, which takes no sound; give it with --lm"

    task: Task
    blank: int | None
    background: tuple[str, ...]
    sample_rate: int
    hop_length: int
    block_length: int | None
    look_ahead: int
    window_length: int | None
    mfcc: dict[str, Any]
    trigger: Trigger | None
    calibration: Calibration | None
    endpoint: Endpoint | None
    spotting: Spotting | None
    alarms: Alarms | None
    lm_calibration: Calibration | None = None
    phonemes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_lengths()
        if (self.task == "ctc") != (self.blank is not None):
            raise CardError("a ctc model needs a blank index, a classify model must not have one")
        if self.blank is not None and not 0 <= self.blank < len(self.labels):
            raise CardError(f"blank index {self.blank} is outside the {len(self.labels)} labels")
        if not set(self.background) <= set(self.labels):
            raise CardError("background names labels that the model does not have")
        if self.block_length is not None and self.block_length % self.hop_length:
            raise CardError("block_length must be a multiple of hop_length")
        if (self.task == "classify") != (self.trigger is not None):
            raise CardError("a classify model needs trigger settings, a ctc model has none")
        for name in ("calibration", "endpoint", "spotting"):
            if (self.task == "ctc") != (getattr(self, name) is not None):
                raise CardError(f"a ctc model needs a field {name}, a classify model has none")
        if self.task == "classify" and self.lm_calibration is not None:
            raise CardError("lm_calibration is of a ctc model, a classify model gives no words")
        own = self.alarms.thresholds.keys() if self.alarms else set()
        if self.task == "classify" and (unknown := sorted(own - set(self.labels))):
            raise CardError(f"alarms have a threshold of '{unknown[0]}', which is no label")
        self._check_phonemes()
        if (self.task == "classify") != (self.window_length is not None):
            raise CardError("a classify model needs a window_length, a ctc model has none")

    def _check_phonemes(self) -> None:
        if self.phonemes and self.task != "ctc":
            raise CardError("phonemes are read by a ctc model, a classify model has none")
        if self.phonemes not in ((), SOUNDS):
            raise CardError("phonemes are others than this version knows; export the model again")

    def _check_lengths(self) -> None:
        """Raise CardError if a rate or a length is none."""
        positive = ("sample_rate", "hop_length", "block_length", "window_length")
        for name in positive:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CardError(f"{name} is {value}, not 1 or more")
        if self.look_ahead < 0:
            raise CardError(f"look_ahead is {self.look_ahead}, not 0 or more")

    @property
    def width(self) -> int:
        """How many log-probabilities a frame has: of the labels, then of the phonemes."""
        return len(self.labels) + len(self.phonemes)

    @property
    def streaming(self) -> bool:
        """True if the model carries state from block to block."""
        return self.block_length is not None

    def threshold_of(self, keyword: str) -> float:
        """From which score a keyword is reported, if the options do not say."""
        rules = self.trigger or self.spotting
        assert rules is not None  # one of them is there, by the checks above
        return (
            rules.threshold
            if self.alarms is None
            else self.alarms.thresholds.get(keyword, rules.threshold)
        )

    @property
    def closing_silence(self) -> int:
        """Samples of silence that follow the end of a stream: half of the window, since a word is
        sure once something comes after it, and as long as the trigger smooths scores."""
        if self.trigger is None or self.window_length is None or not self.streaming:
            return 0
        return round(self.trigger.smoothing * self.sample_rate) + self.window_length // 2


def read_card(metadata: dict[str, str], path: str) -> Card:
    """Read the card of a model of either kind, as `Card.from_metadata` does."""
    language = _fields(metadata, path).get("task") == LANGUAGE
    return (LanguageCard if language else ModelCard).from_metadata(metadata, path)


def _fields(metadata: dict[str, str], path: str) -> dict[str, Any]:
    """The JSON object of a card of this schema. Raises CardError."""
    if METADATA_KEY not in metadata:
        raise CardError(f"{path}: no model card inside; export it with 'asr export'")
    try:
        fields = json.loads(metadata[METADATA_KEY], parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise CardError(f"{path}: its model card is not JSON ({error}); export again") from None
    if not isinstance(fields, dict):
        raise CardError(f"{path}: its model card is not a JSON object; export it again")
    if fields.get("schema") != SCHEMA_VERSION:
        raise CardError(
            f"{path}: its model card has schema {fields.get('schema')}, this version reads "
            f"{SCHEMA_VERSION}; export the model again with this version of earshot"
        )
    return fields


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _record(kind: Any, fields: Any, where: str) -> Any:
    """Make a dataclass of a JSON object, each field of the type that it is declared with."""
    if not isinstance(fields, dict):
        raise CardError(f"{where} is {_shown(fields)}, not an object")
    known = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(kind)}
    if missing := sorted({name for name, needed in known.items() if needed} - fields.keys()):
        raise CardError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(fields.keys() - known.keys()):
        raise CardError(f"{where} has unknown fields {', '.join(unknown)}")
    declared = get_type_hints(kind)
    return kind(**{name: _value(declared[name], fields[name], name) for name in fields})


def _value(declared: Any, value: Any, name: str) -> Any:
    """Return a JSON value as the declared type. Raises CardError if it is of another."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):  # something or None
        something = next(kind for kind in arguments if kind is not type(None))
        return None if value is None else _value(something, value, name)
    if origin is Literal:
        if value not in arguments:
            raise CardError(f"{name} {_shown(value)} is none of {', '.join(arguments)}")
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], entry, f"an entry of {name}") for entry in value)
    if dataclasses.is_dataclass(declared):
        return _record(declared, value, name)
    if declared is float and type(value) in (int, float):
        return float(value)
    plain = origin or declared
    if type(value) is not plain:  # True is no number here
        raise CardError(f"{name} is {_shown(value)}, not {_KINDS[plain]}")
    return value


_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    tuple: "a list",
}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
