"""Whatever stands in a recipe, a manifest or a text: it is read, or refused by our own error."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.training.config import Config, SourceConfig, read_config
from asr.training.data.sources import read_source
from asr.training.ngrams.texts import read_sentences
from features.errors import EarshotError
from tests.support.language_models import built

RECIPE = """
name = "tiny"
[model.head]
kind = "classify"
labels = ["yes", "no"]
[model.encoder]
kind = "lstm"
block = 4
hidden = 24
[optimisation]
epochs = 3
learning_rate = 2e-2
[data]
validation_limit = 10
[augment]
gain_db = [-6.0, 6.0]
[[data.sources]]
path = "words"
name = "Words"
licence = "CC0"
attribution = "nobody"
validation = 25
"""
ENTRY = {"audio_filepath": "a.wav", "text": "yes no", "speaker": "ann", "keyword_start": 0.5}
SOURCE = SourceConfig(path="", name="Words", licence="CC0", attribution="nobody", validation=20)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
toml_pieces = st.sampled_from(
    [
        *("nan", "-inf", "1e999", "9" * 400, "'''", '"', "[", "]", "[[", "{", "}", "=", ".", "\n"),
        *("#", "true", "-1", "0", "[data]", "x = 1\n", '"~nobody-at-all"', '"$NONE"', "2020-01-01"),
    ]
) | st.text(max_size=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def test_the_undamaged_files_are_read(folder: Path) -> None:
    (folder / "whole.toml").write_text(RECIPE)
    assert read_config(folder / "whole.toml", []).optimisation.epochs == 3
    (folder / "whole.jsonl").write_text(json.dumps(ENTRY))
    source = dataclasses.replace(SOURCE, path=str(folder / "whole.jsonl"), speaker="{speaker}")
    assert [r.speaker for r in read_source(0, source)] == ["ann"]


@st.composite
def damaged(draw: st.DrawFn, whole: str) -> bytes:
    """A text with some places of it replaced by something else; now and then, anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=50))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(whole)))
        end = draw(st.integers(start, min(len(whole), start + draw(st.integers(0, 10)))))
        whole = whole[:start] + "".join(draw(st.lists(toml_pieces, max_size=3))) + whole[end:]
    return whole.encode("utf-8", "surrogatepass")


@settings(max_examples=150, deadline=None)
@given(damaged(RECIPE), st.text(max_size=3))
@example(RECIPE.encode(), "")
@example(RECIPE.replace("24", "[" * 5000).encode(), "")
@example(RECIPE.replace("24", "9" * 5000).encode(), "")
@example(RECIPE.replace("2e-2", "9" * 400).encode(), "")
@example(RECIPE.encode(), "[" * 5000)
def test_any_recipe_is_read_or_refused(folder: Path, content: bytes, value: str) -> None:
    path = folder / "recipe.toml"
    path.write_bytes(content)
    for overrides in [], [f"model.encoder.hidden={value}"], [f"data.sources={value}"]:
        try:
            assert isinstance(read_config(path, overrides), Config)
        except EarshotError as error:
            assert "\n" not in str(error).replace(str(value), "")


lines = (
    st.dictionaries(st.sampled_from([*ENTRY, "keyword_end"]), values)
    .map(lambda fields: json.dumps(ENTRY | fields).encode())
    .flatmap(lambda line: st.just(line) | damaged(line.decode()))
)


@settings(max_examples=150, deadline=None)
@given(st.lists(lines, max_size=3), st.sampled_from(["", "{speaker}", "{text}", "(a)?.wav", "(b)"]))
@example([b'{"audio_filepath": ' + b"[" * 100_000], "")
@example([b'{"audio_filepath": ' + b"9" * 5000 + b"}"], "")
@example([json.dumps(ENTRY | {"speaker": "\ud800", "text": "\ud800"}).encode()] * 2, "{speaker}")
def test_any_manifest_is_read_or_refused(folder: Path, lines: list[bytes], speaker: str) -> None:
    path = folder / "manifest.jsonl"
    path.write_bytes(b"\n".join(lines))
    try:
        for recording in read_source(
            0, dataclasses.replace(SOURCE, path=str(path), speaker=speaker)
        ):
            assert isinstance(recording.text, str) and isinstance(recording.speaker, str)
    except EarshotError as error:
        assert str(path) in str(error) or str(folder) in str(error)


@settings(max_examples=50, deadline=None)
@given(damaged("turn on the lamp\nturn it off\n</s>\n"))
def test_any_text_is_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "texts.txt"
    path.write_bytes(content)
    try:
        model = built(list(read_sentences(path)), 3)
    except EarshotError:
        return
    assert all((level.log_p[:] <= 1e-9).all() for level in model.levels)
