"""The trials of a search for hyper-parameters: one process draws, trains, and notes what came."""

import contextlib
import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import MedianPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import Study, create_study
from optuna.trial import FrozenTrial, Trial, TrialState

from asr.studies.search_space import Space, suggest
from asr.studies.study_storage import Signs, open_storage, signs_of_life, study_errors
from asr.training.checkpoint import BEST, LAST
from asr.training.config import Config, apply_override, parse_config
from asr.training.interrupts import Interrupted
from asr.training.run import Run
from asr.training.train import train_model
from asr.training.validation import METRICS
from features.errors import EarshotError

LOG = "training.log"
UNPRUNED = 5  # trials that end before another is compared with their median
HOPELESS = 3  # trials that all fail before the search does
POLL_SECONDS = 5.0  # between two looks at what other machines do, once all trials are drawn
SEARCH, FOLDER, REASON = "search", "folder", "reason"  # attributes of a study, and of trials


@dataclass(frozen=True)
class Search:
    """What all processes of a search share.

    tree: the configuration (see `read_tree`), but for what `space` says; trials: of the whole
    search, None if only `until` ends it, in seconds since the epoch; storage: where several
    machines share the study (see `open_storage`), None if it is this one's own.
    """

    tree: dict[str, Any]
    origin: str
    space: Space
    method: str
    trials: int | None
    until: float | None
    storage: str | None = None

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """The configuration with the values of a trial. Raises ConfigError."""
        return parse_config(self.settled(overrides), self.origin)

    def settled(self, overrides: Sequence[str]) -> dict[str, Any]:
        """As `config`, but as nested tables."""
        tree = copy.deepcopy(self.tree)
        for override in overrides:
            apply_override(tree, override)
        return tree

    @property
    def folder(self) -> Path:
        """Where the study and the trainings are."""
        config = self.config()
        return Path(config.out, f"{config.name}-tune")

    @property
    def metric(self) -> str:
        """The validation figure that is made small."""
        return METRICS[self.config().model.head.kind]

    @property
    def fingerprint(self) -> str:
        """What must be the same for a study to go on."""
        space = {key: repr(dimension) for key, dimension in self.space.items()}
        return json.dumps([self.method, self.tree, space], sort_keys=True)

    def is_over(self) -> bool:
        """Whether its time is up."""
        return self.until is not None and time.time() >= self.until


def open_study(search: Search, rank: int = 0) -> Study:
    """Open the study of a search, or make it; `rank` tells processes of one machine apart."""
    storage = open_storage(search.folder, search.storage)
    name = search.config().name if search.storage else SEARCH
    study = create_study(storage=storage, study_name=name, load_if_exists=True)
    seed = None  # what machines draw must differ, though they begin alike
    if search.storage is None:
        seed = search.config().optimisation.seed + rank + 1000 * len(study.trials)
    sampler = TPESampler(seed=seed) if search.method == "bayes" else RandomSampler(seed=seed)
    study.sampler, study.pruner = sampler, MedianPruner(n_startup_trials=UNPRUNED)
    return study


def retry(study: Study, trial: Trial | FrozenTrial) -> None:
    """Have an interrupted trial go on later, as a new one in the same folder, unless another
    process has seen to that."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (UpdateFinishedTrialError, ValueError):  # it is no running trial any more
        return
    study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)


def counted(study: Study) -> list[FrozenTrial]:
    """The trials that have begun, but for interrupted ones: these failed without a reason, and
    another stands for them."""
    begun = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
    return [t for t in begun if t.state != TrialState.FAIL or REASON in t.user_attrs]


def completed(trials: Sequence[FrozenTrial]) -> list[tuple[float, FrozenTrial]]:
    """Those of `counted` that came to their end, and their figures, the best first."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return sorted(((trial.values[0], trial) for trial in complete), key=lambda pair: pair[0])


def hopeless(study: Study) -> str | None:
    """Why trials fail, if the first ones all did."""
    ended = [trial for trial in counted(study) if trial.state.is_finished()]
    if len(ended) < HOPELESS or any(trial.state != TrialState.FAIL for trial in ended):
        return None
    return ended[-1].user_attrs[REASON]


