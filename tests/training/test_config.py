"""Training settings: what a file and the command line say, checked, and nothing more."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import asr.training
from asr.files import ReadError
from asr.model import bundled_models
from asr.training.config import (
    Config,
    ConfigError,
    OptimisationConfig,
    expand,
    parse_config,
    read_config,
)
from features.augment import AugmentConfig
from features.errors import EarshotError

RECIPES = sorted(Path(asr.training.__path__[0], "recipes").glob("*.toml"))

SMALLEST = """
name = "tiny"

[model.head]
kind = "classify"
labels = ["yes", "no"]

[[data.sources]]
path = "words"
name = "Words"
licence = "CC0"
attribution = "nobody"
"""


def read(tmp_path: Path, *overrides: str, text: str = SMALLEST) -> Config:
    path = tmp_path / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path, list(overrides))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_read(path: Path) -> None:
    config = read_config(path, [])
    assert config.name == path.stem
    if path.stem in bundled_models():
        assert [source for source in config.data.sources if source.kind == "noise"]
    for source in config.data.sources:
        assert source.licence and source.attribution


def test_there_is_a_recipe_for_each_task() -> None:
    kinds = {path.stem: read_config(path, []).model.head.kind for path in RECIPES}
    assert kinds["commands"] == "classify"
    assert kinds["english"] == "ctc"


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert config.model.head.labels == ("yes", "no")
    assert config.data.sources[0].path == str(tmp_path / "words")
    assert config.augment == AugmentConfig()
    assert config.optimisation == OptimisationConfig()
    assert config.run == Path("runs/tiny")


def test_the_command_line_replaces_any_field(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "name=other",
        "out=/elsewhere/a b",
        "model.encoder.hidden=7",
        "model.head.labels=['go', 'stop']",
        "optimisation.learning_rate=1",
        "augment.noise_snr=[3, 4.5]",
        "augment.shift_keeps_length=true",
        "data.sources=[]",
    )
    assert config.run == Path("/elsewhere/a b/other")
    assert config.model.encoder.hidden == 7
    assert config.model.head.labels == ("go", "stop")
    assert config.optimisation.learning_rate == 1.0
    assert config.augment.noise_snr == (3.0, 4.5)
    assert config.augment.shift_keeps_length
    assert config.data.sources == ()


@pytest.mark.parametrize(
    ("override", "named"),
    [
        # unknown, missing, of the wrong type
        ("colour=red", "colour is not a setting"),
        ("model.encoder.hiden=7", "model.encoder.hiden is not a setting; model.encoder knows"),
        ("model.head={labels=['a']}", "model.head.kind is missing"),
        ("data.sources=[{path='x'}]", r"data.sources\[0\].attribution is missing"),
        ("model.encoder=7", "model.encoder must be a table"),
        ("model.encoder.hidden=many", "model.encoder.hidden is 'many', it must be of type int"),
        ("model.encoder.hidden=7.5", "model.encoder.hidden is 7.5, it must be of type int"),
        ("model.encoder.hidden=true", "model.encoder.hidden is True, it must be of type int"),
        ("augment.noise=false", "augment.noise is False, it must be of type float"),
        ("name=3", "name is 3, it must be of type str"),
        ("model.head.labels=go", "model.head.labels must be a list"),
        ("model.head.labels=['go', 3]", r"model.head.labels\[1\] is 3"),
        ("augment.noise_snr=[1, 2, 3]", "augment.noise_snr must have 2 entries"),
        ("model.encoder.kind=3", "model.encoder.kind is 3, it must be of type str"),
        ("optimisation.precision=fp8", "optimisation.precision is 'fp8'"),
        ("name.first=a", "name is not a section"),
        ("nonsense", "'nonsense': write overrides as section.field=value"),
        # of the right type, but impossible
        ("model.head.labels=[]", "head.labels must list the words"),
        ("model.head.labels=['a', 'a']", "head.labels has a label twice"),
        ("model.head.window=0", "head.window must be above 0"),
        ("model.head.dropout=1", "head.dropout in"),
        ("model.encoder.layers=0", "encoder.layers must be at least 1"),
        ("model.encoder.subsample=10", "encoder.subsample must be at most 9"),
        ("model.encoder.block=-1", "encoder.block and encoder.look_ahead must not be negative"),
        (
            "model.encoder.kind=lsmt",
            "encoder.kind is 'lsmt', it must be one of attention, bigru, bilstm, convlstm, gru, ",
        ),
        ("model.encoder.look_ahead=3", "encoder.look_ahead needs an encoder.block"),
        ("model.encoder.kind=gru", "encoder.block must be at least 1 for encoder.kind = 'gru'"),
        (
            "model.encoder={kind='peephole', block=2, look_ahead=1}",
            "encoder.look_ahead must be 0 for encoder.kind = 'peephole'",
        ),
        (
            "model.encoder={block=2, also=[[4, 2], [0, 2]]}",
            "encoder.also: encoder.look_ahead needs an encoder.block",
        ),
        ("model.encoder.projection=129", "encoder.projection 129 must be in 0..encoder.hidden 128"),
        (
            "model.encoder={kind='attention', heads=3}",
            "encoder.heads 3 must divide the width of a layer, 256",
        ),
        (
            "model.encoder={kind='attention', projection=30}",
            "encoder.heads 4 must divide the width of a layer, 30",
        ),
        (
            "model.encoder={layers=1, residual=true}",
            "encoder.residual cannot add the 128 encoder.stem_channels to the 256",
        ),
        (
            "model.encoder={kind='convlstm', block=2, hidden=100}",
            "encoder.hidden 100 must be a multiple of 8, the frequency bands of a 'convlstm'",
        ),
        (
            "model={head={kind='ctc'}, encoder={kind='convlstm', block=2}, mfcc={n_mfcc=7}}",
            "mfcc.n_mfcc 7 must be at least 8, the frequency bands",
        ),
        ("model.mfcc.f_max=9000", "mfcc: .*f_max"),
        ("augment.noise=1.5", "augment: noise is 1.5"),
        ("augment.speed_factor=[1.2, 0.8]", "augment: speed_factor"),
        ("data.unknown=0.96", "data.unknown 0.96 and data.silence 0.06"),
        ("data.silence=-0.1", "data.unknown 0.15 and data.silence -0.1"),
        ("data.balance=2", "data.balance 2"),
        ("data.max_seconds=0", "data.max_seconds must be above 0"),
        ("optimisation.epochs=0", "evaluate_every and accumulate start at 1"),
        ("optimisation.truncate=-1", "optimisation.truncate must not be negative"),
        ("optimisation.truncate=100", "optimisation.truncate .* needs an encoder.block"),
        ("optimisation.clip=0", "optimisation: .*clip must be above zero"),
        ("optimisation.ema=1", "optimisation: ema"),
        ("trigger={threshold=0, smoothing=0, refractory=0}", "trigger threshold 0"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        read(tmp_path, override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ("validation = 101", "source Words: validation"),
        ("weight = -1", "source Words: .*weight"),
        ("speaker = '(['", "source Words: speaker is no pattern"),
        ("speaker = 'no group'", "source Words: speaker needs exactly one group"),
        ("speaker = '(one)(two)'", "source Words: speaker needs exactly one group"),
        ("kind = 'music'", r"data.sources\[0\].kind is 'music'"),
    ],
)
def test_mistakes_in_a_source_are_named(tmp_path: Path, fields: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read(tmp_path, text=SMALLEST + fields)


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"missing\.toml: cannot be read as a training config"):
        read_config(tmp_path / "missing.toml", [])
    with pytest.raises(ConfigError, match=r"tiny\.toml: is not valid TOML"):
        read(tmp_path, text="name = ")
    (tmp_path / "latin.toml").write_bytes(b'name = "K\xebpuska"')
    with pytest.raises(ReadError, match=r"latin\.toml: cannot be read .* is not UTF-8"):
        read_config(tmp_path / "latin.toml", [])


def test_environment_variables_stand_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECORDINGS", "/recordings")
    monkeypatch.delenv("UNSET", raising=False)
    assert expand("$RECORDINGS/words") == Path("/recordings/words")
    assert expand("${RECORDINGS}/words") == Path("/recordings/words")
    for path in ("$UNSET/words", "${UNSET}/words", "$RECORDINGS/$UNSET"):
        with pytest.raises(ConfigError, match="needs the environment variable UNSET"):
            expand(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_survive_a_checkpoint(path: Path) -> None:
    config = read_config(path, ["augment.noise_snr=[1.5, 20.25]"])
    assert parse_config(json.loads(json.dumps(dataclasses.asdict(config))), "x") == config


@given(
    labels=st.lists(st.text(min_size=1), min_size=1, unique=True),
    rate=st.floats(1e-9, 1e3),
    low=st.floats(-60.0, 60.0),
    span=st.floats(0.0, 60.0),
    seed=st.integers(0, 2**31),
)
def test_any_setting_survives_a_checkpoint(
    labels: list[str], rate: float, low: float, span: float, seed: int
) -> None:
    tree = {
        "name": labels[0],
        "model": {"head": {"kind": "classify", "labels": labels}},
        "data": {"sources": []},
        "augment": {"gain_db": [low, low + span]},
        "optimisation": {"learning_rate": rate, "seed": seed},
    }
    config = parse_config(tree, "x")
    assert parse_config(json.loads(json.dumps(dataclasses.asdict(config))), "x") == config


def test_every_failure_is_one_of_ours() -> None:
    for tree in ({}, {"name": "x"}, {"name": "x", "model": {}, "data": {}}):
        with pytest.raises(EarshotError, match="is missing"):
            parse_config(tree, "x")


def test_paths_of_a_file_are_found_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    text = SMALLEST + '[optimisation]\nstart = "runs/first"\n'
    config = read(tmp_path, text=text)
    assert config.data.sources[0].path == str(tmp_path / "words")
    assert config.optimisation.start == str(tmp_path / "runs" / "first")
    assert config.out == "runs"  # from where the command runs
    assert read(tmp_path, "optimisation.start=here", text=text).optimisation.start == "here"


@pytest.mark.parametrize("path", ["/data/words", "$DATA/words", "~/words"])
def test_paths_that_are_not_relative_stay(tmp_path: Path, path: str) -> None:
    config = read(tmp_path, text=SMALLEST.replace('"words"', f'"{path}"'))
    assert config.data.sources[0].path == path
