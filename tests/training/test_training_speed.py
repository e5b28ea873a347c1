"""What `asr bench RECIPE` reports adds up, and leaves nothing behind."""

import json
import re
from pathlib import Path

import pytest

import asr.studies.bench.training
from asr.studies.bench.training import benchmark_training
from asr.training.config import read_config
from tests.support.commands import run_asr
from tests.support.tiny_training import write_speech_recipe, write_words_recipe


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr.studies.bench.training, "STEPS", 2)
    monkeypatch.setattr(asr.studies.bench.training, "ROUNDS", 2)


@pytest.mark.slow
@pytest.mark.parametrize("write_recipe", [write_words_recipe, write_speech_recipe])
@pytest.mark.parametrize(
    "override",
    [
        "optimisation.precision=fp32",
        "model.encoder.projection=8",
        "optimisation.batch_seconds=1000",  # a single batch
    ],
)
def test_the_figures_of_a_recipe_add_up(
    write_recipe, override: str, short: None, tmp_path: Path
) -> None:
    config = read_config(write_recipe(tmp_path), [override])
    file = tmp_path / "speed.json"
    figures = benchmark_training(config, json_file=file)
    assert json.loads(file.read_text()) == figures
    for part in ("floor", "blocks", "batch", "feature"):
        assert figures[f"{part}_seconds"] > 0.0
    assert figures["floor_share"] == figures["floor_seconds"] / figures["step_seconds"]
    assert figures["epoch_seconds"] == figures["epoch_steps"] * figures["step_seconds"]
    assert not config.run.exists()


@pytest.mark.slow
def test_progress_is_one_line_a_stage(
    short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark_training(read_config(write_words_recipe(tmp_path), []))
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines[0] == "words: reading the recordings"
    assert lines[-2:] == ["training 2 steps, round 1 of 2", "training 2 steps, round 2 of 2"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("commands", "optimisation.epochs=1"), "optimisation.epochs=1 .*recipe"),
        (("words.toml", "--peers"), "leave out --audio and --peers"),
        (("no_such.toml",), "no_such.toml"),
    ],
)
def test_models_have_no_fields_and_recipes_no_peers(arguments: tuple[str, ...], named: str) -> None:
    result = run_asr("bench", *arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(named, line)
