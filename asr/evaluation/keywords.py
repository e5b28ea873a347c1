"""Measuring typed keywords: how many are missed at how many false alarms, and how late they come.

A detection is a hit if the keyword is said within TOLERANCE of where the detection has its end, or
anywhere in a recording that does not say when; all others, a second one of the same word too, are
false alarms. Audio is heard once: its peaks serve for every threshold.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asr.decode.alphabet import Alphabet
from asr.decode.keywords.typed import (
    Arbiter,
    Keyword,
    Peak,
    PeakFinder,
    SpotOptions,
    sounds_of,
    spellings,
)
from asr.evaluation.accuracy import EvaluationError
from asr.evaluation.intervals import percent, wilson_interval
from asr.files import write_figures
from asr.model import Model, ModelError
from asr.stream import scorer
from asr.training.config import SourceConfig, read_config
from asr.training.data.sources import Recording, read_source
from asr.training.plots import plot_det
from features.audio import AudioError, read_audio

TOLERANCE = 0.3  # seconds
RATES = (0.5, 1.0, 5.0)  # false alarms per hour
THRESHOLDS = np.arange(20, 202) / 200  # of the sweep; nothing reaches the last


@dataclass(frozen=True)
class Said:
    """A keyword in a recording, by its number; from when to when in seconds, if that is known."""

    keyword: int
    times: tuple[float, float] | None


@dataclass(frozen=True)
class Heard:
    """A recording after the model: what is said in it, its peaks, and its length in seconds.

    known: how many seconds had been heard when the scores of each frame were there.
    """

    said: tuple[Said, ...]
    peaks: list[Peak]
    seconds: float
    known: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What happened to keywords, by number: said, hits and false alarms, (keywords,) each.

    delays: seconds from the ends of words to their detections, of hits whose time is known.
    """

    said: np.ndarray
    hits: np.ndarray
    false_alarms: np.ndarray
    delays: list[tuple[int, float]]