def work(search: Search, rank: int) -> None:
    """Do one trial after another until the search is over: of a shared one, until all trials of
    others have ended, too. Raises Interrupted."""
    with study_errors(search.folder, search.storage):
        study, signs, waiting = open_study(search, rank), Signs(), False
        while not search.is_over() and not hopeless(study):
            if search.storage is not None:
                for trial in signs.without(study):
                    print(f"trial {trial.number}: has no process any more, and is repeated")
                    retry(study, trial)
            if search.trials is not None and len(counted(study)) >= search.trials:
                if search.storage is None or not (others := _running(study)):
                    return
                if not waiting:
                    print(f"waiting for {others} trials of other processes", flush=True)
                waiting = True
                time.sleep(POLL_SECONDS)
                continue
            trial = study.ask()
            overrides = suggest(search.space, trial)
            if _is_one_too_many(search, study, trial):
                continue
            with signs_of_life(trial) if search.storage else contextlib.nullcontext():
                _run_trial(search, study, trial, overrides)
            _keep_the_best(search, study)


def _running(study: Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def _is_one_too_many(search: Search, study: Study, trial: Trial) -> bool:
    """Give a trial back that another process has drawn before, or that is beyond their number:
    processes that draw at the same time do not see each other."""
    before = [t for t in counted(study) if t.number < trial.number]
    folder = trial.user_attrs.get(FOLDER)
    twice = any(
        (folder is not None and t.user_attrs.get(FOLDER) == folder)
        or (search.method == "grid" and t.params == trial.params)
        for t in before
    )
    if twice:
        study.tell(trial, state=TrialState.FAIL)
        return True
    if search.trials is not None and len(before) >= search.trials:
        retry(study, trial)
        return True
    return False


def _run_trial(search: Search, study: Study, trial: Trial, overrides: list[str]) -> None:
    name = trial.user_attrs.get(FOLDER) or f"{search.config().name}-{trial.number}"
    trial.set_user_attr(FOLDER, name)
    outcome = "cut short"
    try:
        config = replace(search.config(overrides), name=name, out=str(search.folder))
        best = _train(config, Watch(search, trial))
        study.tell(trial, best)
        outcome = f"{search.metric} {best:.4f}"
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except UpdateFinishedTrialError:
        outcome = "another process has taken it over"
    except Interrupted:
        retry(study, trial)
        if search.is_over():
            return
        raise
    except EarshotError as error:
        trial.set_user_attr(REASON, str(error))
        study.tell(trial, state=TrialState.FAIL)
        outcome = f"failed ({error})"
    print(f"trial {trial.number}: {outcome}   {' '.join(overrides)}", flush=True)


def _train(config: Config, watch: "Watch") -> float:
    """Train, and say what a training says in a file of its folder; return the best figure."""
    config.run.mkdir(parents=True, exist_ok=True)
    with (
        (config.run / LOG).open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
    ):
        return train_model(config, resume=True, observers=[watch]).best


class Watch:
    """Reports each validation of a trial, and ends its training if it is not worth its time."""

    def __init__(self, search: Search, trial: Trial) -> None:
        self._search, self._trial = search, trial
        self._reported = 0

    def __call__(self, run: Run) -> None:
        for number in range(self._reported, len(run.history)):
            self._trial.report(run.history[number][run.metric], number)
        self._reported = len(run.history)
        if self._trial.should_prune():
            raise TrialPruned
        parent = parent_process()
        if self._search.is_over() or (parent is not None and not parent.is_alive()):
            raise Interrupted(f"{run.config.run}: the search is over")


def _keep_the_best(search: Search, study: Study) -> None:
    """Delete the weights of all trials that have ended, but for the best."""
    trials = counted(study)  # looked at once: what ends meanwhile is left alone
    best = {trial.number for _, trial in completed(trials)[:1]}
    for trial in trials:
        if trial.state.is_finished() and trial.number not in best:
            for name in (LAST, BEST):
                (search.folder / trial.user_attrs[FOLDER] / name).unlink(missing_ok=True)
