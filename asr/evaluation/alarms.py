"""Misses and false alarms of a model that listens all the time, at any thresholds.

Keywords are put into other sound, as they come in a stream; false alarms are counted over hours of
sound that holds none. A keyword is recognised if it is reported between its beginning and
LATE_SECONDS after its end.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.decode.keywords.typed import SpotOptions
from asr.evaluation.alarm_report import plot_streams, print_streams
from asr.evaluation.intervals import poisson_bound, share_interval
from asr.evaluation.streams import Firing, Listener, Thresholds, Track, Watcher
from asr.evaluation.trials import EvaluationError, Trial, read_trials
from asr.files import whole_file, write_figures
from asr.model import Model
from asr.training.progress import tracked
from features.activity import spoken_span
from features.audio import AudioError, stream_audio
from features.augment import active_power

logger = logging.getLogger(__name__)

LATE_SECONDS = 1.0
AROUND_SECONDS = 1.5  # of other sound before and after a keyword
PAUSE_SECONDS, BELOW_DB = 0.3, 20.0  # around a keyword, in which that sound is lower
SURROUNDINGS = 40  # negatives whose first seconds keywords are put into
SEED = 0
SWEEP = tuple(k / 50 for k in range(5, 51))
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 0.5  # of sound that is kept of a false alarm
MAKE_ROOM = "free some space, or name another folder"


@dataclass(frozen=True)
class Positive:
    """A keyword in a stream, and from when to when in seconds it is said there."""

    keyword: str
    speaker: str
    start: float
    end: float
    track: Track

    def found(self, firings: Sequence[Firing]) -> Firing | None:
        """The report of it among those of its stream."""
        last = self.end + LATE_SECONDS
        own = (f for f in firings if f.keyword == self.keyword and self.start <= f.time <= last)
        return next(own, None)


@dataclass(frozen=True)
class Negative:
    """A stream that holds no keyword."""

    path: Path
    track: Track


@dataclass(frozen=True)
class Listening:
    """What a model was given: keywords in streams, and streams without any."""

    positives: tuple[Positive, ...]
    negatives: tuple[Negative, ...]

    @property
    def hours(self) -> float:
        """Of sound without keywords."""
        return sum(negative.track.seconds for negative in self.negatives) / 3600.0

    def alarms(self, thresholds: Thresholds) -> Iterator[tuple[Negative, Firing]]:
        """What is reported where nothing is said."""
        for negative in self.negatives:
            for firing in negative.track.firings(thresholds):
                yield negative, firing

    def outcomes(self, thresholds: Thresholds) -> list[Firing | None]:
        """The report of each keyword that was said."""
        return [p.found(p.track.firings(thresholds)) for p in self.positives]


def listen(
    listener: Listener, trials: Sequence[Trial], negatives: Sequence[Path], jobs: int = 1
) -> Listening:
    """Have keywords listened to, put into other sound, and negatives (files and folders), which
    `jobs` processes share out.

    Trials of other keywords are left out, and those that cannot be read, with a warning. The sound
    around a keyword is drawn from that of its neighbours among the negatives, at a seed.
    """
    silent = [Negative(path, track) for path, track in listener.watch_files(negatives, jobs)]
    around = Surroundings([n.path for n in silent], listener.sample_rate)
    positives = []
    for trial in tracked(trials, "listening to keywords"):
        names = (keyword.text for keyword in listener.keywords)
        said = [name for name in names if listener.says(trial.reference, name)]
        try:
            positives += _positives(listener, trial, said, around) if said else []
        except AudioError as error:
            logger.warning("%s: left out", error)
    return Listening(tuple(positives), tuple(silent))


def _positives(
    listener: Listener, trial: Trial, said: Sequence[str], around: "Surroundings"
) -> list[Positive]:
    """Keywords amid other sound, or, if it is marked when they are said, in their own recording."""
    samples, rate = trial.waveform(), listener.sample_rate
    if trial.marked:
        times, track = trial.marked, listener.watch([samples])
    else:
        stream, place = around.surround(samples)
        first, last = (place + edge for edge in spoken_span(samples, rate))
        times, track = (first / rate, last / rate), listener.watch([stream])
    return [Positive(keyword, trial.speaker, *times, track) for keyword in said]


class Surroundings:
    """Sound to put keywords into: stretches of negatives, at a seed; silence if there are none.

    It is as loud as the keyword. Who says that pauses before and after it: meanwhile the other
    sound is lower by BELOW_DB.
    """

    def __init__(self, files: Sequence[Path], sample_rate: int) -> None:
        self._rng = np.random.default_rng(SEED)
        self._rate = sample_rate
        self._size = round(AROUND_SECONDS * sample_rate)
        self._pause = round(PAUSE_SECONDS * sample_rate)
        some = files[:: 1 + len(files) // SURROUNDINGS]
        self._sounds = [next(iter(stream_audio(path, sample_rate))) for path in some]
        self._sounds = self._sounds or [np.zeros(self._size, np.float32)]

    def surround(self, keyword: np.ndarray) -> tuple[np.ndarray, int]:
        """Put float32 (n,) into other sound; return all of it, and where the keyword begins."""
        place = self._size + self._pause
        length = 2 * place + len(keyword)
        sound = self._sounds[self._rng.integers(len(self._sounds))]
        start = self._rng.integers(len(sound))
        stream = np.take(sound, range(start, start + length), mode="wrap").astype(np.float32)
        if power := active_power(stream, self._rate):
            stream *= np.float32(np.sqrt(active_power(keyword, self._rate) / power))
        stream[self._size : length - self._size] *= 10.0 ** (-BELOW_DB / 20.0)
        stream[place : place + len(keyword)] += keyword
        return stream, place


def evaluate_stream(
    model: Model,
    data: Path,
    negatives: Sequence[Path],
    *,
    options: SpotOptions | None = None,
    speaker: str = "",
    json_file: Path | None = None,
    plot: Path | None = None,
    alarms: Path | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Print how a model does that listens all the time, and return the figures.

    data, speaker: keywords that are said, as for `read_trials`; negatives: files and folders of
    sound that holds none; options: typed keywords, or some of the model's own. alarms: a folder for
    the sound that caused false alarms; jobs: processes that share the negatives. Raises
    EarshotError.
    """
    watcher = Watcher(model, options)
    listening = listen(watcher, read_trials(model, data, speaker).trials, negatives, jobs)
    if not listening.positives:
        raise EvaluationError(f"{data}: none of the keywords is said in it; check the spelling")
    thresholds = watcher.thresholds
    figures = stream_figures(watcher, listening, thresholds)
    print_streams(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    if plot is not None:
        plot_streams(figures, plot)
    if alarms is not None:
        count = save_alarms(listening, thresholds, model.card.sample_rate, alarms)
        print(f"{count} false alarms are in {alarms}")
    return figures


def stream_figures(
    watcher: Watcher, listening: Listening, thresholds: Thresholds
) -> dict[str, Any]:
    """Figures of all keywords and of each; shares, not percent, and rates an hour.

    at_most: false alarms an hour that are proved not to be exceeded, with 95 % confidence. delay:
    seconds from the end of the word to its report. curve: by one threshold for all, and by keyword.
    """
    alarms = [firing for _, firing in listening.alarms(thresholds)]
    outcomes = listening.outcomes(thresholds)
    names = [keyword.text for keyword in watcher.keywords]
    return {
        "model": watcher.model.card.name,
        "hours": listening.hours,
        "streams": len(listening.negatives),
        "all": _row(listening, outcomes, alarms, None),
        "keywords": {
            name: {"threshold": thresholds[name]} | _row(listening, outcomes, alarms, name)
            for name in names
        },
        "curve": _curve(listening, names),
        "curves": {name: _curve(listening, [name]) for name in names},
    }


def _row(
    listening: Listening,
    outcomes: Sequence[Firing | None],
    alarms: Sequence[Firing],
    keyword: str | None,
) -> dict[str, Any]:
    """The figures of a keyword, or of all (None)."""
    pairs = [
        (positive, outcome)
        for positive, outcome in zip(listening.positives, outcomes, strict=True)
        if keyword in (None, positive.keyword)
    ]
    missed = np.array([outcome is None for _, outcome in pairs])
    speakers = [positive.speaker for positive, _ in pairs]
    delays = [outcome.time - positive.end for positive, outcome in pairs if outcome]
    count = sum(keyword in (None, alarm.keyword) for alarm in alarms)
    hours = listening.hours
    return {
        "said": len(pairs),
        "missed": int(missed.sum()),
        "miss_rate": float(missed.mean()) if pairs else None,
        "miss_interval": share_interval(missed, np.ones(len(missed)), speakers) if pairs else None,
        "false_alarms": count,
        "false_alarms_per_hour": count / hours if hours else None,
        "at_most": poisson_bound(count) / hours if hours else None,
        "delay_median": float(np.median(delays)) if delays else None,
        "delay_90": float(np.quantile(delays, 0.9)) if delays else None,
    }


def _curve(listening: Listening, names: Sequence[str]) -> list[dict[str, float]]:
    """Misses and false alarms by the threshold that these keywords have in common."""
    asked = [positive for positive in listening.positives if positive.keyword in names]
    if not asked or not listening.hours:
        return []
    points = []
    for threshold in SWEEP:
        common = dict.fromkeys(names, threshold)
        missed = sum(p.found(p.track.firings(common)) is None for p in asked)
        count = sum(1 for _ in listening.alarms(common))
        points.append(
            {
                "threshold": threshold,
                "miss_rate": missed / len(asked),
                "false_alarms_per_hour": count / listening.hours,
            }
        )
    return points


def save_alarms(
    listening: Listening, thresholds: Thresholds, sample_rate: int, folder: Path
) -> int:
    """Write the sound that caused each false alarm, named by keyword, score, file and time; return
    how many there are. Raises WriteError, AudioError."""
    total = 0
    for negative in listening.negatives:
        firings = negative.track.firings(thresholds)
        cuts = cut_out(negative.path, [firing.time for firing in firings], sample_rate)
        for firing, samples in zip(firings, cuts, strict=True):
            name = (
                f"{firing.keyword}-{firing.score:.2f}-{negative.path.stem}-{firing.time:.2f}.flac"
            )
            with whole_file(folder / name.replace("/", "_"), MAKE_ROOM) as part:
                soundfile.write(part, samples, sample_rate, format="FLAC")
            total += 1
    return total


def cut_out(path: Path, times: Sequence[float], sample_rate: int) -> list[np.ndarray]:
    """The sound of a file around each of these times, in seconds and in their order: BEFORE_SECONDS
    up to them, and AFTER_SECONDS more. The file is read once, in constant memory."""
    bounds = [
        (max(0, round((time - BEFORE_SECONDS) * sample_rate)), (time + AFTER_SECONDS) * sample_rate)
        for time in times
    ]
    parts: list[list[np.ndarray]] = [[] for _ in times]
    if not bounds:
        return []
    place = 0
    for block in stream_audio(path, sample_rate):
        for found, (first, last) in zip(parts, bounds, strict=True):
            part = block[max(0, first - place) : max(0, round(last) - place)]
            if len(part):
                found.append(part)
        place += len(block)
        if place >= max(last for _, last in bounds):
            break
    return [np.concatenate([*found, np.zeros(0, np.float32)]) for found in parts]