def evaluate_keywords(
    model: Model,
    data: Path,
    options: SpotOptions,
    json_file: Path | None = None,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Print how well typed keywords are spotted in `data`, and return the figures.

    data: a folder of words, a JSON-lines manifest (keyword_start and keyword_end, in seconds, say
    when the keyword in the text is said), or a training recipe: then what it holds out.
    Raises EarshotError.
    """
    if model.card.task != "ctc":
        raise ModelError(
            f"{model.path}: typed keywords are measured with a model that transcribes; without "
            "--keywords, all that this model has learnt are"
        )
    evaluation = Evaluation(model, options)
    heard = list(evaluation.listen(_recordings(data)))
    if not any(recording.said for recording in heard):
        raise EvaluationError(f"{data}: none of the keywords is in its texts; check the spelling")
    figures: dict[str, Any] = {"model": model.card.name, **evaluation.figures(heard)}
    _print(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    if plot is not None:
        plot_det(figures["curve"], figures["rates"], plot)
    return figures


def _recordings(data: Path) -> list[Recording]:
    if data.suffix != ".toml":
        source = SourceConfig(path=str(data), name=data.stem, licence="", attribution="")
        return read_source(0, source)
    sources = enumerate(read_config(data, []).data.sources)
    read = (read_source(index, source) for index, source in sources if source.kind != "noise")
    return [recording for recordings in read for recording in recordings if recording.validation]


def find_said(recording: Recording, keywords: Sequence[Keyword]) -> tuple[Said, ...]:
    """The keywords in the text of a recording. If there is just one, a marked time is its own."""
    counts = [_count(keyword.text, recording.text) for keyword in keywords]
    times = recording.marked if sum(counts) == 1 else None
    return tuple(Said(k, times) for k, count in enumerate(counts) for _ in range(count))


def _count(keyword: str, text: str) -> int:
    """How often whole words of a text, run together, make up the keyword."""
    letters, sounds = sounds_of(text), sounds_of(keyword)
    bounds = {0, *itertools.accumulate(len(word) for word in text.split())}
    return sum(letters.startswith(sounds, b) and b + len(sounds) in bounds for b in bounds)


class Evaluation:
    """A model and its keywords, measured."""

    def __init__(self, model: Model, options: SpotOptions) -> None:
        alphabet = Alphabet.of(model.card)
        self._model = model
        self._keywords = options.keywords
        self._finder = PeakFinder(alphabet, spellings(alphabet, options.keywords))
        self._frame_seconds = alphabet.frame_seconds
        self._refractory = round(options.refractory / alphabet.frame_seconds)

    def listen(self, recordings: Sequence[Recording]) -> Iterator[Heard]:
        """Let the model hear recordings; what cannot be read is skipped with a warning."""
        console = Console(stderr=True)
        for recording in track(recordings, "listening", console=console, transient=True):
            try:
                waveform = read_audio(recording.path, self._model.card.sample_rate)
            except AudioError as error:
                console.print(f"warning: {error}", highlight=False)
                continue
            yield self._hear(waveform, find_said(recording, self._keywords))

    def _hear(self, waveform: np.ndarray, said: tuple[Said, ...]) -> Heard:
        scores, sample_rate = scorer(self._model), self._model.card.sample_rate
        runs = [*scores.push(waveform), *scores.finish()]
        self._finder.reset()
        peaks = [peak for run in runs for peak in self._finder.push(run.log_probs)]
        known = np.concatenate([np.full(len(run.log_probs), run.end) for run in runs])
        seconds = len(waveform) / sample_rate
        return Heard(said, peaks + self._finder.finish(), seconds, known / sample_rate)

    def judge(self, heard: Sequence[Heard], keywords: Sequence[Keyword]) -> Outcome:
        """What happens with the thresholds of `keywords`."""
        count = len(keywords)
        said = np.bincount([s.keyword for r in heard for s in r.said], minlength=count)
        outcome = Outcome(said, np.zeros(count, int), np.zeros(count, int), [])
        for recording in heard:
            missing = list(recording.said)
            for peak in self._detections(recording, keywords):
                self._match(peak, recording, missing, outcome)
        return outcome

    def _detections(self, recording: Heard, keywords: Sequence[Keyword]) -> list[Peak]:
        arbiter = Arbiter(keywords, self._refractory, self._finder.confirm)
        peaks = [p for p in recording.peaks if p.score >= keywords[p.keyword].spelt_threshold]
        return [peak for peak, reason in arbiter.push(peaks, np.inf) if not reason]

    def _match(self, peak: Peak, recording: Heard, missing: list[Said], outcome: Outcome) -> None:
        end = peak.end * self._frame_seconds
        for said in missing:
            first, last = said.times or (0.0, recording.seconds)
            if said.keyword == peak.keyword and first - TOLERANCE <= end <= last + TOLERANCE:
                missing.remove(said)
                outcome.hits[peak.keyword] += 1
                if said.times:
                    frame = min(peak.end + 2 * self._finder.confirm, len(recording.known)) - 1
                    delay = float(recording.known[frame]) - said.times[1]
                    outcome.delays.append((peak.keyword, delay))
                return
        outcome.false_alarms[peak.keyword] += 1

    def figures(self, heard: Sequence[Heard]) -> dict[str, Any]:
        """The figures of an evaluation; shares, not percent."""
        marked = sum(s.times[1] - s.times[0] for r in heard for s in r.said if s.times)
        hours = (sum(recording.seconds for recording in heard) - marked) / 3600
        curve = []
        for threshold in THRESHOLDS.tolist():
            swept = [Keyword(keyword.text, threshold) for keyword in self._keywords]
            curve.append({"threshold": threshold} | _rates(self.judge(heard, swept), hours))
        own = self.judge(heard, self._keywords)
        return {
            "recordings": len(heard),
            "hours": hours,
            "rates": [{"at_most": rate} | _fewest_misses(curve, rate) for rate in RATES],
            "keywords": {
                keyword.text: {"threshold": keyword.spelt_threshold}
                | _rates(_of_keyword(own, number), hours)
                for number, keyword in enumerate(self._keywords)
            },
            "all": _rates(own, hours),
            "curve": curve,
        }


def _fewest_misses(curve: list[dict[str, Any]], rate: float) -> dict[str, Any]:
    """The point with the fewest misses of those with no more false alarms per hour than `rate`."""
    allowed = [point for point in curve if point["false_alarms_per_hour"] <= rate]
    return min(allowed, key=lambda point: (point["miss_rate"], point["false_alarms_per_hour"]))


def _of_keyword(outcome: Outcome, number: int) -> Outcome:
    one = slice(number, number + 1)
    return replace(
        outcome,
        said=outcome.said[one],
        hits=outcome.hits[one],
        false_alarms=outcome.false_alarms[one],
        delays=[(keyword, delay) for keyword, delay in outcome.delays if keyword == number],
    )


def _rates(outcome: Outcome, hours: float) -> dict[str, Any]:
    """Figures of an outcome; misses and delays are None where nothing was said or nothing hit."""
    said, missed = int(outcome.said.sum()), int((outcome.said - outcome.hits).sum())
    delays = [delay for _, delay in outcome.delays]
    return {
        "said": said,
        "missed": missed,
        "miss_rate": missed / said if said else None,
        "miss_interval": wilson_interval(missed, said) if said else None,
        "false_alarms": int(outcome.false_alarms.sum()),
        "false_alarms_per_hour": float(outcome.false_alarms.sum() / hours),
        "delay_median": float(np.median(delays)) if delays else None,
        "delay_90": float(np.quantile(delays, 0.9)) if delays else None,
    }


def _print(figures: dict[str, Any]) -> None:
    console = Console()
    hours = figures["hours"]
    table = Table("false alarms per hour", "threshold", "missed % (95 % interval)")
    for point in figures["rates"]:
        table.add_row(f"{point['at_most']:g}", f"{point['threshold']:.3f}", _missed(point))
    console.print(table)
    names = ("keyword", "threshold", "said", "missed %", "false alarms", "delay s", "90 % s")
    table = Table(*names, padding=(0, 0))
    for name, row in {**figures["keywords"], "all": figures["all"]}.items():
        alarms = f"{row['false_alarms']} ({row['false_alarms_per_hour']:.1f}/h)"
        delays = [_or_dash(row[delay]) for delay in ("delay_median", "delay_90")]
        threshold = _or_dash(row.get("threshold"))
        table.add_row(name, threshold, str(row["said"]), _missed(row), alarms, *delays)
    console.print(table)
    console.print(f"{figures['recordings']} recordings, {hours:.2f} hours; delay from word end")
    if hours * RATES[0] < 1.0:
        console.print(
            f"{hours:.2f} hours are too few to measure {RATES[0]} false alarms per hour: there it "
            "is none at all"
        )


def _missed(row: dict[str, Any]) -> str:
    share = row["miss_rate"]
    return "-" if share is None else percent(share, row["miss_interval"])


def _or_dash(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"
