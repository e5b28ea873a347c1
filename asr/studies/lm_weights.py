"""The weights of a language model, found on recordings whose words are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from asr.decode.options import DecodeOptions, build_decoder, weights_in
from asr.evaluation.figures import error_rates
from asr.evaluation.report import percent
from asr.evaluation.trials import Trial, read_trials, speaker_halves
from asr.events import Utterance
from asr.files import write_figures
from asr.model import Model, ModelError
from asr.runtime.scorers import Scores
from asr.training.progress import tracked

GRID = {
    "lm_weight": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5),
    "word_bonus": (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0),
}

Setting = tuple[float, ...]  # the fields of DecodeOptions that GRID names
Fold = tuple[set[str], set[str]]  # speakers to learn weights from, and those to report with them


@dataclass(frozen=True)
class Scored:
    """A recording: who speaks, its reference, and the model's scores of it."""

    speaker: str
    reference: str
    scores: Scores


class Trials:
    """Recordings that are decoded once with each setting, whoever of their speakers counts."""

    def __init__(self, model: Model, scored: Sequence[Scored], options: DecodeOptions) -> None:
        self._model = model
        self._scored = scored
        self._options = options
        self.given: Setting = weights_in(model.card, options)[: len(GRID)]
        self.texts: dict[Setting, list[str]] = {}

    def decode(self, options: DecodeOptions) -> list[str]:
        """Return the text of each recording."""
        return [decoded(self._model, entry.scores, options) for entry in self._scored]

    def rates(self, texts: Sequence[str], speakers: set[str]) -> dict[str, Any]:
        """Return the error rates of the texts of these speakers."""
        chosen = [
            (entry.reference, text, entry.speaker)
            for entry, text in zip(self._scored, texts, strict=True)
            if entry.speaker in speakers
        ]
        return error_rates(*zip(*chosen, strict=True))

    def search(self, speakers: set[str]) -> Setting:
        """Return the setting with the fewest word errors of these speakers.

        Each weight alone is varied from the best setting so far, until that makes nothing better.
        """
        best, before = self.given, None
        tried: dict[Setting, tuple[float, float]] = {}
        while best != before:
            before = best
            for setting in self._decoded([best, *_cross(best)]):
                rates = self.rates(self.texts[setting], speakers)
                tried[setting] = (rates["wer"], rates["cer"])
            best = min(tried, key=lambda setting: tried[setting])
        return best

    def tuned(self, settings: dict[str, Setting]) -> list[str]:
        """Return the text of each recording with the setting for its speaker."""
        speakers = [entry.speaker for entry in self._scored]
        return [self.texts[settings[speaker]][k] for k, speaker in enumerate(speakers)]

    def _decoded(self, settings: Sequence[Setting]) -> Sequence[Setting]:
        new = [setting for setting in dict.fromkeys(settings) if setting not in self.texts]
        for setting in tracked(new, "decoding"):
            options = replace(self._options, **dict(zip(GRID, setting, strict=True)))
            self.texts[setting] = self.decode(options)
        return settings


def _without_lm(options: DecodeOptions) -> DecodeOptions:
    return replace(options, lm=None, lm_weight=None, word_bonus=None, unknown_bonus=None)


def _cross(best: Setting) -> Iterator[Setting]:
    """The settings that differ from the best in one weight."""
    for k, values in enumerate(GRID.values()):
        yield from ((*best[:k], value, *best[k + 1 :]) for value in values)


def tune(
    model: Model,
    data: Path,
    options: DecodeOptions,
    *,
    speaker: str = "",
    halves: bool = True,
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Find the weights of `options.lm` (see `GRID`) that give the fewest word errors; print them.

    data, speaker: as for `read_trials`. halves: report each half of the speakers with the weights
    that are best for the other half, so that every recording counts and none is reported with
    weights that have seen its speaker; otherwise report all with the best weights for all. Returns
    the figures. Raises EarshotError.
    """
    if model.card.task != "ctc":
        raise ModelError(f"{model.path}: this model spots keywords; a language model is for others")
    found = read_trials(model, data, speaker).trials
    everyone = {trial.speaker for trial in found}
    folds = _crossed(data, found) if halves else [(everyone, everyone)]
    trials = Trials(model, list(_score(model, found)), options)
    figures = _figures(trials, options, everyone, folds)
    _print(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    return figures


def _crossed(data: Path, trials: Sequence[Trial]) -> list[Fold]:
    halves = speaker_halves(data, trials, ", or tune on all of them by --no-halves")
    first, second = ({trial.speaker for trial in half} for half in halves)
    return [(first, second), (second, first)]


def _score(model: Model, trials: Sequence[Trial]) -> Iterator[Scored]:
    for trial in tracked(trials, "recognising"):
        yield Scored(trial.speaker, trial.reference, model.scores(trial.waveform()))


def decoded(model: Model, scores: Scores, options: DecodeOptions) -> str:
    """Return the text of whole audio from its scores."""
    decoder = build_decoder(model.card, options)
    events = [*decoder.push(scores), *decoder.finish()]
    return " ".join(event.text for event in events if isinstance(event, Utterance))


def _figures(
    trials: Trials, options: DecodeOptions, everyone: set[str], folds: Sequence[Fold]
) -> dict[str, Any]:
    best = trials.search(everyone)
    learned = [trials.search(learning) for learning, _ in folds]
    settings = {
        speaker: setting
        for setting, (_, reporting) in zip(learned, folds, strict=True)
        for speaker in reporting
    }
    report = {
        "greedy": trials.decode(DecodeOptions()),
        "without it": trials.decode(_without_lm(options)),
        "before": trials.texts[trials.given],  # where each search began
        "tuned": trials.tuned(settings),
    }
    return {
        "recordings": len(report["tuned"]),
        "settings": [
            _named(setting) | trials.rates(texts, everyone)
            for setting, texts in sorted(trials.texts.items())
        ],
        "best": _named(best),
        "folds": [
            {"reported_on": sorted(reporting), "best": _named(setting)}
            for setting, (_, reporting) in zip(learned, folds, strict=True)
        ],
        "report": {name: trials.rates(texts, everyone) for name, texts in report.items()},
    }


def _named(setting: Setting) -> dict[str, float]:
    return dict(zip(GRID, setting, strict=True))


def _print(figures: dict[str, Any]) -> None:
    console = Console()
    title = f"{figures['recordings']} recordings"
    table = Table(*GRID, "WER %", "CER %", title=title)
    for row in figures["settings"]:
        style = "bold" if figures["best"].items() <= row.items() else ""
        rates = (f"{100 * row[name]:.2f}" for name in ("wer", "cer"))
        table.add_row(*(str(row[name]) for name in GRID), *rates, style=style)
    console.print(table)
    for fold in figures["folds"]:
        speakers = ", ".join(fold["reported_on"])
        console.print(f"{speakers}: {_flags(fold['best'])}", highlight=False, soft_wrap=True)
    report = Table("", *(f"{name} % (95 % interval)" for name in ("WER", "CER")), title=title)
    for name, rates in figures["report"].items():
        shares = (percent(rates[rate], rates[f"{rate}_interval"]) for rate in ("wer", "cer"))
        report.add_row(name, *shares)
    console.print(report)
    console.print(f"best: {_flags(figures['best'])}", highlight=False, soft_wrap=True)


def _flags(weights: dict[str, float]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in weights.items())
