"""What the gate changes is measured on a long sound whose words are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr.evaluation.trials import Trial
from asr.gate import Gated
from asr.studies import gate
from tests.support.tiny_models import SAMPLE_RATE, tones

SAID = ("ab", "c a", "bc")
TRIALS = [Trial("", "", text, lambda text=text: tones(*text, pause=0.1)) for text in SAID]


def test_words_come_to_the_recordings_that_they_are_in(speech_model: Path) -> None:
    model = asr.load(speech_model)
    chance = np.random.default_rng(1)
    sound = gate.placed(TRIALS, SAMPLE_RATE, -80.0, chance)
    for stream in (asr.Stream(model), Gated(asr.Stream(model))):
        assert gate.texts(stream, sound) == list(SAID)


def test_right_words_are_counted() -> None:
    assert gate.right_words(["a b c", "a", "b"], ["a c", "", "b"]) == [2, 0, 1]


def test_figures_say_what_the_gate_changes(
    speech_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for number, text in enumerate(SAID):
        soundfile.write(tmp_path / f"{number}.wav", tones(*text, pause=0.1), SAMPLE_RATE)
        rows.append(json.dumps({"audio_filepath": f"{number}.wav", "text": text}) + "\n")
    (tmp_path / "recordings.jsonl").write_text("".join(rows))
    gate.main([str(speech_model), str(tmp_path / "recordings.jsonl"), "3", "-80"])
    printed = capsys.readouterr().out
    assert "right words: 4 with the gate, 4 without" in printed
    assert "recordings without a word: 0 with the gate, 0 without" in printed
