"""Tuning a language model's weights: it finds what helps, and keeps speakers apart."""

import json
from pathlib import Path

import pytest
import soundfile

from asr.decode.options import DecodeOptions
from asr.evaluation.trials import EvaluationError
from asr.model import ModelError, load
from asr.studies.lm_weights import GRID, tune
from tests.support import tiny_models
from tests.support.commands import run_asr
from tests.support.language_models import write_built
from tests.support.tiny_models import SAMPLE_RATE, mumble

SPEAKERS = ("ann", "bob", "cleo", "dan")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """What everybody says is "b"; the sound alone is taken for "a"."""
    lines: list[str] = []
    for speaker in SPEAKERS:
        soundfile.write(tmp_path / f"{speaker}.wav", mumble(), SAMPLE_RATE)
        entry = {"audio_filepath": f"{speaker}.wav", "text": "b", "speaker": speaker}
        lines += [json.dumps(entry)] * (1 + (speaker == "cleo"))
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def options(tmp_path: Path) -> DecodeOptions:
    lm = tmp_path / "built.arpa"
    write_built([["b"], ["b", "b"]], 2, lm)
    return DecodeOptions(lm=str(lm), lm_weight=0.0, word_bonus=1.0, unknown_bonus=0.0)


def test_every_speaker_is_reported_with_weights_that_others_need(
    tmp_path: Path, manifest: Path, options: DecodeOptions
) -> None:
    model = load(tiny_models.streaming_ctc(tmp_path / "speech.onnx"))
    figures = tune(model, manifest, options, speaker="{speaker}")
    assert figures["recordings"] == 5  # cleo has two
    assert [fold["reported_on"] for fold in figures["folds"]] == [["bob", "dan"], ["ann", "cleo"]]
    settings = {tuple(row[name] for name in GRID): row["wer"] for row in figures["settings"]}
    assert settings[0.0, 1.0] == 1.0
    for found in (figures["best"], *(fold["best"] for fold in figures["folds"])):
        assert settings[tuple(found.values())] == 0.0
    report = {name: rates["wer"] for name, rates in figures["report"].items()}
    assert report == {"greedy": 1.0, "without it": 1.0, "before": 1.0, "tuned": 0.0}


def test_weights_that_help_one_half_are_judged_by_the_other(
    tmp_path: Path, manifest: Path, options: DecodeOptions
) -> None:
    """Bob and dan do say the "a" that is recognised: their weights are wrong for ann and cleo."""
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        line["text"] = "a" if line["speaker"] in ("bob", "dan") else "b"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    model = load(tiny_models.streaming_ctc(tmp_path / "speech.onnx"))
    figures = tune(model, manifest, options, speaker="{speaker}")
    assert figures["report"]["tuned"]["wer"] == 1.0
    assert figures["report"]["before"]["wer"] == pytest.approx(3 / 5)
    assert figures["best"] in [fold["best"] for fold in figures["folds"]]
    best = tune(model, manifest, options, speaker="{speaker}", halves=False)["report"]["tuned"]
    assert best["wer"] == pytest.approx(2 / 5)


def test_too_few_speakers_are_not_split(
    tmp_path: Path, manifest: Path, options: DecodeOptions
) -> None:
    model = load(tiny_models.streaming_ctc(tmp_path / "speech.onnx"))
    manifest.write_text(manifest.read_text().splitlines()[0])
    with pytest.raises(EvaluationError, match=r"has one speaker only, too few .* --no-halves"):
        tune(model, manifest, options, speaker="{speaker}")
    figures = tune(model, manifest, options, speaker="{speaker}", halves=False)
    assert figures["recordings"] == 1
    assert figures["folds"] == [{"reported_on": ["ann"], "best": figures["best"]}]


def test_a_model_of_keywords_has_nothing_to_tune(
    tmp_path: Path, manifest: Path, options: DecodeOptions
) -> None:
    model = load(tiny_models.streaming_classify(tmp_path / "keywords.onnx"))
    with pytest.raises(ModelError, match="spots keywords"):
        tune(model, manifest, options)


@pytest.mark.slow
def test_the_command_prints_the_options_that_evaluate_takes(tmp_path: Path, manifest: Path) -> None:
    model = tiny_models.streaming_ctc(tmp_path / "speech.onnx")
    lm, figures = tmp_path / "lm.arpa", tmp_path / "figures.json"
    write_built([["b"], ["b", "b"]], 2, lm)
    result = run_asr("lm", "tune", model, manifest, "--lm", lm, "--no-halves", "--json", figures)
    assert result.returncode == 0, result.stderr
    best = json.loads(figures.read_text())["best"]
    flags = ["--lm-weight", str(best["lm_weight"]), "--word-bonus", str(best["word_bonus"])]
    assert result.stdout.endswith(f"best: {' '.join(flags)}\n")
    plain = run_asr("evaluate", model, manifest, "--json", figures)
    assert json.loads(figures.read_text())["wer"] == 1.0, plain.stderr
    run_asr("evaluate", model, manifest, "--lm", lm, *flags, "--json", figures)
    assert json.loads(figures.read_text())["wer"] == 0.0
