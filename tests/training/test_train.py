"""Training as it happens: it learns, it survives being killed, and it gives the same everywhere."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.files import WriteError
from asr.training.checkpoint import (
    BEST,
    LAST,
    CheckpointError,
    Progress,
    best_checkpoint,
    load_checkpoint,
    rebuild,
    save_checkpoint,
)
from asr.training.config import read_config
from asr.training.data.corpus import load_corpus
from asr.training.network.encoders import EncoderConfig
from asr.training.run import TrainingError
from asr.training.train import draw_latency, learning_rate_factor, train
from asr.training.validation import validate
from features.errors import EarshotError
from tests.support import tiny_models
from tests.support.commands import ASR, environment, run_asr
from tests.support.tiny_training import EXACT, write_words_recipe

DETERMINISTIC = (  # what does not depend on which process draws the random numbers
    *EXACT,
    "model.encoder.dropout=0",
    "model.head.dropout=0",
    "augment.time_masks=0",
    "augment.coefficient_masks=0",
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words_recipe(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def trained(recipe: Path, trained_words: Path) -> Path:
    """A copy, beside the recipe's other runs, of an uninterrupted run of the real command."""
    return Path(shutil.copytree(trained_words, recipe.parent / "runs" / "words"))


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same(one: Any, other: Any) -> None:
    """Equal to the bit, whatever is nested in whatever."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


# It learns


def test_words_of_unseen_speakers_are_learned(trained: Path) -> None:
    entries = metrics(trained)
    assert entries[-1]["error"] < 0.1
    assert entries[-1]["error"] < 0.5 * entries[0]["error"]
    assert entries[-1]["validation_loss"] < 0.3 * entries[0]["validation_loss"]
    assert entries[-1]["train_loss"] < 0.6 * entries[0]["train_loss"]


def test_a_run_leaves_its_metrics_curves_and_checkpoints(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == [
        "best.pt",
        "curves.png",
        "last.pt",
        "metrics.jsonl",
    ]
    entries = metrics(trained)
    assert [entry["step"] for entry in entries[:-1]] == list(range(30, entries[-1]["step"], 30))
    assert all(one["seconds"] <= other["seconds"] for one, other in pairwise(entries))
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_model_is_rebuilt_from_its_checkpoint_alone(trained: Path, trained_words: Path) -> None:
    config, labels, model = rebuild(load_checkpoint(trained / BEST), trained / BEST)
    assert config == read_config(trained_words.parents[1] / "words.toml", list(EXACT))
    assert labels == ("yes", "no", "stop", "left", "_silence_")
    figures = validate(model, config, load_corpus(config), torch.device("cpu"))
    expected = json.loads(load_checkpoint(trained / BEST)["metrics"])
    assert figures == {name: pytest.approx(expected[name], abs=1e-5) for name in figures}


@given(warmup=st.floats(0.0, 1.0), done=st.floats(0.0, 1.0), later=st.floats(0.0, 1.0))
def test_the_learning_rate_rises_once_and_falls_to_zero(
    warmup: float, done: float, later: float
) -> None:
    done, later = sorted((done, later))
    before, after = learning_rate_factor(done, warmup), learning_rate_factor(later, warmup)
    assert 0.0 <= before <= 1.0
    if later < warmup:
        assert before <= after
    elif done >= warmup:
        assert before >= after
    if warmup < 0.99:
        assert learning_rate_factor(1.0, warmup) < 1e-6


def test_half_of_the_steps_are_at_the_latency_of_the_model() -> None:
    encoder = EncoderConfig(block=6, look_ahead=3, also=((4, 0), (0, 0)))
    drawn = [draw_latency(encoder, seed=0, step=step) for step in range(2000)]
    shares = {latency: drawn.count(latency) / len(drawn) for latency in set(drawn)}
    expected = {(6, 3): 0.5, (4, 0): 0.25, (0, 0): 0.25}
    assert shares == {latency: pytest.approx(p, abs=0.04) for latency, p in expected.items()}
    assert drawn == [draw_latency(encoder, seed=0, step=step) for step in range(2000)]
    assert draw_latency(EncoderConfig(block=6), seed=0, step=3) == (6, 0)


def test_a_training_can_begin_where_another_ended(trained: Path, recipe: Path) -> None:
    """With other words: the head is new, the rest is not."""
    other = ["name=other", "model.head.labels=['yes', 'left']", *EXACT]
    still = ["optimisation.learning_rate=1e-30", "optimisation.epochs=1"]
    train(recipe, [*other, *still, f"optimisation.start={trained}"], resume=False)
    old = load_checkpoint(trained / BEST)["averaged"]
    new = load_checkpoint(recipe.parent / "runs" / "other" / BEST)["averaged"]
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"head.output.weight", "head.output.bias"}


def test_a_training_can_begin_with_an_exported_model(
    trained: Path, trained_words_model: Path, recipe: Path
) -> None:
    still = ["optimisation.learning_rate=1e-30", "optimisation.epochs=1", *EXACT]
    start = f"optimisation.start={trained_words_model}"
    train(recipe, ["name=again", *still, start], resume=False)
    old = load_checkpoint(trained / BEST)["averaged"]
    new = load_checkpoint(recipe.parent / "runs" / "again" / BEST)["averaged"]
    torch.testing.assert_close(new, old)


def test_a_start_of_another_shape_is_refused(trained: Path, recipe: Path) -> None:
    other = ["name=misfit", "model.encoder.stem_channels=7", *EXACT]
    with pytest.raises(TrainingError, match=r"optimisation\.start: .* another stem"):
        train(recipe, [*other, f"optimisation.start={trained}"], resume=False)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("words.txt", "is no readable checkpoint"),
        ("words.onnx", "its weights are not those of the network in its card"),
        ("missing", "No such file or directory"),
    ],
)
def test_a_start_that_is_no_checkpoint_is_one_line(
    recipe: Path, tmp_path: Path, name: str, problem: str
) -> None:
    (tmp_path / "words.txt").write_text("some words")
    tiny_models.streaming_classify(tmp_path / "words.onnx")
    start = f"optimisation.start={tmp_path / name}"
    with pytest.raises(EarshotError, match=f"{name}.*{problem}.*name a f") as caught:
        train(recipe, ["name=misled", start], resume=False)
    assert "\n" not in str(caught.value)


# It stops and goes on


def test_a_killed_training_resumes_to_the_same_result(recipe: Path, trained: Path) -> None:
    command = ["train", str(recipe), "name=killed", *EXACT]
    run = recipe.parent / "runs" / "killed"
    process = subprocess.Popen([*ASR, *command], env=environment(), stdout=subprocess.DEVNULL)
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    interrupted = load_checkpoint(run / LAST)["progress"]
    assert interrupted["step"] < metrics(trained)[-1]["step"] and interrupted["batch"] > 0

    result = run_asr(*command, "--resume")
    assert result.returncode == 0, result.stderr
    for name in (BEST, LAST):
        whole, resumed = load_checkpoint(trained / name), load_checkpoint(run / name)
        for part in whole.keys() - {"config", "metrics", "history", "progress"}:
            assert_same(whole[part], resumed[part])
    timeless = [[entry | {"seconds": 0} for entry in metrics(folder)] for folder in (trained, run)]
    assert timeless[0] == timeless[1]


IN_LINES = (  # the real command, which says at every step what it says once a minute
    "import asr.training.reporting as reporting; reporting.LINE_SECONDS = 0.0; "
    "from asr.cli import main; main()"
)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_the_first_epoch_saves_and_says_how_to_resume(
    recipe: Path, number: signal.Signals
) -> None:
    name = f"name=stopped_{number.name}"
    run = recipe.parent / "runs" / name.removeprefix("name=")
    process = subprocess.Popen(
        [sys.executable, "-c", IN_LINES, "train", recipe, name, "data.epoch_seconds=2000", *EXACT],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert any(line.startswith("step") for line in process.stdout)
    os.killpg(process.pid, number)  # as a terminal or a service does: its loaders get it, too
    output, errors = process.communicate()
    assert process.returncode not in (0, -number)
    assert "Traceback" not in errors
    progress = load_checkpoint(run / LAST)["progress"]
    assert progress["step"] == progress["batch"] > 0 and progress["epoch"] == 0
    assert f"stopped at step {progress['step']} and saved" in output
    assert f"go on with: asr train {recipe} {name} data.epoch_seconds=2000" in output
    with pytest.raises(CheckpointError, match="was stopped before its first validation"):
        best_checkpoint(run)

    train(recipe, [name, "optimisation.epochs=2", *EXACT], resume=True)
    assert metrics(run)[-1]["step"] > progress["step"]


@pytest.mark.slow
def test_resuming_what_never_ran_begins_it_and_says_so(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe, ["name=new", "optimisation.epochs=1", *EXACT], resume=True)
    run = recipe.parent / "runs" / "new"
    assert f"{run}: holds no training to resume" in capsys.readouterr().out
    assert metrics(run)


def test_a_file_cannot_be_the_folder_of_runs(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TrainingError, match=r"cannot be the folder of a training .*out=\.\.\."):
            train(recipe, [f"out={out}"], resume=False)


def test_a_finished_training_has_nothing_left_to_do_and_says_so(
    trained: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [(trained / name).read_bytes() for name in (BEST, LAST)]
    train(recipe, [*EXACT], resume=True)
    assert f"{trained}: was at its end already, after " in capsys.readouterr().out
    assert [(trained / name).read_bytes() for name in (BEST, LAST)] == before


@pytest.mark.slow
def test_a_training_by_the_clock_stops_with_a_falling_rate(recipe: Path) -> None:
    limit = ("optimisation.minutes=0.03", "optimisation.epochs=100000", "name=hasty")
    result = run_asr("train", recipe, *EXACT, *limit)
    assert result.returncode == 0, result.stderr
    folder = recipe.parent / "runs" / "hasty"
    last = metrics(folder)[-1]
    assert 1.8 <= last["seconds"] < 20.0 and last["learning_rate"] < 2.5e-3
    steps = load_checkpoint(folder / LAST)["progress"]["step"]
    assert last["step"] == steps and load_checkpoint(folder / BEST)["labels"]
    again = run_asr("train", recipe, *EXACT, *limit, "--resume")
    assert again.returncode == 0, again.stderr
    assert load_checkpoint(folder / LAST)["progress"]["step"] == steps


def test_a_training_is_not_overwritten(trained: Path, recipe: Path) -> None:
    before = (trained / LAST).read_bytes()
    result = run_asr("train", recipe)
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2
    assert f"{trained}: holds a training already" in line and "--resume" in line
    assert (trained / LAST).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("model.head.labels=['yes', 'left']", "other labels"),
        ("model.encoder.hidden=25", "other settings under \\[model\\]"),
    ],
)
def test_another_model_cannot_resume(
    trained: Path, recipe: Path, change: str, problem: str
) -> None:
    with pytest.raises(TrainingError, match=f"{trained}.*{problem}"):
        train(recipe, [*EXACT, change], resume=True)


@pytest.mark.slow
def test_training_stops_when_nothing_improves(recipe: Path) -> None:
    still = ["name=still", "optimisation.learning_rate=1e-30", "optimisation.patience=2"]
    train(recipe, [*still, "optimisation.evaluate_every=1", *EXACT], resume=False)
    entries = metrics(recipe.parent / "runs" / "still")
    assert [entry["step"] for entry in entries] == [1, 2, 3]


def test_a_loss_that_is_no_number_ends_the_training(recipe: Path) -> None:
    wild = ["name=wild", "optimisation.learning_rate=1e30", "optimisation.warmup=0"]
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+; .*learning_rate"):
        train(recipe, [*wild, *EXACT], resume=False)


# Checkpoints


def test_of_weights_with_the_same_error_those_with_the_lowest_loss_are_kept(trained: Path) -> None:
    entries = metrics(trained)
    assert len({entry["error"] for entry in entries}) < len(entries)
    best = json.loads(load_checkpoint(trained / BEST)["metrics"])
    assert best == min(entries, key=lambda entry: (entry["error"], entry["validation_loss"]))


class Harmful:
    """An object that, unpickled, would run a command."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_a_checkpoint_with_code_inside_is_refused(trained: Path, tmp_path: Path) -> None:
    path, target = tmp_path / "harmful.pt", tmp_path / "ran"
    torch.save(load_checkpoint(trained / BEST) | {"metrics": Harmful(target)}, path)
    with pytest.raises(CheckpointError, match=r"harmful\.pt: is no readable checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"words", b"PK\x03\x04", None])
def test_files_that_are_no_checkpoints(
    trained: Path, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "x.pt"
    whole = (trained / BEST).read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(CheckpointError, match=r"x\.pt: is no readable checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_other_things_that_torch_saved_are_no_checkpoints(tmp_path: Path) -> None:
    for content in ([1, 2], {"schema": 99}, {}, torch.zeros(3)):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=r"x\.pt: not a checkpoint of this version"):
            load_checkpoint(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"missing\.pt"):
        load_checkpoint(tmp_path / "missing.pt")


@pytest.mark.parametrize("key", ["config", "labels", "averaged", "progress", "metrics"])
def test_a_checkpoint_that_lacks_a_part_is_refused(trained: Path, tmp_path: Path, key: str) -> None:
    content = load_checkpoint(trained / BEST)
    del content[key]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"x\.pt: lacks {key}; name a folder"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("fault", ["less", "more", "other"])
def test_a_checkpoint_with_weights_of_another_network_is_refused(
    trained: Path, tmp_path: Path, fault: str
) -> None:
    content = load_checkpoint(trained / BEST)
    weights = content["averaged"]
    if fault == "less":
        del weights["mean"]
    elif fault == "more":
        weights["extra"] = torch.zeros(3)
    else:
        weights["mean"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"x\.pt: its weights are not those of") as caught:
        rebuild(content, tmp_path / "x.pt")
    assert "\n" not in str(caught.value)


def test_a_last_checkpoint_that_lacks_what_resuming_needs_is_refused(
    trained: Path, recipe: Path
) -> None:
    run = trained.parent / "bare"
    run.mkdir()
    shutil.copy(trained / BEST, run / LAST)
    with pytest.raises(CheckpointError, match=r"last\.pt: lacks .*optimiser"):
        train(recipe, ["name=bare", *EXACT], resume=True)


def test_a_full_disk_leaves_the_last_checkpoint_as_it_was(trained: Path, recipe: Path) -> None:
    run = trained.parent / "full"
    shutil.copytree(trained, run)
    limit = (run / BEST).stat().st_size // 2
    more = ["name=full", "optimisation.epochs=99", "optimisation.workers=0", *EXACT]
    result = subprocess.run(
        [*ASR, "train", str(recipe), *more, "--resume"],
        env=environment(),
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"error: {run}")
    assert "free some space and continue with --resume" in result.stderr
    for path in trained.iterdir():
        assert (run / path.name).read_bytes() == path.read_bytes()
    assert {path.name for path in run.iterdir()} == {path.name for path in trained.iterdir()}


def test_a_checkpoint_that_cannot_be_written_is_an_error(trained: Path, tmp_path: Path) -> None:
    config, labels, model = rebuild(load_checkpoint(trained / BEST), trained / BEST)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file/x\.pt: cannot be written"):
        save_checkpoint(tmp_path / "file" / "x.pt", config, labels, model, Progress(), {})
