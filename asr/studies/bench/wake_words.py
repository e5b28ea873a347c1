"""A wake word, typed for a model or trained into it, beside detectors that were made for it.

All listen to the same recordings of the word, put into other sound, and to the same hours without
it. They are compared at equal false alarms: each at the threshold of its own with the fewest misses
that keeps the rate.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from asr.decode.keywords.typed import Keyword, SpotOptions
from asr.evaluation.alarms import Listening, listen
from asr.evaluation.intervals import share_interval
from asr.evaluation.report import percent, stretch
from asr.evaluation.streams import Firing, Thresholds, Track, Watcher, times_said, watch_in_turn
from asr.evaluation.trials import EvaluationError, Trial
from asr.files import write_figures
from asr.model import Model
from asr.studies.bench.others import DETECTORS, RATE, Peer
from asr.studies.bench.own import OwnWord
from asr.studies.bench.report import figure_table
from asr.studies.bench.sentences import COSTS, cost_cells, held_out, print_notes
from asr.studies.bench.workers import (
    PeerError,
    Worker,
    described,
    missing,
)

RATES = (0.2, 0.5, 1.0, 2.0)  # false alarms an hour
REFRACTORY = 2.0  # seconds after a report in which a peer reports nothing, as in its own programs
THRESHOLDS = np.unique(np.concatenate([np.arange(2, 96) / 100, 1.0 - np.logspace(-1.3, -4, 60)]))


@dataclass(frozen=True)
class PeerTrack:
    """The probabilities of a peer in a stream: (n,) each, with their times in seconds."""

    keyword: str
    seconds: float
    times: np.ndarray
    probabilities: np.ndarray

    def firings(self, thresholds: Thresholds) -> list[Firing]:
        """As a `Track`: what reaches the threshold, REFRACTORY apart."""
        found: list[Firing] = []
        for k in np.flatnonzero(self.probabilities >= thresholds[self.keyword]):
            if not found or self.times[k] >= found[-1].time + REFRACTORY:
                probability = float(self.probabilities[k])
                found.append(Firing(float(self.times[k]), self.keyword, probability))
        return found


class PeerListener:
    """A peer's worker as a `Listener`; `seconds` counts its processor time."""

    sample_rate = RATE

    def __init__(self, worker: Worker, keyword: Keyword) -> None:
        self._worker, self.keywords = worker, (keyword,)
        self.seconds = 0.0

    def says(self, reference: str, keyword: str) -> bool:
        """As a `Listener`."""
        return times_said(keyword, reference) == 1

    def watch(self, blocks: Iterable[np.ndarray]) -> Track:
        """As a `Listener`."""
        samples = np.concatenate([*blocks, np.zeros(0, np.float32)])
        found, seconds = self._worker.ask(samples)
        self.seconds += seconds
        times, probabilities = np.array(found, float).reshape(-1, 2).T
        return PeerTrack(self.keywords[0].text, len(samples) / RATE, times, probabilities)

    def watch_files(self, given: Sequence[Path], jobs: int = 1) -> Iterator[tuple[Path, Track]]:
        """As a `Listener`; one process whatever `jobs` is, as its time is counted."""
        return watch_in_turn(self, given)


class OwnListener(Watcher):
    """A `Watcher` whose processor time is counted in `seconds`, without that of reading files."""

    seconds = 0.0

    def watch(self, blocks: Iterable[np.ndarray]) -> Track:
        """As a `Listener`."""
        read = list(blocks)
        started = time.process_time()
        track = super().watch(read)
        self.seconds += time.process_time() - started
        return track

    def watch_files(self, given: Sequence[Path], jobs: int = 1) -> Iterator[tuple[Path, Track]]:
        """As a `Listener`; one process whatever `jobs` is, as its time is counted."""
        return watch_in_turn(self, given)


