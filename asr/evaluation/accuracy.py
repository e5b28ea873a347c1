"""Measuring a model file on recordings whose words are known, through the device's own runtime."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asr.card import ModelCard
from asr.decode.keywords.trained import KeywordTrigger
from asr.decode.options import DecodeOptions
from asr.evaluation.intervals import bootstrap_interval, percent, wilson_interval
from asr.evaluation.words import judge, word_figures, word_lines
from asr.events import Word
from asr.files import write_figures
from asr.model import Model
from asr.stream import closing_silence, scorer
from asr.training.config import Config, SourceConfig, read_config
from asr.training.data.corpus import Corpus, load_corpus
from asr.training.data.labels import SILENCE, UNKNOWN
from asr.training.data.plan import plan_validation
from asr.training.data.sources import read_source
from asr.training.plots import plot_confusion
from features.audio import AudioError, read_audio
from features.errors import EarshotError

SWEEP = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # thresholds of a trigger that are compared


class EvaluationError(EarshotError, ValueError):
    """There is nothing to measure, or it does not fit the model."""


@dataclass(frozen=True)
class Trial:
    """One recording: where it belongs, who says what in it, and how to get its samples.

    marked: from when to when, in seconds, a keyword is said in it, if that is known.
    """

    group: str
    speaker: str
    said: str
    waveform: Callable[[], np.ndarray]
    marked: tuple[float, float] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a model made of one trial; seconds of sound and seconds of computing.

    fired: the keywords that a device would have reported, of a model that classifies; swept: the
    same with each threshold of SWEEP; words: what a ctc model heard; marked: when a keyword is said
    (see `Trial`).
    """

    group: str
    speaker: str
    said: str
    heard: str
    duration: float
    seconds: float
    fired: tuple[str, ...] = ()
    swept: tuple[tuple[str, ...], ...] = ()
    words: tuple[Word, ...] = ()
    marked: tuple[float, float] | None = None


def evaluate(
    model: Model,
    data: Path,
    json_file: Path | None = None,
    plot: Path | None = None,
    options: DecodeOptions | None = None,
) -> dict[str, Any]:
    """Print what a model gets right on `data`, and return the figures.

    data: a folder of words, a JSON-lines manifest, or a training recipe (.toml): then the speakers
    that the recipe holds out. `options` say how a ctc model is decoded. Raises EarshotError.
    """
    outcomes = list(run_trials(model, read_trials(model, data), options))
    if not outcomes:
        raise EvaluationError(f"{data}: no recording fits the labels of {model.card.name}")
    figures = summarise(model, outcomes)
    _print(model, figures)
    if json_file is not None:
        write_figures(json_file, figures)
    if plot is not None and model.card.task == "classify":
        plot_confusion(np.array(figures["confusion"]), model.card.labels, plot)
    return figures


def read_trials(model: Model, data: Path, speaker: str = "") -> list[Trial]:
    """List the recordings of `data` (see `evaluate`) that the model has the labels for.

    speaker: as in a recipe, how a folder or manifest names the speakers.
    """
    if data.suffix == ".toml":
        return held_out_trials(model, read_config(data, []), data)
    return _data_trials(model, data, speaker)


def _data_trials(model: Model, data: Path, speaker: str) -> list[Trial]:
    """Every recording of a folder of words or of a manifest."""
    source = SourceConfig(
        path=str(data), name=data.stem, licence="", attribution="", speaker=speaker
    )
    return [
        Trial(
            source.name,
            r.speaker,
            said,
            lambda path=r.path: read_audio(path, model.card.sample_rate),
            r.marked,
        )
        for r in read_source(0, source)
        if (said := _expected(model, r.text)) is not None
    ]


def speaker_halves(
    data: Path, trials: Sequence[Trial], otherwise: str = ""
) -> tuple[list[Trial], list[Trial]]:
    """Every other speaker's trials, and those of the rest: nobody is in both.

    data: where they come from, for errors; otherwise: what can be done but to add recordings.
    """
    speakers = sorted({trial.speaker for trial in trials})
    if len(speakers) < 2:
        raise EvaluationError(
            f"{data}: has {len(speakers)} speakers, too few to learn from some and report on "
            f"others; add recordings{otherwise}"
        )
    first = set(speakers[::2])
    chosen = [trial for trial in trials if trial.speaker in first]
    return chosen, [trial for trial in trials if trial.speaker not in first]


def held_out_trials(model: Model, config: Config, recipe: Path) -> list[Trial]:
    """List what a training recipe holds out, just as it was validated in training.

    recipe: where `config` comes from, for errors.
    """
    if config.model.head.kind != model.card.task:
        raise EvaluationError(
            f"{recipe}: trains a {config.model.head.kind} model, {model.card.name} is for "
            f"{model.card.task}; name the recipe that it was trained by"
        )
    # Sources that hold nobody out have nothing to measure on and need not be at hand.
    sources = tuple(
        source
        for source in config.data.sources
        if source.kind == "noise" or source.validation_speakers or source.validation > 0.0
    )
    config = replace(config, data=replace(config.data, sources=sources))
    corpus = load_corpus(config)
    return [
        replace(trial, said=said)
        for trial in _held_out(config, corpus)
        if (said := _expected(model, trial.said)) is not None
    ]


