"""Measuring a model file on recordings whose words are known, through the device's own runtime."""

from pathlib import Path
from typing import Any

import numpy as np

from asr.decode.options import DecodeOptions
from asr.evaluation.figures import summarise
from asr.evaluation.outcomes import run_trials
from asr.evaluation.plots import plot_confusion
from asr.evaluation.report import print_evaluation
from asr.evaluation.trials import UNREADABLE, EvaluationError, read_trials
from asr.files import write_figures
from asr.model import Model


def evaluate(
    model: Model,
    data: Path,
    json_file: Path | None = None,
    plot: Path | None = None,
    options: DecodeOptions | None = None,
    speaker: str = "",
) -> dict[str, Any]:
    """Print what a model gets right on `data`, and return the figures.

    data: a folder of words, a JSON-lines manifest, or a training recipe (.toml): then the speakers
    that the recipe holds out. `options` say how a ctc model is decoded; speaker: see `read_trials`.
    In the figures, `left_out` counts recordings that are not measured, by reason.
    Raises EarshotError.
    """
    trials, left_out = read_trials(model, data, speaker)
    outcomes = list(run_trials(model, trials, options))
    if unreadable := len(trials) - len(outcomes):
        left_out[UNREADABLE] = unreadable
    if not outcomes:
        raise EvaluationError(
            f"{data}: none of its {len(trials)} recordings can be read as audio; check the paths"
        )
    figures = summarise(model.card, outcomes) | {"left_out": left_out}
    print_evaluation(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    if plot is not None and model.card.task == "classify":
        plot_confusion(np.array(figures["confusion"]), model.card.labels, plot)
    return figures
