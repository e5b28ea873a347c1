"""Models that transcribe beside others, on the same recordings in the same run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from rich.console import Console

from asr.evaluation.intervals import interval_over, rate_interval
from asr.evaluation.report import percent, stretch
from asr.evaluation.trials import EvaluationError, Trial, read_trials
from asr.files import write_figures
from asr.model import Model
from asr.runtime.session import ModelError
from asr.studies.bench.others import RATE, TRANSCRIBERS, Peer
from asr.studies.bench.own import Own
from asr.studies.bench.report import figure_table
from asr.studies.bench.spoken import as_said
from asr.studies.bench.workers import PeerError, Worker, described, missing
from asr.training.config import read_config
from asr.training.data.sources import read_source
from asr.training.progress import tracked
from features.audio import read_audio

COSTS = ("real-time factor", "start s", "memory MB", "model MB")


def held_out(
    model: Model, data: Path, sources: Sequence[str] = (), overrides: Sequence[str] = ()
) -> list[Trial]:
    """The recordings to compare on: of a folder of words or a manifest all, of a recipe (.toml)
    what it holds out, evenly chosen up to its `data.validation_limit` a source.

    sources: of a recipe, the names of those that are wanted; all if there are none. Only these are
    read, and no audio. overrides: fields of a recipe that are replaced. Raises EarshotError.
    """
    if model.card.sample_rate != RATE:
        raise ModelError(
            f"{model.path}: listens to {model.card.sample_rate} Hz, the peers to {RATE}; compare a "
            "model of that rate"
        )
    if data.suffix != ".toml":
        return read_trials(model, data).trials
    settings = read_config(data, list(overrides)).data
    if unknown := set(sources) - {source.name for source in settings.sources}:
        raise EvaluationError(f"{data}: has no source {', '.join(sorted(unknown))}")
    trials: list[Trial] = []
    for index, source in enumerate(settings.sources):
        if source.kind != "speech" or (sources and source.name not in sources):
            continue
        if not (source.validation or source.validation_speakers):
            continue
        kept = [r for r in read_source(index, source) if r.validation]
        places = np.linspace(0, len(kept) - 1, min(len(kept), settings.validation_limit))
        trials += [
            Trial(source.name, r.speaker, r.text, lambda path=r.path: read_audio(path, RATE))
            for r in (kept[place] for place in places.astype(int))
        ]
    if not trials:
        raise EvaluationError(f"{data}: holds out nobody in the sources that are asked for")
    return trials


def compare_sentences(
    model: Model,
    data: Path,
    sources: Sequence[str] = (),
    overrides: Sequence[str] = (),
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Print what a model and the peers that are installed get wrong, and return the figures.

    data, sources, overrides: see `held_out`. Texts are compared as they are said, see
    `asr.studies.bench.spoken`. A peer that is not installed or does not work here stands there with
    what it wants. Raises EarshotError.
    """
    if model.card.task != "ctc":
        raise ModelError(f"{model.path}: sentences are compared with a model that transcribes")
    found = held_out(model, data, sources, overrides)
    trials = [trial for trial in found if as_said(trial.reference)]
    if not trials:
        raise EvaluationError(f"{data}: its texts are empty; write what is said into text")
    sounds = [trial.waveform() for trial in trials]
    path = str(model.path)
    kinds: list[tuple[type[Peer], tuple[str, ...]]] = [(Own, (path,))]
    if model.language_model is not None:
        kinds.append((Own, (path, "no_lm")))
    kinds += [(kind, ()) for kind in TRANSCRIBERS]
    figures: dict[str, Any] = {
        "recordings": len(trials),
        "hours": sum(map(len, sounds)) / RATE / 3600,
        "speakers": len({trial.speaker for trial in trials}),
        "interval_over": interval_over([trial.speaker for trial in trials]),
        "transcribers": {},
    }
    for kind, arguments in kinds:
        peer = kind(*arguments)
        figures["transcribers"][peer.name] = _measured(kind, peer, arguments, trials, sounds)
    print_sentences(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    return figures


def _measured(
    kind: type[Peer],
    peer: Peer,
    arguments: Sequence[str],
    trials: Sequence[Trial],
    sounds: Sequence[np.ndarray],
) -> dict[str, Any]:
    """The figures of a transcriber, or why there are none."""
    if packages := missing(kind):
        return {"problem": f"not installed: pip install {' '.join(packages)}"}
    try:
        with Worker(kind, *arguments) as worker:
            answers = [worker.ask(sound) for sound in tracked(sounds, peer.name)]
            cost = {"start_seconds": worker.start_seconds, "memory": worker.memory}
    except PeerError as error:
        return {"problem": str(error)}
    seconds = sum(answer.seconds for answer in answers)
    cost["rtf"] = seconds * RATE / sum(map(len, sounds))
    return described(peer) | cost | _errors(trials, [answer.answer for answer in answers])


def _errors(trials: Sequence[Trial], texts: Sequence[str]) -> dict[str, Any]:
    """WER, a share, with its interval, over all recordings and in each group."""
    errors, lengths = [], []
    for trial, text in zip(trials, texts, strict=True):
        result = jiwer.process_words(as_said(trial.reference), as_said(text))
        errors.append(result.substitutions + result.deletions + result.insertions)
        lengths.append(len(result.references[0]))
    groups = np.array([trial.group for trial in trials])
    speakers = np.array([trial.speaker for trial in trials])

    def row(chosen: np.ndarray) -> dict[str, Any]:
        wrong, words = np.array(errors)[chosen], np.array(lengths)[chosen]
        return {
            "n": int(chosen.sum()),
            "speakers": len(set(speakers[chosen])),
            "wer": float(wrong.sum() / words.sum()),
            "wer_interval": rate_interval(wrong, words, speakers[chosen]),
        }

    return {
        "groups": {name: row(groups == name) for name in dict.fromkeys(groups.tolist())},
        "all": row(np.ones(len(trials), bool)),
        "texts": list(texts),
    }


def print_sentences(figures: dict[str, Any]) -> None:
    """Print the figures of `compare_sentences`."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    rows = figures["transcribers"]
    groups = next((list(row["groups"]) for row in rows.values() if "groups" in row), [])
    heads = ["", *(f"{name}: WER %" for name in groups), *COSTS]
    table = [(name, *sentence_cells(row, groups)) for name, row in rows.items()]
    title = (
        f"{figures['recordings']} recordings of {figures['speakers']} speakers, "
        f"{stretch(figures['hours'])}; 95 % intervals over the {figures['interval_over']}"
    )
    console.print(figure_table(heads, table, title))
    print_notes(rows, console)


def sentence_cells(row: dict[str, Any], groups: Sequence[str]) -> list[str]:
    """The cells of a transcriber after its name; dashes if it was not measured."""
    if "problem" in row:
        return ["-"] * (len(groups) + len(COSTS))
    rates = (row["groups"][name] for name in groups)
    return [*(percent(rate["wer"], rate["wer_interval"]) for rate in rates), *cost_cells(row)]


def cost_cells(row: dict[str, Any]) -> list[str]:
    """The cells of COSTS."""
    memory = "-" if row["memory"] is None else f"{row['memory'] / 1e6:.0f}"
    factor, start = f"{row['rtf']:.4f}", f"{row['start_seconds']:.2f}"
    return [factor, start, memory, f"{row['size'] / 1e6:.2f}"]


def print_notes(rows: dict[str, dict[str, Any]], console: Console) -> None:
    """Print what each of others is, or why it was not measured."""
    for name, row in rows.items():
        if note := row.get("problem") or row["version"]:
            console.print(f"{name}: {note}")