def _held_out(config: Config, corpus: Corpus) -> Iterator[Trial]:
    noises = corpus.validation_noises
    for item in (item for batch in plan_validation(config, corpus) for item in batch):
        if item.example is None:
            yield Trial("noise", "noise", SILENCE, lambda item=item: item.waveform(noises))
        else:
            recording = item.example.recording
            source = config.data.sources[recording.source].name
            waveform = lambda item=item: item.waveform(noises)  # noqa: E731
            yield Trial(source, recording.speaker, recording.text, waveform, recording.marked)


def _expected(model: Model, text: str) -> str | None:
    """What the model should answer; None if it has no way to say so."""
    labels = model.card.labels
    if model.card.task == "ctc":
        spells = {name for name in labels if len(name) == 1}
        return text if text and (set(text) <= spells or set(text.split()) <= set(labels)) else None
    if text in labels:
        return text
    says_a_label = any(word in labels for word in text.split())
    return UNKNOWN if UNKNOWN in labels and not says_a_label else None


def run_trials(
    model: Model, trials: Sequence[Trial], options: DecodeOptions | None = None
) -> Iterator[Outcome]:
    """Let the model hear each trial; what cannot be read is skipped with a warning."""
    console = Console(stderr=True)
    triggers = _triggers(model.card)
    for trial in track(trials, "listening", console=console, transient=True):
        try:
            waveform = trial.waveform()
        except AudioError as error:
            console.print(f"warning: {error}", highlight=False)
            continue
        started = time.perf_counter()
        if model.card.task == "ctc":
            transcript = model.transcribe(waveform, options=options)
            heard = transcript.text
        else:
            transcript = None
            heard = decide(model, waveform)
        seconds = time.perf_counter() - started
        duration = len(waveform) / model.card.sample_rate
        triggered = [()] if transcript else _triggered(model, triggers, waveform)
        yield Outcome(
            trial.group,
            trial.speaker,
            trial.said,
            heard,
            duration,
            seconds,
            fired=triggered[0],
            swept=tuple(triggered[1:]),
            words=transcript.words if transcript else (),
            marked=trial.marked,
        )


def _triggers(card: ModelCard) -> list[KeywordTrigger]:
    """One with the threshold of the card, then one with each of SWEEP; none for a ctc model."""
    if card.trigger is None:
        return []
    settings = [card.trigger, *(replace(card.trigger, threshold=t) for t in SWEEP)]
    return [KeywordTrigger(replace(card, trigger=trigger)) for trigger in settings]


def _triggered(
    model: Model, triggers: Sequence[KeywordTrigger], waveform: np.ndarray
) -> list[tuple[str, ...]]:
    """The keywords that fire with each trigger."""
    heard = np.concatenate([waveform, closing_silence(model.card)])
    runs = [(run.end, np.exp(run.log_probs[-1])) for run in scorer(model).finish(heard)]
    fired = []
    for trigger in triggers:
        trigger.reset()
        fired.append(tuple(event.label for run in runs for event in trigger.push(*run)))
    return fired


def decide(model: Model, waveform: np.ndarray) -> str:
    """One label for a whole recording: what is heard at the end of one that the window holds, else
    the moment in which a keyword is surest."""
    log_probs = model.log_probs(waveform)
    labels = model.card.labels
    if model.card.window_length is not None and len(waveform) <= model.card.window_length:
        return labels[int(log_probs[-1].argmax())]
    keywords = [k for k, name in enumerate(labels) if name not in model.card.background]
    moment = int(log_probs[:, keywords].max(axis=1).argmax())
    return labels[int(log_probs[moment].argmax())]


