"""Measuring typed keywords: how many are missed at how many false alarms, and how late they come.

A detection is a hit if the keyword is said within TOLERANCE of where the detection has its end, or
anywhere in a recording that does not say when; all others, a second one of the same word too, are
false alarms. Audio is scored once: its peaks serve for every threshold.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.decode.alphabet import Alphabet
from asr.decode.base import chosen
from asr.decode.keywords.typed import (
    Arbiter,
    Keyword,
    Peak,
    PeakFinder,
    SpotOptions,
    Target,
    targets,
)
from asr.evaluation.intervals import interval_over, share_interval
from asr.evaluation.plots import plot_det
from asr.evaluation.report import print_keywords
from asr.evaluation.streams import times_said
from asr.evaluation.trials import NO_FOLDER, UNREADABLE, EvaluationError, labelled_recordings
from asr.files import write_figures
from asr.model import Model
from asr.runtime.scorers import scorer_for
from asr.runtime.session import ModelError
from asr.training.config import read_config
from asr.training.data.sources import Recording, read_source
from asr.training.progress import tracked
from features.audio import AudioError, read_audio

logger = logging.getLogger(__name__)

TOLERANCE = 0.3  # seconds
RATES = (0.5, 1.0, 5.0)  # false alarms per hour
THRESHOLDS = np.arange(20, 202) / 200  # of the sweep; nothing reaches the last


@dataclass(frozen=True)
class Said:
    """A keyword in a recording, by its number; from when to when in seconds, if that is known."""

    keyword: int
    times: tuple[float, float] | None


@dataclass(frozen=True)
class Scored:
    """A recording after the model: who says what in it, its peaks, and its length in seconds.

    known: how many seconds of sound had come when the scores of each frame were there.
    """

    speaker: str
    said: tuple[Said, ...]
    peaks: list[Peak]
    seconds: float
    known: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What happened to keywords, by number: said and hits (keywords, recordings), false alarms
    (keywords,).

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
    speaker: str = "",
) -> dict[str, Any]:
    """Print how well typed keywords are spotted in `data`, and return the figures.

    data: a folder of words, a JSON-lines manifest (keyword_start and keyword_end, in seconds, say
    when the keyword in the text is said), or a training recipe: then what it holds out. speaker:
    as in a recipe, how a folder or manifest names the speakers. Raises EarshotError.
    """
    if model.card.task != "ctc":
        raise ModelError(
            f"{model.path}: typed keywords are measured with a model that transcribes; without "
            "--keywords, all that this model has learnt are"
        )
    recordings, left_out = _recordings(data, speaker)
    evaluation = Evaluation(model, options)
    scored = list(evaluation.score(recordings))
    if unreadable := len(recordings) - len(scored):
        left_out[UNREADABLE] = unreadable
    if not any(recording.said for recording in scored):
        raise EvaluationError(f"{data}: none of the keywords is in its texts; check the spelling")
    figures: dict[str, Any] = {"model": model.card.name, **evaluation.figures(scored)}
    figures["left_out"] = left_out
    print_keywords(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    if plot is not None:
        plot_det(figures["curve"], figures["rates"], plot)
    return figures


def _recordings(data: Path, speaker: str) -> tuple[list[Recording], dict[str, int]]:
    """What can be measured, and how much is left out and why: said in a warning, too."""
    if data.suffix != ".toml":
        labelled, unlabelled = labelled_recordings(data, speaker)
        if unlabelled:
            logger.warning("%s: left out %d %s", data, unlabelled, NO_FOLDER)
        return labelled, {NO_FOLDER: unlabelled} if unlabelled else {}
    sources = enumerate(read_config(data, []).data.sources)
    read = (read_source(index, source) for index, source in sources if source.kind != "noise")
    held_out = [r for recordings in read for r in recordings if r.validation]
    return held_out, {}


def find_said(recording: Recording, keywords: Sequence[Keyword | Target]) -> tuple[Said, ...]:
    """The keywords in the text of a recording. If there is just one, a marked time is its own."""
    counts = [times_said(keyword.text, recording.text) for keyword in keywords]
    times = recording.marked if sum(counts) == 1 else None
    return tuple(Said(k, times) for k, count in enumerate(counts) for _ in range(count))


class Evaluation:
    """A model and its keywords, measured."""

    def __init__(self, model: Model, options: SpotOptions) -> None:
        self._model = model
        rules = chosen(model.card.spotting, options)
        self._keywords = targets(options.keywords, model.card)
        said = options.beside(model.language_model).keywords
        self._finder = PeakFinder(model.card, said, rules)
        self._frame_seconds = Alphabet.of(model.card).frame_seconds

    def score(self, recordings: Sequence[Recording]) -> Iterator[Scored]:
        """Run the model over recordings; what cannot be read is left out with a warning."""
        for recording in tracked(recordings, "recognising"):
            try:
                waveform = read_audio(recording.path, self._model.card.sample_rate)
            except AudioError as error:
                logger.warning("%s: left out", error)
                continue
            yield self._scored(recording, waveform)

    def _scored(self, recording: Recording, waveform: np.ndarray) -> Scored:
        scores, sample_rate = scorer_for(self._model), self._model.card.sample_rate
        runs = [*scores.push(waveform), *scores.finish()]
        self._finder.reset()
        peaks = [peak for run in runs for peak in self._finder.push(run)]
        known = np.concatenate([np.full(len(run.log_probs), run.end) for run in runs])
        return Scored(
            recording.speaker,
            find_said(recording, self._keywords),
            peaks + self._finder.finish(),
            len(waveform) / sample_rate,
            known / sample_rate,
        )

    def judge(self, scored: Sequence[Scored], keywords: Sequence[Target]) -> Outcome:
        """What happens with the thresholds of `keywords`."""
        shape = (len(keywords), len(scored))
        outcome = Outcome(np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape[0], int), [])
        for number, recording in enumerate(scored):
            missing = list(recording.said)
            for said in missing:
                outcome.said[said.keyword, number] += 1
            for peak in self._detections(recording, keywords):
                hit = self._match(peak, recording, missing)
                if hit is None:
                    outcome.false_alarms[peak.keyword] += 1
                    continue
                missing.remove(hit)
                outcome.hits[peak.keyword, number] += 1
                if hit.times:
                    delay = self._known_at(peak, recording) - hit.times[1]
                    outcome.delays.append((peak.keyword, delay))
        return outcome

    def _detections(self, recording: Scored, keywords: Sequence[Target]) -> list[Peak]:
        arbiter = Arbiter(keywords, self._finder.refractory, self._finder.confirm)
        peaks = [p for p in recording.peaks if p.score >= keywords[p.keyword].threshold]
        return [peak for peak, reason in arbiter.push(peaks, np.inf) if not reason]

    def _match(self, peak: Peak, recording: Scored, missing: Sequence[Said]) -> Said | None:
        """What was said at the time of a peak, of all that no other peak has found."""
        end = peak.end * self._frame_seconds
        for said in missing:
            first, last = said.times or (0.0, recording.seconds)
            if said.keyword == peak.keyword and first - TOLERANCE <= end <= last + TOLERANCE:
                return said
        return None

    def _known_at(self, peak: Peak, recording: Scored) -> float:
        """How many seconds of sound had come when a peak was reported."""
        frame = min(peak.end + 2 * self._finder.confirm, len(recording.known)) - 1
        return float(recording.known[frame])

    def figures(self, scored: Sequence[Scored]) -> dict[str, Any]:
        """The figures of an evaluation; shares, not percent.

        speakers, interval_over, n_speakers: as in `asr.evaluation.figures.summarise`.
        """
        marked = sum(s.times[1] - s.times[0] for r in scored for s in r.said if s.times)
        hours = (sum(recording.seconds for recording in scored) - marked) / 3600
        speakers = np.array([recording.speaker for recording in scored])
        curve = []
        for threshold in THRESHOLDS.tolist():
            swept = [Target(keyword.text, threshold) for keyword in self._keywords]
            rates = _rates(self.judge(scored, swept), hours, speakers)
            curve.append({"threshold": threshold} | rates)
        own = self.judge(scored, self._keywords)
        return {
            "recordings": len(scored),
            "hours": hours,
            "rates": [{"at_most": rate} | _fewest_misses(curve, rate) for rate in RATES],
            "keywords": {
                keyword.text: {"threshold": keyword.threshold}
                | _rates(_of_keyword(own, number), hours, speakers)
                for number, keyword in enumerate(self._keywords)
            },
            "all": _rates(own, hours, speakers),
            "interval_over": interval_over(speakers),
            "n_speakers": len(set(speakers)),
            "speakers": _speaker_rows(own, speakers),
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


def _rates(outcome: Outcome, hours: float, speakers: np.ndarray) -> dict[str, Any]:
    """Figures of an outcome; misses and delays are None where nothing was said or nothing hit."""
    said = outcome.said.sum(axis=0)
    missed, asked = said - outcome.hits.sum(axis=0), said > 0
    delays = [delay for _, delay in outcome.delays]
    return {
        "said": int(said.sum()),
        "missed": int(missed.sum()),
        "miss_rate": float(missed.sum() / said.sum()) if asked.any() else None,
        "miss_interval": (
            share_interval(missed[asked], said[asked], speakers[asked]) if asked.any() else None
        ),
        "false_alarms": int(outcome.false_alarms.sum()),
        "false_alarms_per_hour": float(outcome.false_alarms.sum() / hours),
        "delay_median": float(np.median(delays)) if delays else None,
        "delay_90": float(np.quantile(delays, 0.9)) if delays else None,
    }


def _speaker_rows(outcome: Outcome, speakers: np.ndarray) -> list[dict[str, Any]]:
    """How many keywords of each speaker are missed, the worst first; none where recordings are the
    sample."""
    if interval_over(speakers) == "recordings":
        return []
    said = outcome.said.sum(axis=0)
    missed = said - outcome.hits.sum(axis=0)
    rows = [
        {
            "speaker": str(name),
            "said": int(said[speakers == name].sum()),
            "missed": int(missed[speakers == name].sum()),
        }
        for name in dict.fromkeys(speakers[said > 0])
    ]
    return sorted(rows, key=lambda row: row["missed"] / row["said"], reverse=True)
