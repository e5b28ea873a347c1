"""A model adapted to one person: better for them, no worse for others, or refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from export.export import rewrite_card
from tests.support.commands import run_asr
from tests.support.synthetic_speech import SAMPLE_RATE, WORDS, say, speaker

# No training speaker is like it: half of its words are mistaken, and none after adapting to it.
GIANT = replace(speaker(50), pitch=60.0, tract=0.6, tempo=1.6)
TAKES = 3


def record(folder: Path, words: tuple[str, ...] = tuple(WORDS)) -> Path:
    """Files that are named after what the giant says in them."""
    folder.mkdir()
    for word in words:
        for take in range(1, 1 + TAKES):
            sound = np.pad(say(word, GIANT, take), SAMPLE_RATE // 4)
            soundfile.write(folder / f"{word}_{take}.wav", sound, SAMPLE_RATE)
    return folder


def test_a_person_is_recognised_better_and_others_no_worse(
    trained_words_model: Path, trained_words: Path, tmp_path: Path
) -> None:
    others, mine = trained_words.parents[1] / "words", tmp_path / "mine.onnx"
    own = record(tmp_path / "own")
    result = run_asr("adapt", trained_words_model, own, "-o", mine, "--old", others)
    assert result.returncode == 0, result.stderr
    figures = asr.load(mine).card.metrics
    assert figures["errors_person_after"] < figures["errors_person_before"]
    assert figures["errors_others_after"] <= figures["errors_others_before"] + 0.005
    assert "the person: " in result.stdout and "12 recordings" in result.stdout
    before, after = asr.load(trained_words_model).card, asr.load(mine).card
    assert (before.labels, before.trigger, before.licence) == (
        after.labels,
        after.trigger,
        after.licence,
    )
    assert set(before.training_data) < set(after.training_data)
    again = run_asr("evaluate", mine, others, "--json", tmp_path / "figures.json")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["accuracy"] > 0.9


@pytest.mark.slow
def test_a_model_that_others_never_could_use_is_refused(
    exported_run: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """Whatever random weights make of a sound, of two texts with no letter in common it is not."""
    model = exported_run("latency-controlled", "ctc") / "new" / "tiny.onnx"
    own, old = record(tmp_path / "own", ("no", "stop")), tmp_path / "old"
    old.mkdir()
    for number in range(6):
        for text in ("no", "é é é é é"):
            shutil.copy(own / "no_1.wav", old / f"{text}_{number}.wav")
    for path in own.glob("stop_*.wav"):
        path.rename(path.with_stem(path.stem.replace("stop", "on")))
    result = run_asr("adapt", model, own, "-o", tmp_path / "mine.onnx", "--old", old)
    assert result.returncode == 2 and "cannot show what is forgotten" in result.stderr
    assert not (tmp_path / "mine.onnx").exists()


def test_too_few_recordings_are_refused(
    exported_run: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = exported_run("latency-controlled", "ctc") / "new" / "tiny.onnx"
    own = record(tmp_path / "own", ("no", "left"))
    (own / "no_9.wav").write_bytes(b"no sound")
    result = run_asr("adapt", model, own, "-o", tmp_path / "mine.onnx")
    assert result.returncode == 2
    assert "3 recordings can be learned from, 5 are the fewest" in result.stderr
    assert "that cannot be read" in result.stderr and "no label for" in result.stderr


@pytest.mark.slow
def test_a_model_without_a_label_for_other_words_is_warned_of(
    exported_run: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = exported_run("lstm", "classify") / "new" / "tiny.onnx"
    card, own = asr.load(model).card, record(tmp_path / "own", ("no",))
    names = {"labels": ("yes", "no", "maybe", "_silence_"), "background": ("_silence_",)}
    rewrite_card(model, replace(card, **names), tmp_path / "words_alone.onnx")
    for path, warned in ((model, False), (tmp_path / "words_alone.onnx", True)):
        result = run_asr("adapt", path, own, "-o", tmp_path / "mine.onnx")
        assert result.returncode == 2 and "5 are the fewest" in result.stderr
        assert ("has no label for other words" in result.stderr) is warned