def compare_wake_word(
    model: Model,
    options: SpotOptions,
    data: Path,
    negatives: Sequence[Path],
    sources: Sequence[str] = (),
    overrides: Sequence[str] = (),
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Print how many of a wake word a model and the peers miss, and return the figures.

    options: one keyword; data, sources, overrides: recordings of it, see `held_out`; negatives:
    files and folders of sound that does not hold it. Raises EarshotError.
    """
    if len(options.keywords) != 1 or not negatives:
        raise EvaluationError(
            "wake words are compared one at a time, over hours without it: give one word with "
            "--keywords, and those with --negative"
        )
    (keyword,) = options.keywords
    trials = held_out(model, data, sources, overrides)
    figures: dict[str, Any] = {"keyword": keyword.text, "detectors": {}}
    own = OwnListener(model, options)
    with Worker(OwnWord, str(model.path), keyword.text) as worker:
        row = described(OwnWord(str(model.path), keyword.text))
        figures["detectors"][model.card.name] = row | _row(own, worker, trials, negatives)
    for kind in DETECTORS:
        figures["detectors"][kind.name] = _measured(kind, keyword, trials, negatives)
    print_wake_words(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    return figures


def _measured(
    kind: type[Peer], keyword: Keyword, trials: Sequence[Trial], negatives: Sequence[Path]
) -> dict[str, Any]:
    """The figures of a peer, or why there are none."""
    if packages := missing(kind):
        return {"problem": f"not installed: pip install {' '.join(packages)}"}
    try:
        with Worker(kind, keyword.text) as worker:
            row = _row(PeerListener(worker, keyword), worker, trials, negatives)
    except PeerError as error:
        return {"problem": str(error)}
    return described(kind(keyword.text)) | row


def _row(
    listener: "PeerListener | OwnListener",
    worker: Worker,
    trials: Sequence[Trial],
    negatives: Sequence[Path],
) -> dict[str, Any]:
    """Misses at RATES, and what the listener takes."""
    listening = listen(listener, trials, negatives)
    tracks = [*(p.track for p in listening.positives), *(n.track for n in listening.negatives)]
    if not listening.positives or not listening.hours:
        raise EvaluationError(
            f"nothing to compare on: {len(listening.positives)} recordings of "
            f"'{listener.keywords[0].text}', {stretch(listening.hours)} without it; check the "
            "paths and the spelling"
        )
    return {
        "said": len(listening.positives),
        "hours": listening.hours,
        "rates": equal_alarms(listening, listener.keywords[0].text),
        "start_seconds": worker.start_seconds,
        "memory": worker.memory,
        "rtf": listener.seconds / sum(track.seconds for track in tracks),
    }


def equal_alarms(listening: Listening, keyword: str) -> list[dict[str, Any]]:
    """The fewest misses with no more false alarms an hour than each of RATES, and where."""
    speakers = [positive.speaker for positive in listening.positives]
    points = []
    for threshold in THRESHOLDS.tolist():
        limits = {keyword: threshold}
        missed = np.array([outcome is None for outcome in listening.outcomes(limits)])
        count = sum(1 for _ in listening.alarms(limits))
        points.append((threshold, missed, count))
    rows = []
    for rate in RATES:
        allowed = [point for point in points if point[2] <= rate * listening.hours]
        threshold, missed, count = min(
            allowed, key=lambda point: (point[1].sum(), point[2]), default=(None, None, None)
        )
        found = {"at_most": rate, "threshold": threshold, "miss_rate": None, "miss_interval": None}
        if missed is not None and count is not None:
            found["miss_rate"] = float(missed.mean())
            found["miss_interval"] = share_interval(missed, np.ones(len(missed)), speakers)
            found["false_alarms_per_hour"] = count / listening.hours
        rows.append(found)
    return rows


def print_wake_words(figures: dict[str, Any]) -> None:
    """Print the figures of `compare_wake_word`."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    heads = ["", *(f"missed % at {rate:g}/h" for rate in RATES), *COSTS]
    rows, first = [], figures["detectors"][next(iter(figures["detectors"]))]
    for name, row in figures["detectors"].items():
        if "problem" in row:
            rows.append((name, *["-"] * (len(heads) - 1)))
            continue
        shares = (percent(point["miss_rate"], point["miss_interval"]) for point in row["rates"])
        rows.append((name, *shares, *cost_cells(row)))
    title = (
        f"'{figures['keyword']}': {first['said']} recordings in other sound, "
        f"{stretch(first['hours'])} without it"
    )
    console.print(figure_table(heads, rows, title))
    print_notes(figures["detectors"], console)
