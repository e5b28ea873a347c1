"""A voice loop: a wake word, then what follows it, then back to sleep.

    assistant = Assistant(wake_stream, stream)
    for block in microphone:
        for event in assistant.push(block):
            print(event)

What follows is recognised from the end of the wake word on, not from when it was certain: the sound
in between is kept, so that nobody has to wait before speaking on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.events import Detection, Event, NearMiss, Partial, shifted
from asr.gate import Gated
from asr.runtime.scorers import NOTHING
from asr.stream import Stream
from features.errors import EarshotError

KEPT_SECONDS = 5.0  # of the newest sound; a wake word is certain long before
ECHO_SECONDS = 0.5  # until the microphone has what a loudspeaker was given, and the room is quiet


class AssistError(EarshotError, ValueError):
    """The parts of a voice loop do not fit each other."""


@dataclass(frozen=True, slots=True)
class Wake:
    """The wake word was said, and ended at `end`; it was certain at `time`."""

    time: float
    label: str
    score: float
    end: float

    def __str__(self) -> str:
        return f"{self.time:7.2f} s  awake: {self.label} ({self.score:.0%})"


@dataclass(frozen=True, slots=True)
class Echo:
    """A wake word that this machine said itself, and which does not wake it."""

    time: float
    label: str
    score: float
    end: float

    def __str__(self) -> str:
        return f"{self.time:7.2f} s  not awake: {self.label} was played by this machine"


@dataclass(frozen=True, slots=True)
class Sleep:
    """Back to waiting for the wake word; `reason` is `done`, `cancelled`, `nothing said` or
    `too long`."""

    time: float
    reason: str

    def __str__(self) -> str:
        return f"{self.time:7.2f} s  asleep: {self.reason}"


AssistEvent = Event | Wake | Sleep | Echo
WakeStream = Stream | Gated


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long the loop stays awake, in seconds: until something is said, and in all."""

    nothing: float = 5.0
    longest: float = 20.0

    def __post_init__(self) -> None:
        if not 0.0 < self.nothing <= self.longest:
            raise AssistError(
                f"nothing, {self.nothing:g} s without a word, must be above 0 and not beyond "
                f"longest, {self.longest:g} s awake"
            )


