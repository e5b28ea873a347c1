"""Where the study of a search is kept: in its folder, or at a place that several machines share.

A search of its own keeps others out of its folder. Of a shared one, each process gives signs of
life for the trial that it works on: a trial without any is taken up by another process.
"""

import contextlib
import itertools
import os
import sqlite3
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
    JournalStorage,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from asr.batch.locations import is_url, public
from asr.batch.signs import STALE_SECONDS, renewed
from features.errors import EarshotError

STUDY, LOCK = "study.db", "lock.db"
LOCK_SECONDS = 60.0  # that a process waits for another to write to the study
OPENINGS = 3  # two processes that make the tables of a study get in each other's way
SIGN = "sign of life"  # an attribute of trials: a number that rises


class TuneError(EarshotError, ValueError):
    """A search that cannot start or go on."""


class _Journal(JournalFileBackend):
    """A journal file that fails in the way of any other storage."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileOpenLock if os.name == "nt" else JournalFileSymlinkLock
        super().__init__(str(path), lock(str(path)))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        try:
            yield from super().read_logs(log_number_from)
        except (OSError, ValueError) as error:
            raise StorageInternalError(str(error)) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError as error:
            raise StorageInternalError(str(error)) from error


def open_storage(folder: Path, shared: str | None) -> BaseStorage:
    """Open the storage of a study: `shared`, a journal file or an SQL URL, or the file in `folder`.

    Raises TuneError if a URL needs a package that is not installed, and what `study_errors` knows.
    """
    if shared is None or is_url(shared):
        return _database(shared or f"sqlite:///{folder / STUDY}")
    try:
        return JournalStorage(_Journal(Path(shared).absolute()))
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise StorageInternalError(f"no journal: {error}") from None


def _database(url: str, openings: int = OPENINGS) -> RDBStorage:
    options: dict[str, Any] = {"pool_pre_ping": True}  # servers end what was idle for a training
    if url.startswith("sqlite:"):
        options["connect_args"] = {"timeout": LOCK_SECONDS}
    try:
        return RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        raise TuneError(
            f"{public(url)}: {error.__cause__ or error}; install the package that opens it"
        ) from None
    except RuntimeError as error:  # tables of another optuna
        raise StorageInternalError(str(error)) from error
    except (SQLAlchemyError, StorageInternalError):
        if openings == 1:
            raise
        time.sleep(1.0)
        return _database(url, openings - 1)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a second search out of a folder, as long as this process lives. Raises TuneError."""
    with contextlib.closing(sqlite3.connect(folder / LOCK, timeout=0)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            raise TuneError(
                f"{folder}: is in use by another search ({error}); wait for its end, give this "
                "one another name (name=...), or have both share a study (--storage)"
            ) from None
        yield


@contextlib.contextmanager
def study_errors(folder: Path, shared: str | None) -> Iterator[None]:
    """Turn what goes wrong with the storage of a study into a TuneError."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        if shared is None:
            raise TuneError(
                f"{folder / STUDY}: cannot be used ({reason}); free some space and repeat, or "
                "start another search (name=...)"
            ) from None
        raise TuneError(
            f"{public(shared) if is_url(shared) else shared}: cannot be used ({reason}); check "
            "that this machine can write there and repeat, or name another --storage"
        ) from None


@contextlib.contextmanager
def signs_of_life(trial: Trial) -> Iterator[None]:
    """Say through the study, from time to time, that a trial is worked on."""
    numbers = itertools.count()

    def renew() -> None:
        trial.set_user_attr(SIGN, next(numbers))

    with contextlib.suppress(Exception):  # the next one says it
        renew()
    with renewed(renew):
        yield


class Signs:
    """What is known of the trials that run, by the clock of this machine alone."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, float]] = {}

    def without(self, study: Study) -> list[FrozenTrial]:
        """The running trials that have given no sign of life for STALE_SECONDS."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        now, before = time.monotonic(), self._seen
        self._seen = {}
        for trial in running:
            sign = trial.user_attrs.get(SIGN)
            known, since = before.get(trial.number, (sign, now))
            self._seen[trial.number] = (sign, since if known == sign else now)
        return [t for t in running if now - self._seen[t.number][1] > STALE_SECONDS]
