"""`asr tune`: a search for hyper-parameters, from the command to its table, picture and TOML."""

import contextlib
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from asr.cores import cores
from asr.files import whole_file, write_figures
from asr.studies.plot_tune import plot_search
from asr.studies.search import (
    FOLDER,
    REASON,
    SEARCH,
    Search,
    completed,
    counted,
    hopeless,
    open_study,
    retry,
    work,
)
from asr.studies.search_space import DEFAULTS, as_overrides, grid, split_overrides
from asr.studies.study_storage import TuneError, alone_in, study_errors
from asr.training.config import read_tree, settle_paths
from asr.training.interrupts import Interrupted
from asr.training.processes import THREADS
from asr.training.toml import write_toml
from features.errors import EarshotError

METHODS = ("bayes", "random", "grid")
TRIALS = 20  # if neither their number nor the time is limited
LARGEST_GRID = 1000
SHOWN = 10  # trials in the table
RANKED = 10  # trials that importances (PED-ANOVA, Watanabe et al., 2023) need
FIGURES, BEST_TOML, PICTURE = "trials.json", "best.toml", "tune.png"
MAKE_ROOM = "free some space and repeat the command, which goes on"
FAILED = 2  # exit code of a process


def tune(
    recipe: Path,
    overrides: Sequence[str] = (),
    *,
    method: str = "bayes",
    trials: int | None = None,
    minutes: float | None = None,
    jobs: int = 1,
    storage: str | None = None,
) -> dict[str, Any]:
    """Search the fields that `overrides` gives ranges (DEFAULTS if none); return what was found.

    trials: of the whole search, those of earlier calls included; minutes: of this call; storage: a
    journal file or an SQL URL by which several machines share the search: each makes the same call,
    with an `out` that all see. The study (without `storage`), the trainings, the table of trials, a
    picture and the best configuration are written to `<out>/<name>-tune`. A call of the same search
    goes on with it. Raises EarshotError and Interrupted.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = _plan(recipe, overrides, method, trials, minutes, storage)
    with _in_folder(search), study_errors(search.folder, storage):
        study = _begin(search)
        _share_out(search, jobs)
        if reason := hopeless(study):
            raise TuneError(f"the first trainings all failed; the last of them: {reason}")
        return _report(search, study)


def _plan(
    recipe: Path,
    overrides: Sequence[str],
    method: str,
    trials: int | None,
    minutes: float | None,
    storage: str | None,
) -> Search:
    fixed, space = split_overrides(overrides)
    if not space:
        _, space = split_overrides(DEFAULTS)
        print(f"no field has a range; searching {'  '.join(DEFAULTS)}")
    if method == "grid":
        combinations = len(grid(space))
        if combinations > LARGEST_GRID:
            raise TuneError(
                f"this grid has {combinations} points; give fewer fields a range, or choices "
                "(field=a|b), or use --method bayes"
            )
        trials = min(trials or combinations, combinations)
    elif trials is None and minutes is None:
        trials = TRIALS
    until = None if minutes is None else time.time() + 60.0 * minutes
    tree = read_tree(recipe, fixed)
    settle_paths(tree, Path.cwd())  # those in overrides: best.toml stands in another folder
    return Search(tree, str(recipe), space, method, trials, until, storage)


def _in_folder(search: Search) -> AbstractContextManager[None]:
    """Make the folder of a search and, unless it is shared, keep others out of it."""
    folder = search.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TuneError(
            f"{folder}: cannot be the folder of a search ({error.strerror}); name another with "
            "out=..."
        ) from None
    return contextlib.nullcontext() if search.storage else alone_in(folder)


def _begin(search: Search) -> Study:
    """Open the study; of a new one draw the grid, of an old one take up what was interrupted."""
    trained = any(search.folder.glob(f"{search.config().name}-*/"))
    study = open_study(search)
    if SEARCH not in study.user_attrs:
        if trained:
            raise TuneError(
                f"{search.folder}: has the trainings of a search whose study is elsewhere; repeat "
                "its --storage, or give this one another name (name=...)"
            )
        if search.method == "grid":
            points = grid(search.space)
            random.Random(search.config().optimisation.seed).shuffle(points)
            for point in points:
                study.enqueue_trial(point)
        study.set_user_attr(SEARCH, search.fingerprint)  # last: a grid is whole, or drawn anew
    if study.user_attrs[SEARCH] != search.fingerprint:
        raise TuneError(
            f"{search.folder}: holds a search of other ranges, settings or by another method; "
            "repeat these, or give this one another name (name=...)"
        )
    if search.storage is None:  # else they may be those of another machine
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            retry(study, trial)
    return study


def _share_out(search: Search, jobs: int) -> None:
    """Have `jobs` processes work on a search, each on its share of the cores."""
    if jobs == 1:
        work(search, 0)
        return
    os.environ.setdefault(THREADS, str(max(1, cores() // jobs)))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(search, k)) for k in range(jobs)]
    for process in processes:
        process.start()
    try:
        _join(processes)
    except KeyboardInterrupt:  # it has reached them, too
        _join(processes)
        raise Interrupted("stopped and saved") from None
    if failed := sum(process.exitcode != 0 for process in processes):
        raise TuneError(f"{failed} of {jobs} processes ended with an error; it is printed above")


def _join(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.join()


def _work(search: Search, rank: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        work(search, rank)
    except EarshotError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(FAILED)
    except Interrupted:
        pass  # the process that started this one says so


def _report(search: Search, study: Study) -> dict[str, Any]:
    """Print and write what the trials gave. Raises TuneError if none came to its end."""
    trials = counted(study)
    complete = completed(trials)
    if not complete:
        raise TuneError(
            f"{search.folder}: no training has come to its end yet; repeat the command, which goes "
            "on, and give it more --minutes or --trials"
        )
    value, best = complete[0]
    figures = {
        "metric": search.metric,
        "best": {"trial": best.number, "value": value, "parameters": best.params},
        "importance": get_param_importances(study) if len(complete) >= RANKED else {},
        "trials": [_row(trial) for trial in trials],
    }
    write_figures(search.folder / FIGURES, figures)
    with whole_file(search.folder / BEST_TOML, MAKE_ROOM) as part:
        tree = search.settled(as_overrides(best.params))
        part.write_text(write_toml(tree), encoding="utf-8")
    plot_search(figures, search.space, search.folder / PICTURE, MAKE_ROOM)
    _print(search, complete, figures)
    return figures


def _row(trial: FrozenTrial) -> dict[str, Any]:
    duration = trial.duration
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value,
        "parameters": trial.params,
        "validations": list(trial.intermediate_values.values()),
        "seconds": None if duration is None else round(duration.total_seconds(), 1),
        "reason": trial.user_attrs.get(REASON),
    }


def _print(
    search: Search, complete: Sequence[tuple[float, FrozenTrial]], figures: dict[str, Any]
) -> None:
    console = Console(highlight=False, soft_wrap=True)
    keys = list(search.space)
    states = Counter(row["state"] for row in figures["trials"])
    title = ", ".join(f"{count} {state}" for state, count in states.items())
    table = Table("trial", search.metric, *(key.rpartition(".")[2] for key in keys), title=title)
    for value, trial in complete[:SHOWN]:
        cells = (_shown(trial.params[key]) for key in keys)
        table.add_row(str(trial.number), f"{value:.4f}", *cells)
    console.print(table)
    for row in figures["trials"]:
        if row["reason"]:
            console.print(f"trial {row['trial']} failed: {row['reason']}", markup=False)
    for key, share in figures["importance"].items():
        console.print(f"importance {100 * share:3.0f} %  {key}")
    folder, best = search.folder, complete[0][1]
    console.print(
        f"The best of {len(complete)} on the same speakers looks better than it is: measure it on "
        f"others.\nIts weights: asr export {folder / best.user_attrs[FOLDER]} OUT.onnx"
        f"\nIts configuration: {folder / BEST_TOML}   picture: {folder / PICTURE}"
    )


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