class Assistant:
    """Streams on the same sound: for the wake words, and for what follows them.

    wake: detects the wake words and, if there is one, the word that cancels; several streams may,
    of several models. stream: recognises what follows, up to its first Utterance or Detection;
    played: detects the wake words as `wake`
    does, in what this machine plays. Times are seconds into the whole sound.

    What this machine says does not wake it: neither while it is `speaking`, which the application
    sets, nor if `played` detects the same word.
    Raises AssistError if the models want sound of different rates.
    """

    def __init__(
        self,
        wake: WakeStream | Sequence[WakeStream],
        stream: Stream,
        cancel: str | None = None,
        patience: Patience = Patience(),
        played: WakeStream | None = None,
    ) -> None:
        self._wakes = (wake,) if isinstance(wake, Stream | Gated) else tuple(wake)
        for card in (each.card for each in self._wakes):
            if card.sample_rate != stream.card.sample_rate:
                raise AssistError(
                    f"{card.name} takes {card.sample_rate} Hz and {stream.card.name} "
                    f"{stream.card.sample_rate}; choose models of the same rate"
                )
        self._stream = stream
        self._played = played
        self._cancel = cancel
        self._patience = patience
        self._rate = stream.card.sample_rate
        self.reset()

    @property
    def awake(self) -> bool:
        """Whether the wake word was said and what follows is listened to."""
        return self._since is not None

    def reset(self) -> None:
        """Go back to the initial state: asleep, at time 0."""
        for wake in self._wakes:
            wake.reset()
        self._stream.reset()
        if self._played is not None:
            self._played.reset()
        self._speaking = False
        self._spoke_until = -math.inf  # seconds, with the echo
        self._played_ends: dict[str, float] = {}  # of the newest of each wake word
        self._kept = np.zeros(0, np.float32)  # ends where the sound does
        self._samples = 0
        self._since: float | None = None  # where what follows begins, if awake
        self._said = False

    @property
    def speaking(self) -> bool:
        """Whether this machine says something itself: set it, and unset it afterwards."""
        return self._speaking

    @speaking.setter
    def speaking(self, speaks: bool) -> None:
        if self._speaking and not speaks:
            self._spoke_until = self._samples / self._rate + ECHO_SECONDS
        self._speaking = speaks

    def push(self, block: np.ndarray, played: np.ndarray | None = None) -> list[AssistEvent]:
        """Take float32 (n,) at the models' rate; return the events that it brings.

        played: what this machine plays at that time, float32 (n,), if there is a stream for it.
        Raises StreamError; AssistError if `played` does not fit.
        """
        if played is not None and (self._played is None or len(played) != len(block)):
            raise AssistError(
                f"{len(played)} samples were played beside {len(block)} recorded ones; give as "
                "many, and a stream `played`"
            )
        longest = round(KEPT_SECONDS * self._rate) // 2
        events: list[AssistEvent] = []
        for start in range(0, len(block), longest):
            piece = slice(start, start + longest)
            self._note_played(NOTHING if played is None else played[piece])
            events += self._push(block[piece])
        return events

    def finish(self) -> list[AssistEvent]:
        """End the sound; return what is left of what was being said."""
        if not self.awake:
            return []
        return self._followed(self._stream.finish()) or self._asleep("nothing said")

    def _push(self, block: np.ndarray) -> list[AssistEvent]:
        detections = [
            (detection, wake_end(wake, detection))
            for wake in self._wakes
            for detection in wake.push(block)
            if isinstance(detection, Detection)
        ]
        self._samples += len(block)
        self._kept = np.concatenate([self._kept, block])[-round(KEPT_SECONDS * self._rate) :]
        events: list[AssistEvent] = []
        if self.awake:
            if any(detection.label == self._cancel for detection, _ in detections):
                return self._asleep("cancelled")
            events += self._follow(block)
            return events or self._out_of_patience()
        for detection, end in detections:
            if detection.label == self._cancel:
                continue
            if self._is_echo(detection.label, end):
                events.append(Echo(detection.time, detection.label, detection.score, end))
                continue
            events += self._awaken(detection, end)
            return events + self._follow(self._kept_since_wake())
        return events

    def _note_played(self, played: np.ndarray) -> None:
        if self._played is None:
            return
        for event in self._played.push(played):
            if isinstance(event, Detection):
                self._played_ends[event.label] = wake_end(self._played, event)

    def _is_echo(self, label: str, end: float) -> bool:
        played = self._played_ends.get(label, -math.inf)
        return self._speaking or end <= self._spoke_until or abs(end - played) <= ECHO_SECONDS

    def _awaken(self, detection: Detection, end: float) -> list[AssistEvent]:
        self._stream.reset()
        self._since = max(end, (self._samples - len(self._kept)) / self._rate)
        self._said = False
        return [Wake(detection.time, detection.label, detection.score, end)]

    def _kept_since_wake(self) -> np.ndarray:
        assert self._since is not None
        first = round(self._since * self._rate)
        return self._kept[len(self._kept) - (self._samples - first) :]

    def _follow(self, sound: np.ndarray) -> list[AssistEvent]:
        return self._followed(self._stream.push(sound))

    def _followed(self, events: Sequence[Event]) -> list[AssistEvent]:
        """Report what follows the wake word, up to the first that is final."""
        reported: list[AssistEvent] = []
        for event in events:
            assert self._since is not None
            self._said = True
            reported.append(shifted(event, self._since))
            if not isinstance(event, Partial | NearMiss):
                return reported + self._asleep("done")
        return reported

    def _out_of_patience(self) -> list[AssistEvent]:
        assert self._since is not None
        awake = self._samples / self._rate - self._since
        if awake >= self._patience.longest:
            return self._followed(self._stream.finish()) or self._asleep("too long")
        if awake >= self._patience.nothing and not self._said:
            return self._asleep("nothing said")
        return []

    def _asleep(self, reason: str) -> list[AssistEvent]:
        self._since = None
        return [Sleep(self._samples / self._rate, reason)]


def wake_end(wake: WakeStream, detection: Detection) -> float:
    """Return where a wake word ended, in seconds.

    A typed one says where its last label begins, which goes on for another frame or so. One that a
    model was trained on is certain about a look-ahead and half the smoothing after its end.
    """
    card = wake.card
    if detection.end is not None:
        return detection.end + card.hop_length / card.sample_rate
    smoothing = card.trigger.smoothing if card.trigger else 0.0
    return max(0.0, detection.time - card.look_ahead / card.sample_rate - smoothing / 2)
