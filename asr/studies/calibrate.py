"""From confidences to probabilities: measured on speakers, written into the model's card."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from asr.card import Calibration
from asr.decode.options import DecodeOptions
from asr.evaluation.outcomes import run_trials
from asr.evaluation.plots import plot_reliability
from asr.evaluation.report import word_lines
from asr.evaluation.trials import EvaluationError, read_trials, speaker_halves
from asr.evaluation.words import MARGIN, Judged, judge, reliability, word_figures
from asr.files import write_figures
from asr.model import Model, ModelError
from export.export import rewrite_card

STEPS = 100  # of Newton's method; ten are usual
SMALLEST_STEP = 1e-9


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
    recordings of every other speaker and reported on the rest, before and after as the two files
    have it: of words decoded greedily and, where a language model stands beside the model, of
    words decoded with it. Word beginnings need marked keywords (keyword_start, keyword_end).
    Returns the figures, those with the language model in `with_lm`. Raises EarshotError.
    """
    card = model.card
    if card.calibration is None:
        raise ModelError(f"{model.path}: this model spots keywords and gives words no confidence")
    ways: dict[str, DecodeOptions] = {"calibration": DecodeOptions(no_lm=True)}
    if model.language_model is not None:
        ways["lm_calibration"] = DecodeOptions(lm=model.language_model)
    fitting, reporting = speaker_halves(data, read_trials(model, data, speaker).trials)
    own = {name: judge(run_trials(model, fitting, way)) for name, way in ways.items()}
    before = {name: judge(run_trials(model, reporting, way)) for name, way in ways.items()}
    try:
        found = {
            name: fit_calibration(own[name], getattr(card, name) or card.calibration)
            for name in ways
        }
    except ValueError as error:
        raise EvaluationError(f"{data}: nothing to calibrate by, {error}; add recordings") from None
    calibrated = rewrite_card(model.path, replace(card, **found), out)
    after = {name: judge(run_trials(calibrated, reporting, way)) for name, way in ways.items()}
    figures, *more = [
        {
            "calibration": vars(found[name]),
            "fitted_on": word_figures(own[name]),
            "before": word_figures(before[name]),
            "after": word_figures(after[name]),
        }
        for name in ways
    ]
    _print(figures)
    for with_lm in more:
        figures["with_lm"] = with_lm
        _print(with_lm, ", with the language model")
    if json_file is not None:
        write_figures(json_file, figures)
    if plot is not None:
        curves = {"before": before["calibration"], "after": after["calibration"]}
        plot_reliability(
            {name: reliability(j.confidences, j.right) for name, j in curves.items()}, plot
        )
    return figures


def fit_calibration(judged: Judged, current: Calibration) -> Calibration:
    """What takes the place of the calibration with which these words were recognised.

    Raises ValueError if confidences do not rise with the share of right words, or if there are not
    both. The ends of words are left alone: how early the last label comes depends on its sound.
    """
    if not 0 < judged.right.sum() < len(judged.right):
        raise ValueError("right and wrong words are needed")
    inside = np.clip(judged.confidences, MARGIN, 1 - MARGIN)
    scale, offset = fit_logistic(np.log(inside / (1 - inside)), judged.right)
    if scale <= 0:
        raise ValueError("wrong words have as much confidence as right ones")
    late = float(np.median(judged.offsets[:, 0])) if len(judged.offsets) else 0.0
    return Calibration(
        scale=scale * current.scale,
        offset=scale * current.offset + offset,
        onset=max(0.0, current.onset + late),
    )


def fit_logistic(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Fit P(right) = sigmoid(scale * score + offset) by maximum likelihood, (n,) each.

    Platt (1999), with his targets, which keep a small or a separable set from certainty; by
    Newton's method with backtracking (Lin, Lin & Weng, 2007). Returns scale and offset.
    """
    rights, wrongs = right.sum(), (~right).sum()
    targets = np.where(right, (rights + 1) / (rights + 2), 1 / (wrongs + 2))
    inputs = np.stack([scores, np.ones(len(scores))], axis=1)

    def loss(weights: np.ndarray) -> float:
        logits = inputs @ weights
        return float(np.sum(np.logaddexp(0.0, logits) - targets * logits))

    weights = np.zeros(2)
    for _ in range(STEPS):
        shares = 1.0 / (1.0 + np.exp(-(inputs @ weights)))
        curvature = (inputs * (shares * (1 - shares))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, inputs.T @ (targets - shares))
        while np.abs(step).max() > SMALLEST_STEP and loss(weights + step) > loss(weights):
            step = step / 2
        if np.abs(step).max() <= SMALLEST_STEP:
            break
        weights = weights + step
    return float(weights[0]), float(weights[1])


def _print(figures: dict[str, Any], how: str = "") -> None:
    console = Console()
    for name in ("before", "after"):
        for line in word_lines(figures[name]):
            console.print(f"{name}{how}: {line}", highlight=False, soft_wrap=True)
    chosen = ", ".join(f"{name} {value:.3f}" for name, value in figures["calibration"].items())
    fitted = figures["fitted_on"]
    console.print(
        f"fitted on {fitted['n']} words of other speakers{how}: {chosen}", highlight=False
    )
