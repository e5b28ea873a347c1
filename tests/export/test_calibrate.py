"""`asr calibrate`: what some speakers teach stands in the card, and nothing else changes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile

from asr.card import UNCALIBRATED, ModelCard
from asr.decode.alphabet import Alphabet
from asr.decode.lm.compact import write_compact
from asr.evaluation.trials import EvaluationError
from asr.files import WriteError
from asr.model import Model, ModelError, load
from asr.recognise import transcribe
from asr.studies.calibrate import calibrate
from tests.support import tiny_models
from tests.support.commands import run_asr
from tests.support.language_models import built
from tests.support.tiny_models import FREQUENCIES, SAMPLE_RATE, tones

SPEAKERS = ("ann", "bob", "cleo", "dan")
LATE = 0.05  # how much earlier than they sound the words are marked


def between(share: float, seconds: float = 0.04) -> np.ndarray:
    """A short tone between "a" (0) and "b" (1), with silence around it."""
    bends = [np.sin(np.pi * FREQUENCIES[letter] / SAMPLE_RATE) for letter in "ab"]
    angle = np.arcsin(bends[0] + share * (bends[1] - bends[0]))
    tone = 0.4 * np.sin(2 * angle * np.arange(round(seconds * SAMPLE_RATE)) + 0.3)
    return np.pad(tone, round(0.1 * SAMPLE_RATE)).astype(np.float32)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Clear words, and unclear ones of which every other is taken for another letter."""
    lines: list[str] = []
    for speaker in SPEAKERS:
        sounds: list[tuple[str, np.ndarray, dict[str, float]]] = [
            ("ab", tones("a", "b"), {"keyword_start": 0.1 - LATE, "keyword_end": 0.6})
        ] * 4
        sounds += [(text, between(0.45), {}) for text in "abab"]
        for number, (text, sound, marks) in enumerate(sounds):
            name = f"{speaker}{number}.wav"
            soundfile.write(tmp_path / name, sound, SAMPLE_RATE)
            entry: dict[str, Any] = {"audio_filepath": name, "text": text, "speaker": speaker}
            lines.append(json.dumps(entry | marks))
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load(tiny_models.streaming_ctc(tmp_path / "speech.onnx"))


def graph_of(path: Path) -> bytes:
    return onnx.load(path).graph.SerializeToString(deterministic=True)


def test_the_command_writes_the_same_model_with_another_card(
    tmp_path: Path, manifest: Path, model: Model
) -> None:
    before = model.path.read_bytes()
    out, figures_file, plot = (tmp_path / n for n in ("out.onnx", "figures.json", "plot.png"))
    flags = ("--speaker", "{speaker}", "--json", figures_file, "--plot", plot)
    result = run_asr("calibrate", model.path, manifest, out, *flags)
    assert result.returncode == 0, result.stderr
    assert "before: " in result.stdout and "after: " in result.stdout
    figures = json.loads(figures_file.read_text())
    new = load(out).card.calibration
    assert new and vars(new) == pytest.approx(figures["calibration"])
    assert new.onset == pytest.approx(LATE, abs=0.011)
    assert figures["before"]["n"] == figures["after"]["n"] == 16  # of bob and dan
    assert figures["after"]["ece"] < figures["before"]["ece"]
    assert figures["after"]["auc"] == pytest.approx(figures["before"]["auc"])
    assert figures["after"]["starts"][1] == pytest.approx(0.0, abs=0.011)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert model.path.read_bytes() == before and graph_of(out) == graph_of(model.path)
    old = vars(model.card) | {"calibration": new}
    assert old == vars(load(out).card)


def test_a_file_may_be_calibrated_in_its_place(manifest: Path, model: Model) -> None:
    graph = graph_of(model.path)
    plain = transcribe(model, tones("a", "b", " ", "c")).words
    calibrate(model, manifest, model.path, speaker="{speaker}")
    assert graph_of(model.path) == graph
    calibrated = load(model.path)
    moved = transcribe(calibrated, tones("a", "b", " ", "c")).words
    assert calibrated.card.calibration != UNCALIBRATED
    assert [word.text for word in moved] == ["ab", "c"]
    assert [word.end for word in moved] == [word.end for word in plain]
    assert all(0 < p.start - m.start <= LATE + 0.01 for p, m in zip(plain, moved, strict=True))


def test_words_that_a_language_model_helps_to_find_have_a_calibration_of_their_own(
    manifest: Path, model: Model
) -> None:
    write_compact(built([["b"], ["ab"]], 2), model.path.with_suffix(".lm"))
    figures = calibrate(model, manifest, model.path, speaker="{speaker}")
    card = load(model.path).card
    assert card.calibration and card.lm_calibration
    assert vars(card.lm_calibration) == pytest.approx(figures["with_lm"]["calibration"])
    assert figures["with_lm"]["after"]["ece"] < figures["with_lm"]["before"]["ece"]
    assert card.lm_calibration != card.calibration
    alphabets = Alphabet.of(card), Alphabet.of(card, lm=True)
    assert [a.calibration for a in alphabets] == [card.calibration, card.lm_calibration]


def test_evaluation_prints_confidence_and_word_times(manifest: Path, model: Model) -> None:
    result = run_asr("evaluate", model.path, manifest)
    assert result.returncode == 0, result.stderr
    lines = " ".join(result.stdout.split())
    assert "confidence of 32 words, 75.0 % right: ECE " in lines
    assert "16 marked words, median and middle half: begin +50 ms" in lines


def test_what_cannot_be_calibrated_raises(tmp_path: Path, manifest: Path, model: Model) -> None:
    keywords = load(tiny_models.streaming_classify(tmp_path / "keywords.onnx"))
    with pytest.raises(ModelError, match="spots keywords"):
        calibrate(keywords, manifest, tmp_path / "out.onnx")
    with pytest.raises(WriteError, match="cannot be written"):
        calibrate(model, manifest, manifest / "out.onnx", speaker="{speaker}")
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(line for line in lines if '"ab"' in line))
    with pytest.raises(EvaluationError, match="right and wrong words are needed; add recordings"):
        calibrate(model, manifest, tmp_path / "out.onnx", speaker="{speaker}")
    manifest.write_text(lines[0])
    with pytest.raises(EvaluationError, match="has one speaker only, too few"):
        calibrate(model, manifest, tmp_path / "out.onnx", speaker="{speaker}")
    assert not (tmp_path / "out.onnx").exists()


def test_a_card_keeps_its_calibration(tmp_path: Path, model: Model) -> None:
    calibration = vars(UNCALIBRATED) | {"scale": 0.7, "offset": -1.25, "onset": 0.04}
    new = type(UNCALIBRATED)(**calibration)
    changed = load(tiny_models.with_card(model.path, tmp_path / "b.onnx", calibration=new)).card
    assert changed.calibration == new
    assert ModelCard.from_metadata({"earshot": changed.to_json()}, "b") == changed
