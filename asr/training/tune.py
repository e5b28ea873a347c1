"""The weights of a language model, found on recordings whose words are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asr.decode import Utterance
from asr.decode.options import DecodeOptions, decoder_for
from asr.files import write_figures
from asr.model import Model, ModelError
from asr.training.evaluate import (
    EvaluationError,
    Trial,
    error_rates,
    read_trials,
    speaker_halves,
)

ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5)
BETAS = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0)

Setting = tuple[float, float]  # alpha and beta


@dataclass(frozen=True)
class Scored:
    """What was said in a recording, and the model's log_probs (frames, labels) of it."""

    said: str
    log_probs: np.ndarray


def tune(
    model: Model,
    data: Path,
    options: DecodeOptions,
    *,
    speaker: str = "",
    halves: bool = True,
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Find the alpha and beta of `options.lm` that give the fewest word errors, and print them.

    data, speaker: as for `read_trials`. halves: tune on the recordings of every other speaker and
    report on the rest, so that the figures are honest; otherwise on all of them. Returns the
    figures. Raises EarshotError.
    """
    if model.card.task != "ctc":
        raise ModelError(f"{model.path}: this model spots keywords; a language model is for others")
    trials = read_trials(model, data, speaker)
    tuning, reporting = trials, trials
    if halves:
        tuning, reporting = speaker_halves(data, trials, ", or tune on all of them by --no-halves")
    if not tuning:
        raise EvaluationError(f"{data}: no recording fits the labels of {model.card.name}")
    own = list(_score(model, tuning))
    settings = _search(model, own, options)
    best = _fewest_errors(settings)
    tuned = replace(options, alpha=best[0], beta=best[1])
    others = list(_score(model, reporting)) if halves else own
    plain = {"greedy": DecodeOptions(), "before": options, "tuned": tuned}
    figures = {
        "settings": [{"alpha": a, "beta": b} | rates for (a, b), rates in settings.items()],
        "best": {"alpha": best[0], "beta": best[1]},
        "tuned_on": len(own),
        "reported_on": len(others),
        "report": {name: _rates(model, others, chosen) for name, chosen in plain.items()},
    }
    _print(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    return figures


def _score(model: Model, trials: Sequence[Trial]) -> Iterator[Scored]:
    console = Console(stderr=True)
    for trial in track(trials, "listening", console=console, transient=True):
        yield Scored(trial.said, model.log_probs(trial.waveform()))


def _search(
    model: Model, scored: Sequence[Scored], options: DecodeOptions
) -> dict[Setting, dict[str, Any]]:
    """Error rates of all settings tried: each weight alone is varied from the best so far.

    It ends when that makes nothing better.
    """
    tried: dict[Setting, dict[str, Any]] = {}
    best, before = (options.alpha, options.beta), None
    while best != before:
        before = best
        cross = [*((alpha, best[1]) for alpha in ALPHAS), *((best[0], beta) for beta in BETAS)]
        new = [setting for setting in (best, *cross) if setting not in tried]
        console = Console(stderr=True)
        for alpha, beta in track(new, "decoding", console=console, transient=True):
            tried[alpha, beta] = _rates(model, scored, replace(options, alpha=alpha, beta=beta))
        best = _fewest_errors(tried)
    return tried


def _fewest_errors(settings: dict[Setting, dict[str, Any]]) -> Setting:
    return min(settings, key=lambda setting: (settings[setting]["wer"], settings[setting]["cer"]))


def _rates(model: Model, scored: Sequence[Scored], options: DecodeOptions) -> dict[str, Any]:
    heard = [decoded(model, entry.log_probs, options) for entry in scored]
    return error_rates([entry.said for entry in scored], heard)


def decoded(model: Model, log_probs: np.ndarray, options: DecodeOptions) -> str:
    """Return the text of whole audio from its log_probs (frames, labels)."""
    decoder = decoder_for(model.card, options)
    events = [*decoder.push(log_probs), *decoder.finish()]
    return " ".join(event.text for event in events if isinstance(event, Utterance))


def _print(figures: dict[str, Any]) -> None:
    console = Console()
    table = Table("alpha", "beta", "WER %", "CER %", title=f"{figures['tuned_on']} recordings")
    for row in sorted(figures["settings"], key=lambda row: (row["alpha"], row["beta"])):
        style = "bold" if figures["best"].items() <= row.items() else ""
        table.add_row(*_cells([row["alpha"], row["beta"]], row), style=style)
    console.print(table)
    report = Table("", "WER %", "CER %", title=f"{figures['reported_on']} recordings")
    for name, rates in figures["report"].items():
        report.add_row(*_cells([name], rates))
    console.print(report)
    best = figures["best"]
    console.print(f"best: --lm-weight {best['alpha']} --word-bonus {best['beta']}", highlight=False)


def _cells(names: list[Any], rates: dict[str, Any]) -> list[str]:
    return [*map(str, names), *(f"{100 * rates[name]:.2f}" for name in ("wer", "cer"))]
