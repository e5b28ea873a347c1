"""The search for hyper-parameters: what is searched, that it goes on, and what it leaves behind."""

import json
import sqlite3
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from asr.studies.search import FOLDER, Search, Watch, completed, counted, open_study
from asr.studies.search_space import Choice, Space, SpaceError, Span, grid, split_overrides, suggest
from asr.studies.study_storage import LOCK, TuneError
from asr.studies.tune import tune
from asr.training.config import ConfigError, parse_config, parse_setting, read_config, read_tree
from asr.training.toml import write_toml
from tests.support.commands import ASR, environment, run_asr
from tests.support.tiny_training import EXACT, write_words_recipe

RATE = "optimisation.learning_rate"
QUICK = (
    "optimisation.epochs=1",
    "optimisation.workers=0",
    "model.encoder.hidden=8",
    "model.encoder.stem_channels=8",
    "data.validation_limit=20",
    *EXACT,
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words_recipe(tmp_path_factory.mktemp("tune"))


# The space


def test_ranges_differ_from_fixed_values() -> None:
    fixed, space = split_overrides(
        [
            f"{RATE}=1e-4..1e-2",
            "model.encoder.layers=1..3",
            "optimisation.precision=bf16|fp32",
            "optimisation.start=../runs/before",
            "data.join=0.3",
        ]
    )
    assert fixed == ["optimisation.start=../runs/before", "data.join=0.3"]
    assert space == {
        RATE: Span(1e-4, 1e-2),
        "model.encoder.layers": Span(1, 3),
        "optimisation.precision": Choice(("bf16", "fp32")),
    }


def test_the_type_of_a_setting_makes_a_range_one_of_numbers_or_whole_numbers() -> None:
    _, space = split_overrides(["data.epoch_seconds=1..20", "model.encoder.hidden=8..64"])
    seconds, hidden = space["data.epoch_seconds"], space["model.encoder.hidden"]
    assert isinstance(seconds, Span) and isinstance(seconds.low, float) and seconds.log
    assert isinstance(hidden, Span) and isinstance(hidden.low, int) and not hidden.log


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("optimisation.rate=1..2", "optimisation.rate is not a setting; optimisation knows"),
        ("optimisation.seed.x=1..2", "optimisation.seed.x is not a setting"),
        (f"{RATE}=0.1..0.1", "no range from a lower to a higher number"),
        ("optimisation.precision=1..2", "must be one of auto, bf16, fp32"),
        ("model.encoder.layers=1|1", "one value only"),
        ("optimisation.precision=bf16|fp8", "must be one of auto, bf16, fp32"),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused(override: str, problem: str) -> None:
    with pytest.raises((ConfigError, SpaceError), match=problem):
        split_overrides([override])


def test_a_grid_has_every_choice_and_five_values_of_a_range() -> None:
    space: Space = {"a": Span(1e-4, 1.0), "b": Span(1, 3), "c": Choice(("x", "y"))}
    points = grid(space)
    assert len(points) == 5 * 3 * 2
    assert sorted({point["a"] for point in points}) == pytest.approx([1e-4, 1e-3, 1e-2, 0.1, 1.0])
    assert {point["b"] for point in points} == {1, 2, 3}


def test_a_setting_is_checked_by_its_type() -> None:
    assert parse_setting("augment.noise_snr", "[0, 10]") == (0.0, 10.0)
    assert parse_setting("trigger.threshold", "1") == 1.0


# TOML


def test_toml_is_read_back_as_it_was(recipe: Path) -> None:
    tree = read_tree(recipe, ['name=a "word"\n\x7f é \\', "augment.noise_snr=[1e-7, 0.5]"])
    assert tomllib.loads(write_toml(tree)) == tree
    assert parse_config(tomllib.loads(write_toml(tree)), "x") == parse_config(tree, "x")


def test_toml_leaves_out_what_it_has_no_word_for() -> None:
    tree = {"a": None, "b": {"c d": True, "e": []}, "f": [{"g": 1}, {"h": {"i": (1, 2)}}]}
    kept = {"b": {"c d": True, "e": []}, "f": [{"g": 1}, {"h": {"i": [1, 2]}}]}
    assert tomllib.loads(write_toml(tree)) == kept


# The search


def search(recipe: Path, name: str, *ranges: str, trials: int | None = None) -> Search:
    fixed, space = split_overrides([*QUICK, f"name={name}", *ranges])
    found = Search(read_tree(recipe, fixed), str(recipe), space, "bayes", trials, None)
    found.folder.mkdir(parents=True)
    return found


@pytest.mark.slow
def test_a_trial_that_is_worse_than_most_is_cut_short(recipe: Path) -> None:
    planned = search(recipe, "pruned", f"{RATE}=1e-4..1e-2")
    study = open_study(planned)
    for number in range(5):
        trial = study.ask()
        for step in range(2):
            trial.report(0.1 * (number + 1), step)
        study.tell(trial, 0.1 * (number + 1))
    good, bad = (Watch(planned, study.ask()) for _ in range(2))
    good(run_with([0.9, 0.2]))
    with pytest.raises(TrialPruned):
        bad(run_with([0.9, 0.8]))


def run_with(errors: list[float]) -> Any:
    return SimpleNamespace(metric="error", history=[{"error": error} for error in errors])


@pytest.mark.slow
def test_a_search_goes_on_and_keeps_the_best(recipe: Path) -> None:
    ranges = [*QUICK, "name=kept", f"{RATE}=1e-5..3e-2"]
    first = tune(recipe, ranges, trials=2)
    figures = tune(recipe, ranges, trials=3)
    assert figures["trials"][:2] == first["trials"] and len(figures["trials"]) == 3
    values = [row["value"] for row in figures["trials"]]
    best = figures["best"]
    assert best["value"] == min(values)
    folder = recipe.parent / "runs" / "kept-tune"
    assert [path.parent.name for path in folder.glob("*/best.pt")] == [f"kept-{best['trial']}"]
    found = read_config(folder / "best.toml", [])
    assert found.optimisation.learning_rate == best["parameters"][RATE]
    assert found == read_config(recipe, [*ranges[:-1], f"{RATE}={best['parameters'][RATE]}"])
    assert json.loads((folder / "trials.json").read_text()) == figures
    assert (folder / "tune.png").stat().st_size > 10_000
    with pytest.raises(TuneError, match="holds a search of other ranges"):
        tune(recipe, [*ranges[:-1], f"{RATE}=1e-5..2e-2"], trials=4)


@pytest.mark.slow
def test_a_search_that_was_killed_repeats_the_trial_that_ran(recipe: Path) -> None:
    ranges = [*QUICK, "name=killed", "optimisation.seed=1..1000"]
    with pytest.raises(TuneError, match="no training has come to its end yet"):
        tune(recipe, ranges, minutes=1e-6)
    planned = search_of(recipe, ranges)
    study = open_study(planned)
    trial = study.ask()
    suggest(planned.space, trial)
    trial.set_user_attr(FOLDER, "killed-0")  # and here the process ends
    figures = tune(recipe, ranges, trials=1)
    assert [row["parameters"] for row in figures["trials"]] == [trial.params]
    assert [path.name for path in planned.folder.glob("killed-*")] == ["killed-0"]
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def search_of(recipe: Path, ranges: list[str], storage: str | None = None) -> Search:
    fixed, space = split_overrides(ranges)
    return Search(read_tree(recipe, fixed), str(recipe), space, "bayes", None, None, storage)


@pytest.mark.slow
def test_processes_share_a_grid(recipe: Path, tmp_path: Path) -> None:
    ranges = [*QUICK, f"out={tmp_path}", f"{RATE}=1e-3|1e-2", "--method", "grid", "--jobs", 2]
    result = run_asr("tune", recipe, *ranges)
    assert result.returncode == 0, result.stderr
    assert "2 complete" in result.stdout
    rows = json.loads((tmp_path / "words-tune" / "trials.json").read_text())["trials"]
    assert {row["parameters"][RATE] for row in rows} == {"1e-3", "1e-2"}


def test_trainings_that_all_fail_end_the_search(recipe: Path) -> None:
    ranges = [*QUICK, "name=failing", "model.encoder.kind=lstm|gru"]
    with pytest.raises(TuneError, match=r"all failed; .*encoder\.block must be at least 1"):
        tune(recipe, ranges)


def test_a_large_grid_is_refused(recipe: Path) -> None:
    spans = [f"augment.{name}=0.0..0.5" for name in ("room", "telephone", "noise", "speed")]
    with pytest.raises(TuneError, match=r"has \d+ points; .*--method bayes"):
        tune(recipe, [f"{RATE}=1e-4..1e-2", *spans], method="grid")


def test_two_searches_in_a_folder_are_refused(recipe: Path) -> None:
    planned = search(recipe, "busy", f"{RATE}=1e-4..1e-2")
    other = sqlite3.connect(planned.folder / LOCK)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TuneError, match="in use by another search"):
        tune(recipe, [*QUICK, "name=busy", f"{RATE}=1e-4..1e-2"])
    other.close()