def summarise(model: Model, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of an evaluation; shares, not percent. Rates of other tasks are None."""
    right = sum(outcome.said == outcome.heard for outcome in outcomes)
    figures: dict[str, Any] = {
        "model": model.card.name,
        "n": len(outcomes),
        "accuracy": right / len(outcomes),
        "accuracy_interval": wilson_interval(right, len(outcomes)),
        "wer": None,
        "cer": None,
        "real_time_factor": sum(o.seconds for o in outcomes) / sum(o.duration for o in outcomes),
        "groups": {},
    }
    if model.card.task == "classify":
        figures |= _classification(model.card.labels, outcomes)
        figures |= _detection(model, outcomes)
    else:
        figures |= _outcome_error_rates(outcomes)
        figures["words"] = word_figures(judge(outcomes))
    for group in sorted({outcome.group for outcome in outcomes}):
        members = [outcome for outcome in outcomes if outcome.group == group]
        hits = sum(o.said == o.heard for o in members)
        rates = {} if model.card.task == "classify" else _outcome_error_rates(members)
        interval = wilson_interval(hits, len(members))
        figures["groups"][group] = {
            "n": len(members),
            "accuracy": hits / len(members),
            "accuracy_interval": interval,
            **rates,
        }
    return figures


def _classification(labels: tuple[str, ...], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    index = {name: k for k, name in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    for outcome in outcomes:
        counts[index[outcome.said], index[outcome.heard]] += 1
    said = counts.sum(axis=1)
    recalls = {name: counts[k, k] / said[k] for name, k in index.items() if said[k]}
    return {
        "macro_accuracy": float(np.mean(list(recalls.values()))),
        "recall": {name: float(recall) for name, recall in recalls.items()},
        "labels": list(labels),
        "confusion": counts.tolist(),
    }


def _detection(model: Model, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How the trigger does: the share of keywords that fired, and what fired without reason."""
    background = model.card.background
    wanted = [o for o in outcomes if o.said not in background]
    other = [o for o in outcomes if o.said in background]
    hours = sum(o.duration for o in other) / 3600.0

    def rates(fired: Callable[[Outcome], tuple[str, ...]]) -> dict[str, Any]:
        hits = sum(o.said in fired(o) for o in wanted)
        false = sum(len(fired(o)) for o in other)
        return {
            "hit_rate": hits / len(wanted) if wanted else None,
            "false_accepts": false,
            "false_accepts_per_hour": false / hours if hours else None,
        }

    swept = [
        {"threshold": threshold} | rates(lambda o, k=k: o.swept[k])
        for k, threshold in enumerate(SWEEP)
    ]
    return rates(lambda o: o.fired) | {"background_hours": hours, "thresholds": swept}


def _outcome_error_rates(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return error_rates([o.said for o in outcomes], [o.heard for o in outcomes])


def error_rates(
    said: Sequence[str], heard: Sequence[str], speakers: Sequence[str] = ()
) -> dict[str, Any]:
    """`cer` and `wer` of texts, as shares, with their 95 % intervals.

    speakers: who says each; if they are given, the intervals are for other speakers, not only for
    other utterances of these.
    """
    characters = [jiwer.process_characters(a, b) for a, b in zip(said, heard, strict=True)]
    words = [jiwer.process_words(a, b) for a, b in zip(said, heard, strict=True)]
    figures: dict[str, Any] = {}
    for name, results in (("cer", characters), ("wer", words)):
        errors = np.array([r.substitutions + r.deletions + r.insertions for r in results])
        lengths = np.array([r.hits + r.substitutions + r.deletions for r in results])
        figures[name] = float(errors.sum() / lengths.sum())
        if speakers:
            _, numbers = np.unique(speakers, return_inverse=True)
            errors, lengths = (np.bincount(numbers, counts) for counts in (errors, lengths))
        figures[f"{name}_interval"] = bootstrap_interval(errors, lengths)
    return figures


def _print(model: Model, figures: dict[str, Any]) -> None:
    console = Console()
    names = ["accuracy"] if model.card.task == "classify" else ["accuracy", "cer", "wer"]
    table = Table("", "recordings", *(f"{name} % (95 % interval)" for name in names))
    groups = figures["groups"] if len(figures["groups"]) > 1 else {}
    for title, row in {**groups, "all": figures}.items():
        shares = (percent(row[name], row[f"{name}_interval"]) for name in names)
        table.add_row(title, str(row["n"]), *shares)
    console.print(table)
    if model.card.task == "classify":
        console.print(_confusion_table(figures))
        console.print(f"mean over the labels: {100 * figures['macro_accuracy']:.2f} %")
        if figures["hit_rate"] is not None:
            console.print(f"keywords that fire: {100 * figures['hit_rate']:.2f} %")
        if figures["background_hours"]:
            console.print(
                f"false accepts: {figures['false_accepts']} in {figures['background_hours']:.2f} "
                f"hours of other sound, {figures['false_accepts_per_hour']:.1f} an hour"
            )
        console.print(_threshold_table(figures["thresholds"]))
    else:
        for line in word_lines(figures["words"]):
            console.print(line, highlight=False, soft_wrap=True)
    console.print(f"real-time factor: {figures['real_time_factor']:.4f} (one thread)")


def _threshold_table(points: list[dict[str, Any]]) -> Table:
    table = Table("threshold", "keywords that fire %", "false accepts an hour")
    for point in points:
        hits, false = point["hit_rate"], point["false_accepts_per_hour"]
        table.add_row(
            f"{point['threshold']:g}",
            "-" if hits is None else f"{100 * hits:.1f}",
            "-" if false is None else f"{false:.1f}",
        )
    return table


def _confusion_table(figures: dict[str, Any]) -> Table:
    labels = figures["labels"]
    short = [name.strip("_")[:5] for name in labels]
    table = Table("said / heard", *short, "right %", padding=(0, 0), title="confusion")
    for name, row in zip(labels, figures["confusion"], strict=True):
        if name in figures["recall"]:
            cells = ["" if not count else str(count) for count in row]
            table.add_row(name, *cells, f"{100 * figures['recall'][name]:.1f}")
    return table
