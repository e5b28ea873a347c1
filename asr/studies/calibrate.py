"""From confidences to probabilities: measured on speakers, written into the model's card."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from asr.evaluation.accuracy import (
    EvaluationError,
    Trial,
    read_trials,
    run_trials,
    speaker_halves,
)
from asr.evaluation.words import (
    Judged,
    fit_calibration,
    judge,
    reliability,
    word_figures,
    word_lines,
)
from asr.files import write_figures
from asr.model import Model, ModelError
from asr.training.plots import plot_reliability
from export.export import rewrite_card


def calibrate(
    model: Model,
    data: Path,
    out: Path,
    *,
    speaker: str = "",
    json_file: Path | None = None,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Write the model to `out`, its confidences and word beginnings corrected on `data`.

    data, speaker: as for `read_trials`. The calibration (asr.card.Calibration) is fitted to the
    recordings of every other speaker, decoded greedily, and reported on the rest, before and after
    as the two files have it. Word beginnings need marked keywords (keyword_start, keyword_end).
    Returns the figures. Raises EarshotError.
    """
    current = model.card.calibration
    if current is None:
        raise ModelError(f"{model.path}: this model spots keywords and is not sure of words")
    fitting, reporting = speaker_halves(data, read_trials(model, data, speaker))
    own = _judge(model, fitting)
    try:
        calibration = fit_calibration(own, current)
    except ValueError as error:
        raise EvaluationError(f"{data}: nothing to calibrate by, {error}; add recordings") from None
    before = _judge(model, reporting)
    calibrated = rewrite_card(model.path, replace(model.card, calibration=calibration), out)
    after = _judge(calibrated, reporting)
    figures = {
        "calibration": vars(calibration),
        "fitted_on": word_figures(own),
        "before": word_figures(before),
        "after": word_figures(after),
    }
    _print(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    if plot is not None:
        curves = {"before": before, "after": after}
        plot_reliability(
            {name: reliability(j.confidences, j.right) for name, j in curves.items()}, plot
        )
    return figures


def _judge(model: Model, trials: Sequence[Trial]) -> Judged:
    return judge(run_trials(model, trials))


def _print(figures: dict[str, Any]) -> None:
    console = Console()
    for name in ("before", "after"):
        for line in word_lines(figures[name]):
            console.print(f"{name}: {line}", highlight=False, soft_wrap=True)
    chosen = ", ".join(f"{name} {value:.3f}" for name, value in figures["calibration"].items())
    fitted = figures["fitted_on"]
    console.print(f"fitted on {fitted['n']} words of other speakers: {chosen}", highlight=False)
