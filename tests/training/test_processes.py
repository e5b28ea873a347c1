"""Training by several processes: the same as by one, whatever becomes of one of them."""

import copy
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._C._distributed_c10d import FileStore

from asr.training.config import read_config
from asr.training.data.batches import Batches
from asr.training.data.corpus import load_corpus
from asr.training.data.plan import plan_epoch
from asr.training.losses import batch_loss
from asr.training.network.acoustic import AcousticModel
from asr.training.processes import ProcessesError, fresh_part
from asr.training.run import start_run
from asr.training.train import train, train_step
from tests.support.commands import ASR, environment
from tests.support.tiny_training import EXACT, write_words_recipe

DETERMINISTIC = (  # what does not depend on which process draws the random numbers
    *EXACT,
    "model.encoder.dropout=0",
    "model.head.dropout=0",
    "augment.time_masks=0",
    "augment.coefficient_masks=0",
)
BOUND = 1e-4  # of figures of several processes, relative to those of one: sums in another order


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words_recipe(tmp_path_factory.mktemp("processes"))


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def run_two(
    *arguments: object, program: Sequence[str] = ASR, restarts: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run `asr ARGUMENTS` in two processes that talk over the loopback device."""
    torchrun = ["torch.distributed.run", "--nproc_per_node=2", "--standalone", "--no-python"]
    torchrun.append(f"--max-restarts={restarts}")
    return subprocess.run(
        [sys.executable, "-m", *torchrun, *program, *map(str, arguments)],
        env=environment(GLOO_SOCKET_IFNAME="lo"),
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
def test_two_processes_train_as_one(recipe: Path) -> None:
    """Here with accumulated batches; without, where one of them is killed."""
    short = [
        "optimisation.epochs=2",
        "optimisation.evaluate_every=4",
        "optimisation.accumulate=2",
        *DETERMINISTIC,
    ]
    train(recipe, ["name=one", *short], resume=False)
    result = run_two("train", recipe, "name=two", *short)
    assert result.returncode == 0, result.stderr
    one, two = (metrics(recipe.parent / "runs" / name) for name in ("one", "two"))
    assert len(one) == len(two) > 1
    assert result.stdout.count("waited for the loaders ") == len(two)
    for alone, shared in zip(one, two, strict=True):
        assert alone.keys() == shared.keys()
        for figure in alone.keys() - {"seconds"}:  # of the validation, which is shared out, too
            assert shared[figure] == pytest.approx(alone[figure], rel=BOUND), figure


def test_accumulated_batches_count_as_one(recipe: Path) -> None:
    run = start_run(read_config(recipe, [*DETERMINISTIC]), torch.device("cpu"), 0, 1)
    plan = plan_epoch(run.config, run.corpus, 0)[:2]
    whole = Batches([[*plan[0], *plan[1]]], run.corpus.noises, None)
    parts = Batches(plan, run.corpus.noises, None)
    before = copy.deepcopy(run.model.state_dict())
    losses, gradients = [], []
    for batches in ([whole[0]], [parts[0], parts[1]]):
        run.model.load_state_dict(before)
        losses.append(train_step(run, run.model, batches, done=0.0))
        gradients.append([p.grad.clone() for p in run.model.parameters() if p.grad is not None])
    torch.testing.assert_close(losses[0], losses[1])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


POISONED = """
import os
import asr.training.train as training
loss_of, steps = training.batch_loss, iter(range(1000))
def poisoned(*arguments):
    loss = loss_of(*arguments)
    return loss * float("nan") if os.environ["RANK"] == "1" and next(steps) == 3 else loss
training.batch_loss = poisoned
from asr.cli import main
main()
"""


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_one_process_stops_all(recipe: Path) -> None:
    program = [sys.executable, "-c", POISONED]
    result = run_two("train", recipe, "name=poisoned", *EXACT, program=program)
    assert result.returncode != 0
    assert result.stderr.count("error: the loss is nan at step 3; continue with --resume") == 1


KILLED = """
import os, signal
import asr.training.train as training
step = training.train_step
def killed(run, *arguments):
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first and run.rank == 1 and run.progress.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(run, *arguments)
training.train_step = killed
from asr.cli import main
main()
"""


@pytest.mark.slow
def test_processes_that_torchrun_starts_again_go_on(recipe: Path) -> None:
    short = ["optimisation.epochs=2", "optimisation.evaluate_every=5", *DETERMINISTIC]
    train(recipe, ["name=unharmed", *short], resume=False)
    program = [sys.executable, "-c", KILLED]
    result = run_two("train", recipe, "name=killed", *short, program=program, restarts=1)
    assert result.returncode == 0, result.stderr
    one, two = (metrics(recipe.parent / "runs" / name) for name in ("unharmed", "killed"))
    assert [entry["step"] for entry in one] == [entry["step"] for entry in two]
    for figure in one[-1].keys() - {"seconds"}:
        assert two[-1][figure] == pytest.approx(one[-1][figure], rel=BOUND), figure


def test_processes_that_start_again_meet_where_nobody_was_before(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "store"), 3)
    starts = []
    for _ in range(2):  # the second finds what the first left in the store
        with ThreadPoolExecutor(3) as threads:
            ranks = reversed(range(3))
            parts = list(threads.map(lambda rank: fresh_part(store, rank, 3), ranks))
        for rank, part in enumerate(parts):
            part.set(f"of {rank}", str(rank))
        assert all(part.get(f"of {rank}") == b"%d" % rank for part in parts for rank in range(3))
        starts.append(parts[0])
        parts[0].set(f"start {len(starts)}", "")
    assert not starts[1].check(["start 1"])


def test_processes_that_never_start_are_missed(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "store"), 3)
    with pytest.raises(ProcessesError, match="2 of the 3 processes of this training did not start"):
        fresh_part(store, 0, 3, patience=timedelta(seconds=0.2))


def test_the_shares_of_processes_add_up_to_the_loss(recipe: Path) -> None:
    config = read_config(recipe, list(DETERMINISTIC))
    corpus = load_corpus(config)
    model = AcousticModel(config.model, len(corpus.labels.names))
    plan = plan_epoch(config, corpus, 0)
    whole = batch_loss(model, Batches(plan, corpus.noises, None)[0], config)
    for world in (2, 3):
        parts = [Batches(plan, corpus.noises, None, rank, world)[0] for rank in range(world)]
        shares = [batch_loss(model, part, config) for part in parts]
        torch.testing.assert_close(torch.stack(shares).sum(), whole)
    assert whole.item() == pytest.approx(math.log(5), rel=0.3)


THREADS_AT_THE_END = """
from pathlib import Path
from asr.cli import main
try:
    main()
finally:
    for thread in Path("/proc/self/task").iterdir():
        print("left:", (thread / "comm").read_text())
"""


@pytest.mark.slow
@pytest.mark.parametrize("batch_seconds", [8.0, 0.5], ids=["finished", "failed"])
def test_no_thread_of_the_process_group_outlives_a_training(
    recipe: Path, batch_seconds: float
) -> None:
    name = f"name=ended_{batch_seconds:g}"
    settings = [name, "optimisation.epochs=1", f"optimisation.batch_seconds={batch_seconds}"]
    program = [sys.executable, "-c", THREADS_AT_THE_END]
    result = run_two("train", recipe, *settings, program=program)
    assert result.stdout.count("left:") >= 1 and "gloo" not in result.stdout, result.stdout
    if batch_seconds < 1.0:
        assert result.returncode != 0
        assert "error: no batch has a recording for each of 2 processes" in result.stderr
    else:
        assert result.returncode == 0, result.stderr
