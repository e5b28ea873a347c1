"""What a training says of itself where no terminal shows a bar."""

import re

import pytest
import torch

from asr.training import reporting
from asr.training.config import read_config
from asr.training.run import Run, start_run
from tests.support.tiny_training import write_words_recipe


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = write_words_recipe(tmp_path_factory.mktemp("reporting"))
    return start_run(read_config(recipe, []), torch.device("cpu"), rank=0, world=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reporting, "time", clock)
    return clock


def lines_of(run: Run, clock: Clock, shares: list[float], capsys: pytest.CaptureFixture) -> str:
    """What is printed when a step that ends every 20 seconds has these shares done before it."""
    capsys.readouterr()
    with reporting.reporting(run) as report:
        for step, done in enumerate(shares):
            run.progress.step = step
            clock.now += 20.0
            report(done, 1.5)
    return capsys.readouterr().out


def test_a_line_a_minute_says_step_loss_rate_and_the_time_left(
    run: Run, clock: Clock, capsys: pytest.CaptureFixture
) -> None:
    shares = [k / 100 for k in range(10)]
    first, second, third = lines_of(run, clock, shares, capsys).splitlines()
    shape = (
        r"step \d+  epoch 1  loss 1\.500  learning rate \d\.\d\de-\d\d  best -  \d:\d\d:\d\d left"
    )
    assert all(re.fullmatch(shape, line) for line in (first, second, third))
    assert first.startswith("step 2 ") and second.startswith("step 5 ")
    assert third.endswith("0:30:40 left")  # 160 s did 0.08 of it


def test_a_resumed_training_counts_the_time_left_from_where_it_goes_on(
    run: Run, clock: Clock, capsys: pytest.CaptureFixture
) -> None:
    (line,) = lines_of(run, clock, [0.50, 0.55, 0.60], capsys).splitlines()
    assert line.endswith("0:02:40 left")


def test_the_best_figure_has_a_name_once_there_is_one(
    run: Run, clock: Clock, capsys: pytest.CaptureFixture
) -> None:
    run.progress.best = 0.125
    (line,) = lines_of(run, clock, [0.0, 0.1, 0.2], capsys).splitlines()
    assert "best error 0.1250" in line


def test_only_the_first_process_reports(
    run: Run, clock: Clock, capsys: pytest.CaptureFixture
) -> None:
    run.rank = 1
    try:
        assert lines_of(run, clock, [0.0, 0.1, 0.2, 0.3, 0.4], capsys) == ""
    finally:
        run.rank = 0
