"""From recordings whose words are known to the page about a model."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from asr.card import ModelCard
from asr.decode.options import DecodeOptions
from asr.evaluation.figures import summarise
from asr.evaluation.outcomes import Outcome, run_trials
from asr.evaluation.plots import plot_confusion, plot_reliability
from asr.evaluation.report import percent, stretch
from asr.evaluation.trials import EvaluationError, Trial, read_trials
from asr.evaluation.words import judge, reliability
from asr.model import Model
from asr.studies.report.conditions import RECORDINGS, changed, conditions, some_of
from asr.studies.report.errors import worst_errors
from asr.studies.report.page import Picture, Section, Table, picture_of, write_page
from asr.studies.report.pictures import plot_conditions

ROWS = 15  # of a table whose worst rows come first
FEWEST = 3  # times that a word must be said to be in the table of words
PAGE = "index.html"


def report(
    model: Model,
    data: Sequence[Path],
    out: Path,
    options: DecodeOptions | None = None,
    speaker: str = "",
    *,
    audio: bool = True,
) -> Path:
    """Measure a model on each of `data` and write the page, whose path is returned.

    data, speaker: see `asr.evaluation.trials.read_trials`; out: a folder, which gets an index.html,
    or the .html file itself; options: how a ctc model is decoded; audio: whether the errors can be
    played, which puts their recordings into the page. Raises EarshotError.
    """
    trials, left_out = _trials(model, data, speaker)
    outcomes = list(run_trials(model, trials, options))
    if not outcomes:
        raise EvaluationError(f"{data[0]}: nothing can be read as audio; check the paths")
    figures = summarise(model.card, outcomes)
    sections = [
        _figures(figures, left_out),
        *_by_trait(model.card, outcomes),
        _by_speaker(figures),
        *(_keywords(model.card, figures) if figures["cer"] is None else _words(outcomes)),
        _in_conditions(model, trials, options),
        Section(
            "Errors",
            "Where the model was most sure of what nobody said: what it reads over time is drawn "
            "below the spectrogram.",
            clips=worst_errors(model, outcomes, audio=audio),
        ),
    ]
    path = out if out.suffix == ".html" else out / PAGE
    write_page(f"{model.card.name}: what it recognises", _summary(model.card), sections, path)
    return path


def _trials(model: Model, data: Sequence[Path], speaker: str) -> tuple[list[Trial], Counter[str]]:
    trials: list[Trial] = []
    left_out: Counter[str] = Counter()
    for path in data:
        selection = read_trials(model, path, speaker)
        trials += selection.trials
        left_out.update(selection.left_out)
    return trials, left_out


def _summary(card: ModelCard) -> str:
    kind = "transcribes" if card.task == "ctc" else f"reports {len(card.labels)} labels"
    return (
        f"{card.parameters / 1e6:.1f} M parameters; {kind}. "
        f"Trained on: {', '.join(source.name for source in card.training_data)}. "
        f"Weights {card.weights_sha256[:12]}, licence {card.licence}."
    )


def _names(row: dict[str, Any]) -> list[str]:
    return ["cer", "wer"] if "cer" in row and row["cer"] is not None else ["accuracy"]


def _rates(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [percent(row[name], row[f"{name}_interval"]) for name in names]


def _figures(figures: dict[str, Any], left_out: Counter[str]) -> Section:
    names = _names(figures)
    rows = [
        [title, str(row["n"]), *_rates(row, names)]
        for title, row in {**figures["groups"], "all": figures}.items()
    ]
    heads = ["recordings of", "n", *(f"{name} % (95 % interval)" for name in names)]
    said = [f"{count} recordings {reason}" for reason, count in left_out.most_common()]
    note = f"{figures['n_speakers']} speakers; intervals are over {figures['interval_over']}. " + (
        f"Left out: {', '.join(said)}." if said else "Nothing was left out."
    )
    return Section("Figures", note, [Table(heads, rows)])


def _by_trait(card: ModelCard, outcomes: Sequence[Outcome]) -> Iterator[Section]:
    """A section for what manifests tell of speakers, if any of it has two values."""
    tables = []
    for trait in dict.fromkeys(name for outcome in outcomes for name in outcome.traits):
        groups: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            if value := outcome.traits.get(trait):
                groups.setdefault(_band(value), []).append(outcome)
        if len(groups) > 1:
            tables.append(_trait_table(card, trait, groups))
    if tables:
        yield Section("Groups of speakers", "As far as the manifests tell.", tables)


def _band(value: str) -> str:
    """An age as its decade; what is no number as it is."""
    if not value.isdigit():
        return value
    decade = int(value) // 10 * 10
    return f"{decade} to {decade + 9}"


def _trait_table(card: ModelCard, trait: str, groups: dict[str, list[Outcome]]) -> Table:
    rows, names = [], ["accuracy"]
    for value, own in sorted(groups.items()):
        figures = summarise(card, own)
        names = _names(figures)
        speakers = str(len({outcome.speaker for outcome in own}))
        rows.append([value, str(len(own)), speakers, *_rates(figures, names)])
    return Table([trait, "recordings", "speakers", *(f"{name} %" for name in names)], rows)


def _by_speaker(figures: dict[str, Any]) -> Section:
    rows = figures["speakers"]
    if not rows:
        return Section("Speakers", "The recordings do not tell who speaks.")
    names = _names(rows[0])
    note = f"Worst first: {min(ROWS, len(rows))} of {len(rows)}."
    shown = [[row["speaker"], str(row["n"]), *_rates(row, names)] for row in rows[:ROWS]]
    return Section(
        "Speakers",
        note,
        [Table(["speaker", "recordings", *(f"{name} %" for name in names)], shown)],
    )


def _keywords(card: ModelCard, figures: dict[str, Any]) -> Iterator[Section]:
    counts = np.array(figures["confusion"])
    draw = partial(plot_confusion, counts, card.labels)
    picture = Picture(picture_of(draw), "Confusion matrix: rows said, columns recognised")
    yield Section("Confusion", "Rows: what was said; columns: recognised.", pictures=[picture])
    rows = [
        [f"{point['threshold']:g}", _share(point["hit_rate"]), _hourly(point)]
        for point in figures["thresholds"]
    ]
    note = f"Over {stretch(figures['background_hours'])} of sound that holds no keyword."
    heads = ["threshold", "keywords that fire %", "false accepts an hour"]
    yield Section("Thresholds", note, [Table(heads, rows)])


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _hourly(point: dict[str, Any]) -> str:
    rate = point["false_accepts_per_hour"]
    return "-" if rate is None else f"{rate:.1f}"


def _words(outcomes: Sequence[Outcome]) -> Iterator[Section]:
    said, wrong, instead = word_errors(outcomes)
    often = [word for word in wrong if said[word] >= FEWEST]
    worst = sorted(often, key=lambda word: (-wrong[word] / said[word], -said[word], word))[:ROWS]
    rows = [
        [
            word,
            str(said[word]),
            f"{100 * wrong[word] / said[word]:.0f}",
            ", ".join(f"{other or '(nothing)'} {n}" for other, n in instead[word].most_common(3)),
        ]
        for word in worst
    ]
    note = f"Of words said at least {FEWEST} times, those that are wrong most often."
    table = Table(["word", "said", "wrong %", "recognised instead"], rows)
    yield Section("Words", note, [table])
    judged = judge(outcomes)
    if len(judged.confidences):
        curves = {"words": reliability(judged.confidences, judged.right)}
        picture = Picture(
            picture_of(partial(plot_reliability, curves)),
            "Share of right words against their confidence",
        )
        note = "Of words at 90 % confidence, nine in ten should be right: the diagonal."
        yield Section("Confidence", note, pictures=[picture])


def word_errors(
    outcomes: Sequence[Outcome],
) -> tuple[Counter[str], Counter[str], dict[str, Counter[str]]]:
    """How often each word of the references was said and was not recognised, and what was there
    instead ("" for nothing), by the alignments of the fewest errors."""
    said: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    instead: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        said.update(outcome.reference.split())
        if not outcome.reference:
            continue
        result = jiwer.process_words(outcome.reference, outcome.hypothesis)
        references, hypotheses = result.references[0], result.hypotheses[0]
        for chunk in result.alignments[0]:
            if chunk.type not in ("substitute", "delete"):
                continue
            for place, word in enumerate(references[chunk.ref_start_idx : chunk.ref_end_idx]):
                wrong[word] += 1
                other = hypotheses[chunk.hyp_start_idx : chunk.hyp_end_idx][place : place + 1]
                instead.setdefault(word, Counter())[" ".join(other)] += 1
    return said, wrong, instead


def _in_conditions(model: Model, trials: Sequence[Trial], options: DecodeOptions | None) -> Section:
    chosen, rows, curve = some_of(trials), [], {}
    names: list[str] = []
    for condition in conditions(model.card.sample_rate):
        figures = summarise(
            model.card, list(run_trials(model, changed(chosen, condition), options))
        )
        names = _names(figures)
        rows.append([condition.name, *_rates(figures, names)])
        rate = figures[names[-1]]
        curve[condition.name] = 1.0 - rate if names == ["accuracy"] else rate
    note = (
        f"{len(chosen)} of the recordings"
        + (", evenly chosen" if len(chosen) == RECORDINGS else "")
    ) + ", with pink noise added and in simulated rooms (seconds until the sound falls by 60 dB)."
    picture = Picture(
        picture_of(
            partial(plot_conditions, curve, "wrong" if names == ["accuracy"] else names[-1])
        ),
        "Error rate by condition",
    )
    heads = ["condition", *(f"{name} % (95 % interval)" for name in names)]
    return Section("Noise and rooms", note, [Table(heads, rows)], [picture])