def test_a_damaged_study_is_one_line(recipe: Path) -> None:
    planned = search(recipe, "damaged", f"{RATE}=1e-4..1e-2")
    (planned.folder / "study.db").write_text("no database" * 100)
    with pytest.raises(TuneError, match=r"study\.db: cannot be used \(.*\); ") as caught:
        tune(recipe, [*QUICK, "name=damaged", f"{RATE}=1e-4..1e-2"])
    assert "\n" not in str(caught.value)


# A study that several machines share


@pytest.fixture(params=["journal", "database"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "journal":
        return str(tmp_path / "shared" / "study.journal")
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.mark.slow
def test_two_processes_share_a_study(recipe: Path, tmp_path: Path, storage: str) -> None:
    """Both begin at once: the grid is drawn once, and each of its points is trained once."""
    arguments = [recipe, *QUICK, f"out={tmp_path}", f"{RATE}=1e-4|1e-3|1e-2"]
    options = ["--method", "grid", "--storage", storage]
    commands = [*ASR, "tune", *map(str, arguments), *options]
    both = [
        subprocess.Popen(
            commands,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert all("3 complete" in output for output, _ in outputs), outputs
    folder = tmp_path / "words-tune"
    rows = json.loads((folder / "trials.json").read_text())["trials"]
    assert sorted(row["parameters"][RATE] for row in rows) == ["1e-2", "1e-3", "1e-4"]
    assert len([*folder.glob("words-*/metrics.jsonl")]) == 3
    assert len([*folder.glob("*/best.pt")]) == 1
    drawn = sorted(line.split(":")[0] for output, _ in outputs for line in trained(output))
    assert len(drawn) == len(set(drawn)) == 3
    alone = run_asr("tune", *arguments, "--method", "grid")
    assert alone.returncode == 2 and alone.stderr.count("\n") == 1
    assert "trainings of a search whose study is elsewhere" in alone.stderr


def trained(output: str) -> list[str]:
    return [
        line for line in output.splitlines() if line.startswith("trial ") and ": error " in line
    ]


@pytest.mark.slow
def test_what_a_machine_left_behind_is_taken_up(
    recipe: Path, tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = [*QUICK, f"out={tmp_path}", "optimisation.seed=1..1000"]
    with pytest.raises(TuneError, match="no training has come to its end yet"):
        tune(recipe, ranges, minutes=1e-6, storage=storage)
    planned = search_of(recipe, ranges, storage)
    study = open_study(planned)
    trial = study.ask()
    suggest(planned.space, trial)
    trial.set_user_attr(FOLDER, "words-0")  # and here the process ends
    monkeypatch.setattr("asr.studies.study_storage.STALE_SECONDS", 0.5)
    monkeypatch.setattr("asr.studies.search.POLL_SECONDS", 0.2)
    figures = tune(recipe, ranges, trials=2, storage=storage)
    assert sorted(row["state"] for row in figures["trials"]) == ["complete"] * 2
    assert trial.params in [row["parameters"] for row in figures["trials"]]
    assert len([*planned.folder.glob("words-*/")]) == 2
    with pytest.raises(UpdateFinishedTrialError):  # should the first process come back after all
        Watch(planned, trial)(run_with([0.5]))
    assert len(completed(counted(study))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("{folder}/no/such.toml/study", r"such\.toml/study: cannot be used \("),
        ("{folder}/damaged", r"damaged: cannot be used \("),
        ("{folder}/something", r"something: cannot be used \(no journal"),
        ("nonsense://me:secret@host/study", r"nonsense://host/study: cannot be used \(Can't load"),
        ("oracle://me:secret@host/study", "oracle://host/study: .*; install the package"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line(
    recipe: Path, tmp_path: Path, place: str, problem: str
) -> None:
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "such.toml").touch()
    (tmp_path / "damaged").write_text("no journal\n" * 3)
    (tmp_path / "something").write_text('{"a": 1}\n')
    with pytest.raises(TuneError, match=problem) as caught:
        tune(recipe, [*QUICK, f"out={tmp_path}"], storage=place.format(folder=tmp_path))
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
