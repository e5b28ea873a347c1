"""Scores to words: the events that decoding a stream yields. Times are seconds into the stream."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Detection:
    """A keyword. `time` is how much had been heard when it fired, `score` its probability."""

    time: float
    label: str
    score: float

    def __str__(self) -> str:
        return f"{self.time:7.2f} s  {self.score:4.0%}  {self.label}"


@dataclass(frozen=True)
class Word:
    """One word of a transcript, from the start of its first label to the end of its last."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Partial:
    """What an utterance that still goes on sounds like so far; a later event replaces it."""

    text: str
    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.start:7.2f} s  {self.text} ..."


@dataclass(frozen=True)
class Utterance:
    """A finished utterance: a pause followed it, or the audio ended."""

    text: str
    start: float
    end: float
    words: tuple[Word, ...]

    def __str__(self) -> str:
        return f"{self.start:7.2f} s  {self.text}"


Event = Detection | Partial | Utterance
