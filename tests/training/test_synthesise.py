"""Texts read aloud: always by the same voices, once, in the form that training reads."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile as sf

from asr.files import ReadError
from asr.training.config import SourceConfig
from asr.training.data.sources import read_source
from asr.training.synthesise import SAMPLE_RATE, SynthesisError, draw_readings, synthesise
from tests.support.commands import run_asr

TEXTS = "turn on\n\n  a  b 7 \nstop\n"
has_voices = pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("flite")), reason="needs espeak-ng and flite"
)


def test_voices_are_a_function_of_the_seed() -> None:
    texts = ["one", "two", "three"] * 20
    assert draw_readings(texts, seed=1) == draw_readings(texts, seed=1)
    assert draw_readings(texts, seed=1) != draw_readings(texts, seed=2)
    engines = {reading.command[0] for reading in draw_readings(texts, seed=1)}
    assert engines == {"espeak-ng", "flite"}


def test_single_letters_are_spelled_and_words_are_read() -> None:
    (reading,) = draw_readings(["a cat x"], seed=0)
    assert "A cat X" in reading.command
    assert reading.text == "a cat x"


def test_a_text_that_begins_with_dashes_is_no_option_of_an_engine() -> None:
    for reading in draw_readings(["--phonout=stolen"] * 20, seed=0):
        assert "phonout=stolen" in reading.command
        assert not [part for part in reading.command if part.startswith("--phonout")]
        assert reading.text == "--phonout=stolen"


@has_voices
def test_the_command_writes_what_training_reads(tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.txt", tmp_path / "out"
    texts.write_text(TEXTS)
    finished = run_asr("synthesise", texts, out, "--takes", "2")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "" and "reading aloud" not in finished.stderr  # no terminal, no bar
    manifest = out / "manifest.jsonl"
    source = SourceConfig(
        path=str(manifest), name="s", licence="", attribution="", speaker="{speaker}"
    )
    recordings = read_source(0, source)
    assert sorted(r.text for r in recordings) == sorted(["turn on", "a b 7", "stop"] * 2)
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    for recording, entry in zip(recordings, entries, strict=True):
        info = sf.info(recording.path)
        assert (info.samplerate, info.channels) == (SAMPLE_RATE, 1)
        assert info.duration == pytest.approx(entry["duration"])
        assert 0.2 < info.duration < 5.0


@has_voices
def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text(TEXTS)
    manifest = synthesise(texts, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.flac")}
    (tmp_path / "out" / "00001.flac").unlink()
    assert synthesise(texts, tmp_path / "out").read_bytes() == manifest.read_bytes()
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.flac")}
    changed = {path.name for path in before if after[path] != before[path]}
    assert changed == {"00001.flac"}


@has_voices
def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(SynthesisError, match="no text in it"):
        synthesise(tmp_path / "empty.txt", tmp_path / "out")
    with pytest.raises(ReadError, match="cannot be read"):
        synthesise(tmp_path / "missing.txt", tmp_path / "out")


def test_missing_voices_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SynthesisError, match="apt install espeak-ng"):
        synthesise(tmp_path / "texts.txt", tmp_path / "out")
