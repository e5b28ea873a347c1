"""Thresholds from a budget of false alarms, measured on the stream and written into the card."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from asr.card import Alarms
from asr.decode.keywords.typed import SpotOptions
from asr.evaluation.alarm_report import plot_streams, print_streams
from asr.evaluation.alarms import Listening, listen, stream_figures
from asr.evaluation.intervals import poisson_bound
from asr.evaluation.report import stretch
from asr.evaluation.streams import Watcher
from asr.evaluation.trials import EvaluationError, read_trials
from asr.files import write_figures
from asr.model import Model
from export.export import rewrite_card

LOWEST, HIGHEST = 0.2, 0.99
GRID = np.append(np.round(np.arange(LOWEST, HIGHEST + 0.005, 0.01), 2), 1.0)
LIKELY = 0.5  # below it something else is more likely than the keyword
FOLDS = 2  # parts of the negatives of which one is counted with thresholds chosen on the rest


@dataclass(frozen=True)
class Counts:
    """What a keyword does at each threshold of GRID: how often it is recognised where it is said,
    and how often where it is not."""

    hits: np.ndarray
    alarms: np.ndarray


def calibrate_alarms(
    model: Model,
    data: Path,
    out: Path,
    negatives: Sequence[Path],
    budget: float,
    *,
    options: SpotOptions | None = None,
    speaker: str = "",
    json_file: Path | None = None,
    plot: Path | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Write the model to `out` with thresholds that keep a budget of false alarms an hour.

    data, speaker: keywords that are said, as for `read_trials`; negatives: files and folders of
    sound that holds none; jobs: processes that share them. The thresholds are chosen on all of it;
    how many alarms come with them is counted on the half of the streams that they were not chosen
    on, in turn. Raises EarshotError.
    """
    if not 0.0 < budget < math.inf:
        raise EvaluationError(
            f"a budget of {budget:g} false alarms an hour cannot be proved by any number of hours; "
            "allow some, for example 0.1"
        )
    watcher = Watcher(model, options)
    listening = listen(watcher, read_trials(model, data, speaker).trials, negatives, jobs)
    thresholds, alarms = settle(watcher, listening, budget)
    calibrated = rewrite_card(model.path, replace(model.card, alarms=alarms), out)
    figures = stream_figures(watcher, listening, thresholds)
    figures |= {"budget": budget, "count": alarms.count, "at_most": alarms.at_most}
    print_streams(figures)
    console = Console(highlight=False, soft_wrap=True)
    for line in proof(alarms, len(listening.negatives)):
        console.print(line)
    console.print(f"wrote {calibrated.path}")
    if json_file is not None:
        write_figures(json_file, figures)
    if plot is not None:
        plot_streams(figures, plot)
    return figures


def settle(
    watcher: Watcher, listening: Listening, budget: float, spare: float = 1.0
) -> tuple[dict[str, float], Alarms]:
    """The thresholds for a budget, and what is known of their false alarms.

    spare: the share of the recognised keywords that may be given up to keep it; see `choose`.
    Raises EvaluationError without any sound to choose by.
    """
    if not listening.hours or not listening.positives:
        missing = "negatives" if not listening.hours else "keywords that are said"
        raise EvaluationError(f"no {missing} to set thresholds by; name recordings of them")
    thresholds, hours = choose(watcher, listening, budget, spare), listening.hours
    total = 0
    for k in range(FOLDS):
        counted = replace(listening, negatives=listening.negatives[k::FOLDS])
        rest = tuple(n for j, n in enumerate(listening.negatives) if j % FOLDS != k)
        elsewhere = replace(listening, negatives=rest)
        others = choose(watcher, elsewhere, budget, spare) if rest else thresholds
        total += sum(1 for _ in counted.alarms(others))
    return thresholds, Alarms(
        budget=budget,
        hours=hours,
        count=total,
        at_most=poisson_bound(total) / hours,
        thresholds=thresholds,
    )


def choose(watcher: Watcher, listening: Listening, budget: float, spare: float) -> dict[str, float]:
    """The threshold of each keyword with which most are recognised within the budget.

    At first no keyword may give an alarm; then, one after the other, those that the budget allows
    go to the keyword that wins most by them. Of thresholds that do equally well the middle one is
    taken. Where that gives up more than the share `spare` of what the lowest threshold recognises,
    the budget is not kept, but the highest threshold taken that does not, or LIKELY.
    """
    left = math.floor(budget * listening.hours)
    counts = {k.text: count(listening, k.text) for k in watcher.keywords}
    spent = dict.fromkeys(counts, 0)
    while offers := [offer for name in counts for offer in _offers(name, counts, spent, left)]:
        gain, more, name = max(offers)
        if gain <= 0.0:
            break
        spent[name] += more
        left -= more
    return {name: _settled(counts[name], spent[name], spare) for name in counts}


def count(listening: Listening, keyword: str) -> Counts:
    """What a keyword does alone, at each threshold of GRID."""
    said = [positive for positive in listening.positives if positive.keyword == keyword]
    hits, alarms = [], []
    for threshold in GRID.tolist():
        alone = {keyword: threshold}
        hits.append(sum(p.found(p.track.firings(alone)) is not None for p in said))
        alarms.append(sum(1 for _ in listening.alarms(alone)))
    return Counts(np.array(hits), np.array(alarms))


def _offers(
    name: str, counts: dict[str, Counts], spent: dict[str, int], left: int
) -> Iterator[tuple[float, int, str]]:
    """What more alarms win a keyword: hits for each of them, how many they are, and its name."""
    now = _best(counts[name], spent[name])
    for alarms in np.unique(counts[name].alarms).tolist():
        more = alarms - spent[name]
        if 0 < more <= left:
            yield (_best(counts[name], alarms) - now) / more, more, name


def _best(counts: Counts, alarms: int) -> int:
    """The most hits with so many alarms at most."""
    return int(counts.hits[counts.alarms <= alarms].max(initial=0))


def _settled(counts: Counts, alarms: int, spare: float) -> float:
    """The middle one of the thresholds with the most hits of those with so many alarms at most; the
    highest if none has. If it does not keep all hits but `spare`, the highest that does, but none
    below LIKELY for that."""
    best = _best(counts, alarms)
    good = GRID[(counts.alarms <= alarms) & (counts.hits == best)]
    settled = float(good[len(good) // 2] if len(good) else GRID[-1])
    least = (1.0 - spare) * counts.hits.max(initial=0)
    if best >= least:
        return settled
    return min(settled, max(LIKELY, float(GRID[counts.hits >= least][-1])))


def proof(alarms: Alarms, streams: int) -> list[str]:
    """What the hours can prove of the budget, in sentences."""
    lines = [
        f"{alarms.count} false alarms in {stretch(alarms.hours)} ({streams} streams, each counted "
        f"with thresholds chosen on others): at most {alarms.at_most:.2g} an hour, with 95 % "
        "confidence"
    ]
    if streams < FOLDS:
        lines[0] = lines[0].replace("each counted with thresholds chosen on others", "the same")
    if alarms.at_most > alarms.budget:
        needed = poisson_bound(0) / alarms.budget
        lines.append(
            f"this does not prove the budget of {alarms.budget:g} an hour: that takes at least "
            f"{needed:.0f} hours of negatives without an alarm"
        )
    return lines
