"""Models over hours of sound, as a device runs them: scored once, then asked at any threshold."""

import contextlib
import functools
import itertools
import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from asr.batch.locations import opened
from asr.batch.workers import File, Report, Work, in_order, process_files
from asr.card import ModelCard
from asr.decode.base import chosen
from asr.decode.keywords.trained import Crossings, KeywordTrigger
from asr.decode.keywords.typed import (
    Arbiter,
    Keyword,
    Peak,
    PeakFinder,
    SpotOptions,
    Target,
    sounds_of,
)
from asr.model import Model, ModelError
from asr.runtime.scorers import Scores, scorer_for
from asr.training.progress import tracked
from features.audio import AudioError, find_audio, stream_audio

logger = logging.getLogger(__name__)

Thresholds = Mapping[str, float]
"""By keyword; one that is missing is not spotted."""


class Firing(NamedTuple):
    """A keyword that is reported: when, in seconds of the stream, which, and its score."""

    time: float
    keyword: str
    score: float


class Track(Protocol):
    """A stream after the model."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        ...

    def firings(self, thresholds: Thresholds) -> list[Firing]:
        """What a device with these thresholds reports."""
        ...


@dataclass(frozen=True)
class TrainedTrack:
    """Smoothed posteriors of a classifier: (moments, labels), and the samples up to which each is:
    of sound, and with the silence after it."""

    card: ModelCard
    seconds: float
    posteriors: np.ndarray
    ends: np.ndarray
    reached: np.ndarray

    def firings(self, thresholds: Thresholds) -> list[Firing]:
        """As a `Track`."""
        card = self.card
        assert card.trigger is not None
        names = [label for label in card.labels if label in thresholds]
        posteriors = self.posteriors[:, [card.labels.index(name) for name in names]]
        limits = np.array([thresholds[name] for name in names], "f4")
        crossings = Crossings(limits, round(card.trigger.refractory * card.sample_rate))
        above = np.any(posteriors >= limits, axis=1)
        above[1:] |= above[:-1].copy()  # where a score has fallen again, a label is armed again
        found = []
        for k in np.flatnonzero(above).tolist():
            fired = crossings.push(int(self.reached[k]), posteriors[k])
            if fired is not None:
                time, score = float(self.ends[k] / card.sample_rate), float(posteriors[k, fired])
                found.append(Firing(time, names[fired], score))
        return found


@dataclass(frozen=True)
class TypedTrack:
    """Where typed keywords fit best in a stream.

    known: (frames,) seconds of sound that had come when the scores of a frame were there.
    """

    keywords: tuple[Keyword, ...]
    seconds: float
    peaks: tuple[Peak, ...]
    known: np.ndarray
    refractory: int
    confirm: int

    def firings(self, thresholds: Thresholds) -> list[Firing]:
        """As a `Track`."""
        limits = [thresholds.get(keyword.text, np.inf) for keyword in self.keywords]
        keywords = [
            Target(keyword.text, min(limit, 1.0))
            for keyword, limit in zip(self.keywords, limits, strict=True)
        ]
        arbiter = Arbiter(keywords, self.refractory, self.confirm)
        peaks = [peak for peak in self.peaks if peak.score >= limits[peak.keyword]]
        reported = (peak for peak, reason in arbiter.push(peaks, np.inf) if not reason)
        return [
            Firing(self._known_at(peak), keywords[peak.keyword].text, peak.score)
            for peak in reported
        ]

    def _known_at(self, peak: Peak) -> float:
        frame = min(peak.end + 2 * self.confirm, len(self.known)) - 1
        return float(self.known[frame])


class Listener(Protocol):
    """Makes tracks of streams, of some keywords."""

    @property
    def sample_rate(self) -> int:
        """Of what it listens to."""
        ...

    @property
    def keywords(self) -> Sequence[Keyword]:
        """What it reports."""
        ...

    def says(self, reference: str, keyword: str) -> bool:
        """Whether a keyword is said in what has this reference."""
        ...

    def watch(self, blocks: Iterable[np.ndarray]) -> Track:
        """The track of a stream: blocks of float32 (n,) at its rate."""
        ...

    def watch_files(self, given: Sequence[Path], jobs: int = 1) -> Iterator[tuple[Path, Track]]:
        """The track of each audio file in files and folders, in the order of their names."""
        ...


class Watcher:
    """Makes tracks of streams: of a classifier by its own keywords, of a ctc model by typed ones.

    options: which keywords; None for all of a classifier. Raises ModelError for a ctc model without
    any, DecodeError for what it cannot spell.
    """

    def __init__(self, model: Model, options: SpotOptions | None = None) -> None:
        self.model, self._options = model, options
        card = model.card
        if card.task == "classify":
            known = [label for label in card.labels if label not in card.background]
            given = [keyword.text for keyword in options.keywords] if options else []
            KeywordTrigger(card, options)  # refuses what it does not know
            chosen_ones = [label for label in known if not given or label.lower() in given]
            self.keywords = tuple(Keyword(label) for label in chosen_ones)
        elif options is None:
            raise ModelError(
                f"{model.path}: this model transcribes and knows no keywords of its own; type some "
                "with --keywords"
            )
        else:
            rules = chosen(card.spotting, options)
            self.keywords = options.beside(model.language_model).keywords
            self._finder = PeakFinder(card, self.keywords, rules)

    @property
    def thresholds(self) -> dict[str, float]:
        """Those of the model's card, or those typed."""
        card = self.model.card
        return {k.text: k.threshold or card.threshold_of(k.text) for k in self.keywords}

    @property
    def sample_rate(self) -> int:
        """That of the model."""
        return self.model.card.sample_rate

    def says(self, reference: str, keyword: str) -> bool:
        """Whether a keyword is said: the label of a classifier, once in a text."""
        if self.model.card.task == "classify":
            return reference == keyword
        return times_said(keyword, reference) == 1

    def watch(self, blocks: Iterable[np.ndarray]) -> Track:
        """Run the model over blocks of float32 (n,) at its rate."""
        card = self.model.card
        scorer, samples = scorer_for(self.model, card.closing_silence), 0
        runs: list[Scores] = []
        for block in blocks:
            samples += len(block)
            runs += scorer.push(block)
        runs += scorer.finish()
        make = self._trained if card.task == "classify" else self._typed
        return make(runs, samples / card.sample_rate)

    def _trained(self, runs: Sequence[Scores], seconds: float) -> TrainedTrack:
        trigger, rows = KeywordTrigger(self.model.card), []
        for run in runs:
            trigger.push(run)
            rows.append(trigger.smoothed)
        return TrainedTrack(
            self.model.card,
            seconds,
            np.stack(rows) if rows else np.zeros((0, len(self.model.card.labels)), np.float32),
            np.array([run.end for run in runs]),
            np.array([run.end + run.silence for run in runs]),
        )

    def _typed(self, runs: Sequence[Scores], seconds: float) -> TypedTrack:
        self._finder.reset()
        peaks = [peak for run in runs for peak in self._finder.push(run)]
        known = [np.full(len(run.log_probs), run.end) for run in runs]
        return TypedTrack(
            self.keywords,
            seconds,
            (*peaks, *self._finder.finish()),
            np.concatenate([*known, np.zeros(0)]) / self.model.card.sample_rate,
            self._finder.refractory,
            self._finder.confirm,
        )

    def watch_files(self, given: Sequence[Path], jobs: int = 1) -> Iterator[tuple[Path, Track]]:
        """The track of each audio file in files and folders, in the order of their names; what
        cannot be read is left out with a warning.

        jobs: processes that share the files; the tracks are the same, to the bit.
        """
        files = sorted({path for one in given for path in find_audio(one)})
        start = functools.partial(_watching, self.model, self._options)
        # What measures has imported torch, whose threads a fork would leave behind.
        spawn = multiprocessing.get_context("spawn")
        with contextlib.closing(process_files(start, files, jobs, context=spawn)) as results:
            for index, track in tracked(in_order(results), "listening to negatives", len(files)):
                if isinstance(track, AudioError):
                    logger.warning("%s: left out", track)
                else:
                    yield files[index], track


def _watching(model: Model, options: SpotOptions | None) -> Work:
    watcher = Watcher(model, options)

    def work(file: File, _: Report) -> Track:
        with opened(file) as source:
            return watcher.watch(stream_audio(source, model.card.sample_rate))

    return work


def watch_in_turn(listener: Listener, given: Sequence[Path]) -> Iterator[tuple[Path, Track]]:
    """The track of each audio file in files and folders; what cannot be read is left out with a
    warning."""
    files = sorted({path for one in given for path in find_audio(one)})
    for path in tracked(files, "listening to negatives"):
        try:
            yield path, listener.watch(stream_audio(path, listener.sample_rate))
        except AudioError as error:
            logger.warning("%s: left out", error)


def times_said(keyword: str, text: str) -> int:
    """How often whole words of a text, run together, make up the keyword."""
    letters, sounds = sounds_of(text), sounds_of(keyword)
    bounds = {0, *itertools.accumulate(len(word) for word in text.split())}
    return sum(letters.startswith(sounds, b) and b + len(sounds) in bounds for b in bounds)
