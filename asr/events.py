"""What a stream yields: plain data. Times are seconds into the stream."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Detection:
    """A keyword. `time` is how much had been taken in when it fired, `score` its probability.

    start, end: where a typed keyword lies; None if the model was trained to spot the keyword.
    """

    time: float
    label: str
    score: float
    start: float | None = None
    end: float | None = None

    def __str__(self) -> str:
        return f"{self.time:7.2f} s  {self.score:4.0%}  {self.label}"


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A keyword that might have been said; `reason` says why it is no Detection.

    time: of a trained keyword, when its score was highest; the rest as in a Detection.
    """

    time: float
    label: str
    score: float
    start: float | None
    end: float | None
    reason: str

    def __str__(self) -> str:
        return f"{self.time:7.2f} s  {self.score:4.0%}  ({self.label}: {self.reason})"


@dataclass(frozen=True, slots=True)
class Character:
    """One label of a word: where the alignment has it."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a transcript. It ends with its last label.

    confidence: in (0, 1], the probability that it is right. It comes from the sound alone, and is
    calibrated on words that were decoded greedily ('asr calibrate'): what a language model or a
    word list talked the decoder into, against the sound, scores low.
    """

    text: str
    start: float
    end: float
    confidence: float = 1.0
    characters: tuple[Character, ...] = ()


@dataclass(frozen=True, slots=True)
class Alternative:
    """A text that an utterance may have been; score: its log-probability, weights included."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Partial:
    """What an utterance that still goes on sounds like so far; a later event replaces it.

    stable: the words at the beginning of `text` that no later event will change.
    """

    text: str
    start: float
    end: float
    stable: str = ""

    def __str__(self) -> str:
        return f"{self.start:7.2f} s  {self.text} ..."


@dataclass(frozen=True, slots=True)
class Utterance:
    """A finished utterance: a pause followed it, or the audio ended.

    alternatives: the n best texts, best first; empty if the decoder follows only one.
    """

    text: str
    start: float
    end: float
    words: tuple[Word, ...]
    alternatives: tuple[Alternative, ...] = ()

    def __str__(self) -> str:
        return f"{self.start:7.2f} s  {self.text}"


Event = Detection | NearMiss | Partial | Utterance


def shifted(event: Event, seconds: float) -> Event:
    """Return an event with times of a sound that began so much earlier."""
    if isinstance(event, Utterance):
        words = tuple(_moved(word, seconds) for word in event.words)
        return replace(event, start=event.start + seconds, end=event.end + seconds, words=words)
    if isinstance(event, Partial):
        return replace(event, start=event.start + seconds, end=event.end + seconds)
    start = None if event.start is None else event.start + seconds
    end = None if event.end is None else event.end + seconds
    return replace(event, time=event.time + seconds, start=start, end=end)


def _moved(word: Word, seconds: float) -> Word:
    characters = tuple(
        replace(c, start=c.start + seconds, end=c.end + seconds) for c in word.characters
    )
    return replace(word, start=word.start + seconds, end=word.end + seconds, characters=characters)
