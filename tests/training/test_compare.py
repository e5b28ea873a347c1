"""A comparison is fair: as many parameters, as much time, the same recordings, and all of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.evaluation.intervals import crossed_interval
from asr.studies.compare import FIGURES, summarise
from asr.studies.family import ComparisonError, count_parameters, family, of_kind
from asr.training.checkpoint import LAST, load_checkpoint
from asr.training.config import read_config
from asr.training.network.acoustic import ModelConfig
from asr.training.network.cells import KINDS
from asr.training.network.encoders import EncoderConfig
from asr.training.network.heads import HeadConfig
from tests.support.commands import run_asr
from tests.support.tiny_training import write_words_recipe

LABELS = 6


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words_recipe(tmp_path_factory.mktemp("family"))


def model_of(head: str = "ctc", **encoder: Any) -> ModelConfig:
    labels = ("a", "b") if head == "classify" else ()
    sizes: dict[str, Any] = {"hidden": 72, "stem_channels": 76} | encoder
    return ModelConfig(head=HeadConfig(kind=head, labels=labels), encoder=EncoderConfig(**sizes))  # pyright: ignore


# Equal parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        model_of(block=6, look_ahead=3, also=((0, 0), (6, 5))),
        model_of("classify", projection=52, layer_norm=True),
    ],
    ids=["blocks", "whole utterances"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_about_as_many_parameters(kind: str, model: ModelConfig) -> None:
    wanted = count_parameters(model, LABELS)
    found = of_kind(model, kind, wanted, LABELS)
    assert count_parameters(found, LABELS) == pytest.approx(wanted, rel=0.02)
    encoder, home = found.encoder, model.encoder
    assert (encoder.kind, encoder.layers, encoder.layer_norm) == (kind, 2, home.layer_norm)
    if KINDS[kind].bidirectional:
        assert encoder.latency == home.latency
    else:
        assert encoder.look_ahead == 0 and encoder.block == (home.block or 6)


def test_the_encoder_of_the_recipe_stays_as_it_is() -> None:
    model = model_of(block=6, look_ahead=3)
    assert of_kind(model, "bilstm", count_parameters(model, LABELS), LABELS) == model


@pytest.mark.parametrize("kind", ["gru", "attention"])
def test_no_other_size_is_nearer(kind: str) -> None:
    model = model_of()
    for wanted in (140_000, 141_000, 165_000):
        found = of_kind(model, kind, wanted, LABELS)
        step, off = 2, abs(count_parameters(found, LABELS) - wanted)
        for hidden in (found.encoder.hidden - step, found.encoder.hidden + step):
            other = replace(found, encoder=replace(found.encoder, hidden=hidden))
            assert abs(count_parameters(other, LABELS) - wanted) >= off


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ComparisonError, match=r"rnn cannot have about 5,000 .*--parameters"):
        of_kind(model_of(), "rnn", 5_000, LABELS)
    with pytest.raises(ComparisonError, match="'lsmt' is no encoder; known are attention, bigru"):
        of_kind(model_of(), "lsmt", 50_000, LABELS)


# All else equal


def test_trainings_differ_in_encoder_and_seed_alone(recipe: Path) -> None:
    config = read_config(recipe, ["model.encoder.also=[[4, 2]]", "optimisation.start=other"])
    runs = family(config, ("rnn", "bigru"), None, 5.0, seeds=2)
    assert [run.name for run in runs] == ["rnn-0", "bigru-0", "rnn-1", "bigru-1"]
    for run in runs:
        assert (run.data, run.augment, run.model.mfcc) == (
            config.data,
            config.augment,
            config.model.mfcc,
        )
        assert run.optimisation.minutes == 5.0 and run.optimisation.start == ""
        assert run.model.encoder.also == ()
    assert runs[0].model == runs[2].model and runs[1].model == runs[3].model
    assert [run.optimisation.seed for run in runs] == [0, 0, 1, 1]


@pytest.mark.slow
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 9))
def test_an_interval_stays_within_what_was_measured(seeds: int, speakers: int, salt: int) -> None:
    rng = np.random.default_rng(salt)
    totals = rng.integers(1, 30, size=(1, speakers)).repeat(seeds, axis=0)
    errors = rng.binomial(totals, 0.3)
    low, high = crossed_interval(errors, totals)
    rates = errors / totals
    assert rates.min() <= low <= high <= rates.max()


def test_seeds_and_speakers_widen_the_interval() -> None:
    """The variance of a mean over both is the sum of that over either."""
    totals = np.full((20, 30), 1000)
    by_seed = np.linspace(0, 200, 20, dtype=int)[:, None] + np.zeros((1, 30), int)
    by_speaker = np.linspace(0, 300, 30, dtype=int)[None] + np.zeros((20, 1), int)
    widths = []
    for errors in (by_seed, by_speaker, by_seed + by_speaker):
        low, high = crossed_interval(errors, totals)
        widths.append(high - low)
    for errors, count, width in ((by_seed, 20, widths[0]), (by_speaker, 30, widths[1])):
        error_of_the_mean = np.std(errors / 1000) / np.sqrt(count)
        assert width == pytest.approx(2 * 1.96 * error_of_the_mean, rel=0.1)
    assert widths[2] == pytest.approx(np.hypot(widths[0], widths[1]), rel=0.15)


def test_a_row_is_of_all_seeds(recipe: Path, tmp_path: Path) -> None:
    config = read_config(recipe, [f"out={tmp_path}"])
    runs = family(config, ("gru",), None, 5.0, seeds=2)
    for run, wrong, steps in zip(runs, (1, 3), (100, 200), strict=True):
        run.run.mkdir(parents=True)
        figures = {
            "kind": "gru",
            "hidden": 7,
            "parameters": 1000,
            "speakers": {"a": [wrong, 10], "b": [wrong, 10]},
            "macs_per_second": 5,
            "latency_ms": None,
            "real_time_factor": 0.001 * wrong,
            "fp32_bytes": 10,
            "int8_bytes": 5,
            "seconds": 300.0,
            "steps": steps,
        }
        (run.run / FIGURES).write_text(json.dumps(figures))
    row = summarise(runs)
    assert row.value == pytest.approx(0.8) and row.values == pytest.approx((0.9, 0.7))
    assert row.interval == pytest.approx((0.7, 0.9))
    assert row.steps == 150.0 and row.real_time_factor == pytest.approx(0.002)


# The command


@pytest.fixture(scope="module")
def trained_family(recipe: Path) -> tuple[str, Path]:
    """What the command prints, and the folder that it writes to."""
    result = run_asr(*command(recipe))
    assert result.returncode == 0, result.stderr
    return result.stdout, recipe.parent / "runs" / "words-compare"


def command(recipe: Path, minutes: float = 0.03) -> tuple[object, ...]:
    settings = ("optimisation.workers=0", "model.encoder.block=4", "model.encoder.look_ahead=2")
    kinds = ("--kind", "bilstm", "--kind", "gru")
    return "compare", recipe, *settings, *kinds, "--minutes", minutes, "--seeds", 1


def test_the_command_trains_and_measures(trained_family: tuple[str, Path]) -> None:
    table, folder = trained_family
    found = json.loads((folder / "comparison.json").read_text())
    both, one = found["rows"]
    assert (found["figure"], both["kind"], one["kind"]) == ("accuracy", "bilstm", "gru")
    assert both["parameters"] == pytest.approx(one["parameters"], rel=0.04)
    assert both["latency_ms"] > one["latency_ms"] == 4 * 3 * 10
    assert both["macs_per_second"] > one["macs_per_second"] > 0
    for row in (both, one):
        assert row["seconds"] >= 1.8 and row["steps"] >= 1
        assert row["interval"][0] <= row["value"] <= row["interval"][1]
        assert row["real_time_factor"] > 0.0
        file = folder / f"{row['kind']}-0" / "model.onnx"
        assert row["fp32_bytes"] == file.stat().st_size
        assert f"{row['parameters'] / 1e6:.3f}" in (folder / "comparison.md").read_text()
    assert both["int8_bytes"] < both["fp32_bytes"]
    assert "bilstm" in table and "gru" in table
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_what_is_finished_is_not_done_again(trained_family: tuple[str, Path], recipe: Path) -> None:
    table, folder = trained_family
    steps = load_checkpoint(folder / "gru-0" / LAST)["progress"]["step"]
    (folder / "gru-0" / FIGURES).unlink()  # as if it had been killed while it measured
    before = (folder / "bilstm-0" / FIGURES).stat().st_mtime_ns
    again = run_asr(*command(recipe))
    assert again.returncode == 0, again.stderr
    assert "gru-0" in again.stderr and "bilstm-0" not in again.stderr
    assert load_checkpoint(folder / "gru-0" / LAST)["progress"]["step"] == steps
    assert (folder / "bilstm-0" / FIGURES).stat().st_mtime_ns == before
    (row,) = (line for line in table.splitlines() if line.startswith("│ bilstm"))
    assert row in again.stdout


def test_other_settings_are_not_mixed_in(trained_family: tuple[str, Path], recipe: Path) -> None:
    result = run_asr(*command(recipe, minutes=9.0))
    assert result.returncode == 2
    *warnings, error = result.stderr.splitlines()
    assert "bilstm-0: was trained with other settings" in error
    assert all(line.startswith("warning: ") for line in warnings)
