"""Shards shared out over the machines of a Ray cluster, by Ray Data.

An actor for each core takes a shard at a time. Beside it a process of its own holds the session: a
file that kills a decoder kills that process, not the actor, and costs its shard a row. Ray starts
actors and machines again; a shard that was written is found there, so that nothing is done twice
that need not be.
"""

import contextlib
import logging
import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import asr
from asr.batch.apart import apart, quiet_libraries
from asr.batch.archive import Collector, Outcome
from asr.batch.shards import Shard, Sink
from asr.batch.workers import Start, Workers
from features.errors import EarshotError

ANSWER_SECONDS = 10.0  # that an address has to answer
LOCAL = ("auto", "local")


class EngineError(EarshotError, RuntimeError):
    """A cluster that is not there, or that cannot do the work."""


@dataclass(frozen=True)
class Job:
    """What every actor does, and by what it knows that it has the same program and model.

    made_by: computes the fingerprint of model and options, where it is called.
    """

    start: Start
    sink: Sink
    made_by: Callable[[], str]
    wanted: str
    version: str = asr.__version__

    def check(self) -> None:
        """Raise EngineError if this machine would give other results than the driver."""
        here = socket.gethostname()
        if asr.__version__ != self.version:
            raise EngineError(
                f"{here} has earshot-asr {asr.__version__} and the driver has {self.version}; "
                "install the same on all machines"
            )
        if self.made_by() != self.wanted:
            raise EngineError(
                f"{here} has another model, or other files that options name, than the driver; "
                "copy the same to all machines"
            )


class ShardActor:
    """Recognises the files of one shard after another."""

    def __init__(self, job: bytes) -> None:
        self._pickled = job
        self._job: Job | None = None
        self._workers: Workers | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        answers = [pickle.dumps(self._answer(pickle.loads(shard))) for shard in batch["shard"]]
        return {"answer": answers}

    def _answer(self, shard: Shard) -> Outcome | EarshotError:
        """Write a shard, unless it is there: what was cut off before it was noted is not repeated.

        What is wrong for all shards is an answer: raised here, it would be tried again for ever.
        """
        try:
            job = self._job = self._job or _unpacked(self._pickled)
            if job.sink.is_done(shard.number):
                return Outcome(shard.number, len(shard.files), (), 0.0)
            if self._workers is None:
                job.check()
                # Ray has threads of its own here, with which a fork is not safe.
                self._workers = Workers(job.start, 1, multiprocessing.get_context("spawn"))
            collector = Collector(job.sink, [shard])
            (outcome,) = collector.take(self._workers.process(shard.files, collector.report))
            return outcome
        except EarshotError as error:
            return error


def _unpacked(job: bytes) -> Job:
    try:
        return pickle.loads(job)
    except (ImportError, AttributeError, TypeError) as error:
        raise EngineError(
            f"{socket.gethostname()} has another version of earshot-asr than the driver "
            f"({error}); install the same on all machines"
        ) from None


def run_on_ray(
    job: Job, shards: Sequence[Shard], jobs: int | None, address: str | None
) -> Iterator[Outcome]:
    """Yield the shards as they are written.

    jobs: actors, as many as the cluster has cores if None; address: of a cluster that runs, None to
    start one on this machine. Raises EngineError, and what is wrong for all files.
    """
    # Without its raylet, or the head of the cluster, Ray ends the process that it is used in.
    ended = yield from apart(_outcomes, job, shards, jobs, address)
    if not ended:
        raise EngineError(
            "Ray has ended, as it does when the head of the cluster is lost, or Ray on this "
            "machine; start them, then give the same command again: what is done is kept"
        )


def _outcomes(
    job: Job, shards: Sequence[Shard], jobs: int | None, address: str | None
) -> Iterator[Outcome]:
    quiet_libraries()
    ray = _connected(address)
    try:
        cores = int(ray.cluster_resources().get("CPU", 1))
        actors = max(1, min(jobs or cores, len(shards)))
        if actors > cores:
            raise EngineError(f"the cluster has {cores} cores, fewer than --jobs {actors}")
        for answer in _answers(ray, job, shards, actors):
            if isinstance(answer, EarshotError):
                raise answer
            yield answer
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise EngineError(
            f"Ray cannot go on ({type(error).__name__}: {reason}); give the same command again: "
            "what is done is kept"
        ) from None
    finally:
        ray.shutdown()


def _answers(ray: Any, job: Job, shards: Sequence[Shard], actors: int) -> Iterator[Any]:
    from ray import data

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    rows = data.from_items(
        [{"shard": pickle.dumps(shard)} for shard in shards], override_num_blocks=len(shards)
    )
    answers = rows.map_batches(
        ShardActor,
        fn_constructor_args=(pickle.dumps(job),),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=actors),
        num_cpus=1,
    )  # actors that die are started again, and what they did is given to others
    for row in answers.iter_rows():
        yield pickle.loads(row["answer"])


def _connected(address: str | None) -> Any:
    """Return the package ray, connected. Raises EngineError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before its import: nothing is reported
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters comes as an exception
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise EngineError(
            f"--engine ray needs {error.name}, which is not installed; "
            'pip install "earshot-asr[ray]"'
        ) from None
    if address is not None and address not in LOCAL:
        _check_answers(address)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address in (None, "local") else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except Exception as error:  # Ray raises Exception itself, too
        reason = " ".join(str(error).split())
        raise EngineError(
            f"{address or 'this machine'}: no Ray cluster to work on ({reason}); install the same "
            "Ray and Python on all machines, and check --address"
        ) from None
    return ray


def _check_answers(address: str) -> None:
    """Raise EngineError unless somebody answers at host:port: Ray itself waits for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise EngineError(f"{address}: is no --address of a Ray cluster; write host:6379")
    try:
        with contextlib.closing(socket.create_connection((host, int(port)), ANSWER_SECONDS)):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EngineError(
            f"{address}: no Ray cluster answers there ({reason}); start one with "
            "'ray start --head', or leave out --address to use this machine"
        ) from None
