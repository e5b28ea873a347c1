"""The road that a newcomer goes: recordings, training, a model file, and words recognised by it."""

import json
import shutil
from pathlib import Path

import jiwer
import numpy as np
import onnx
import pytest
import soundfile as sf

import asr
import export.export
from asr.events import Utterance
from asr.recognise import transcribe
from asr.stream import Stream
from export.export import Int8, export_run
from export.quantise import QuantisationError
from features.audio import read_audio
from tests.support.commands import run_asr, run_python
from tests.support.synthetic_speech import WORDS, speaker, write_manifest, write_words
from tests.support.tiny_training import write_speech_recipe

STRANGERS = range(40, 46)
TEXTS = ("yes", "left yes no", "no yes")


def run(*arguments: object) -> str:
    """What a command prints; it must succeed."""
    result = run_asr(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of speakers whom no model was trained on."""
    folder = tmp_path_factory.mktemp("road")
    write_words(folder / "strangers", STRANGERS)
    write_manifest(folder / "talk", STRANGERS, TEXTS)
    return folder


@pytest.fixture
def keywords(trained_words_model: Path) -> Path:
    """A model of single words, by two commands."""
    return trained_words_model


@pytest.fixture(scope="module")
def trained_speech(folder: Path) -> Path:
    """A streaming model of characters, by two commands."""
    larger = ("hidden=48", "stem_channels=48", "block=6", "look_ahead=6")
    encoder = [f"model.encoder.{setting}" for setting in larger]
    also = "model.encoder.also=[[6, 0], [0, 0]]"
    schedule = [
        f"optimisation.{s}" for s in ("epochs=38", "learning_rate=8e-3", "evaluate_every=300")
    ]
    run("train", write_speech_recipe(folder), *schedule, also, *encoder)
    run("export", run_of(folder / "speech.onnx"), folder / "speech.onnx")
    return folder / "speech.onnx"


def run_of(model: Path) -> Path:
    """The run that a model file was exported from."""
    return model.parent / "runs" / model.stem


def test_words_of_strangers_are_recognised(keywords: Path, folder: Path) -> None:
    figures = folder / "words.json"
    run("evaluate", keywords, folder / "strangers", "--json", figures)
    found = json.loads(figures.read_text())
    assert found["n"] == len(STRANGERS) * len(WORDS) * 2
    assert found["accuracy"] > 0.9
    assert found["real_time_factor"] > 0.0
    assert found["hit_rate"] > 0.8
    assert {"wer", "cer"} <= found.keys()


def test_words_of_strangers_are_spotted(keywords: Path, folder: Path) -> None:
    recognised = dict.fromkeys(WORDS, 0)
    for word in WORDS:
        clips = folder / "strangers" / word
        for line in run("spot", clips, "-m", keywords, "-f", "json").splitlines():
            found = json.loads(line)
            recognised[word] += found["label"] == word
            assert 0.0 < found["time"] <= 1.5 and 0.0 < found["score"] <= 1.0
    clips = len(STRANGERS) * 2
    assert all(0.75 * clips <= count <= 1.25 * clips for count in recognised.values()), recognised


def test_one_clip_gives_one_word(keywords: Path, folder: Path) -> None:
    clip = folder / "strangers" / "yes" / f"{speaker(STRANGERS[0]).name}_nohash_0.wav"
    assert run("spot", clip, "-m", keywords).split()[-1] == "yes"


def test_noise_is_no_word(keywords: Path, trained_words: Path) -> None:
    assert run("spot", trained_words.parents[1] / "noise", "-m", keywords) == ""


def test_what_fires_without_reason_is_counted(keywords: Path, folder: Path) -> None:
    """In a folder that says it holds no words, all that `asr spot` reports is one too many."""
    liar = folder / "liar" / "_silence_"
    shutil.copytree(folder / "strangers" / "yes", liar)
    figures = folder / "liar.json"
    run("evaluate", keywords, liar.parent, "--json", figures)
    found = json.loads(figures.read_text())
    assert found["false_accepts"] == len(run("spot", liar, "-m", keywords).splitlines()) > 8
    hours = found["n"] * sf.info(next(liar.iterdir())).duration / 3600.0
    assert found["background_hours"] == pytest.approx(hours, rel=0.01)
    assert found["hit_rate"] is None


def test_the_thresholds_that_are_compared_are_those_of_spotting(
    keywords: Path, folder: Path
) -> None:
    """A lower one need not find more: the refractory period of another word may be in the way."""
    figures, clips = folder / "swept.json", folder / "strangers"
    run("evaluate", keywords, clips, "--json", figures)
    points = json.loads(figures.read_text())["thresholds"]
    rates = {point["threshold"]: point["hit_rate"] for point in points}
    for threshold in (min(rates), 0.9):
        chosen = ",".join(f"{word}={threshold}" for word in WORDS)
        lines = run("spot", clips, "-m", keywords, "-f", "json", "--keywords", chosen).splitlines()
        right = {
            found["file"]
            for found in map(json.loads, lines)
            if found["label"] in Path(found["file"]).parts
        }
        assert rates[threshold] == pytest.approx(len(right) / (len(STRANGERS) * len(WORDS) * 2))
    assert rates[0.9] > 0.0


def test_the_held_out_speakers_of_a_recipe_are_evaluated_as_in_training(
    keywords: Path, folder: Path, trained_words: Path
) -> None:
    figures = folder / "held_out.json"
    run("evaluate", keywords, trained_words.parents[1] / "words.toml", "--json", figures)
    error = json.loads(run("info", keywords, "--json"))["metrics"]["error"]
    assert 1.0 - json.loads(figures.read_text())["accuracy"] == pytest.approx(error, abs=0.05)


def test_sentences_of_strangers_are_transcribed(trained_speech: Path, folder: Path) -> None:
    said, recognised = [], []
    for line in run("transcribe", folder / "talk", "-m", trained_speech, "-f", "json").splitlines():
        transcript = json.loads(line)
        number = int(Path(transcript["file"]).stem.rpartition("_")[2])
        said.append(TEXTS[number])
        recognised.append(transcript["text"])
    assert len(said) == len(STRANGERS) * len(TEXTS)
    assert jiwer.cer(said, recognised) < 0.25, recognised


def test_sentences_of_strangers_are_evaluated(trained_speech: Path, folder: Path) -> None:
    figures = folder / "speech.json"
    run("evaluate", trained_speech, folder / "talk" / "manifest.jsonl", "--json", figures)
    found = json.loads(figures.read_text())
    assert found["n"] == len(STRANGERS) * len(TEXTS)
    assert found["cer"] < 0.25 and found["wer"] < 0.5
    assert {"accuracy", "real_time_factor"} <= found.keys()


def test_int8_weights_recognise_the_same_however_the_audio_is_cut(
    trained_speech: Path, folder: Path
) -> None:
    small = folder / "int8.onnx"
    bounds = ("--data", folder / "talk" / "manifest.jsonl", "--max-loss", 1)
    run("export", run_of(trained_speech), small, "--int8", *bounds)
    exact, quantised = asr.load(trained_speech), asr.load(small)
    assert (exact.card.precision, quantised.card.precision) == ("fp32", "int8")
    assert quantised.card.weights_sha256 != exact.card.weights_sha256
    assert small.stat().st_size < 0.7 * trained_speech.stat().st_size
    found = quantised.card.metrics
    assert found["cer_int8"] <= found["cer_fp32"] + 0.01
    assert found["int8_n"] == len(STRANGERS) * len(TEXTS)
    for path in sorted((folder / "talk").glob("*.wav"))[:6]:
        audio = read_audio(path, quantised.card.sample_rate)
        whole = transcribe(quantised, audio).text
        for cut in (160, 1_009, 7_001):
            stream = Stream(quantised)
            events = [e for k in range(0, len(audio), cut) for e in stream.push(audio[k : k + cut])]
            events += stream.finish()
            assert " ".join(e.text for e in events if isinstance(e, Utterance)) == whole


def test_int8_weights_that_do_harm_are_refused(
    trained_words: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruin(proto: onnx.ModelProto) -> onnx.ModelProto:
        for item in proto.graph.initializer:
            if item.name.endswith("head.output.bias"):
                weights = 100.0 * np.arange(item.dims[0], dtype=np.float32)
                item.CopyFrom(onnx.numpy_helper.from_array(weights, item.name))
        return proto

    monkeypatch.setattr(export.export, "quantise", ruin)
    out, int8 = folder / "ruined.onnx", Int8(folder / "strangers")
    with pytest.raises(QuantisationError, match=r"lose \d+\.\d+ points of accuracy .*--max-loss"):
        export_run(trained_words, out, int8=int8)
    assert not list(folder.glob("*ruined*"))


def test_the_frontier_compares_latencies_of_the_same_weights(
    trained_speech: Path, folder: Path
) -> None:
    figures, plot = folder / "frontier.json", folder / "frontier.png"
    arguments = ["asr", "frontier", run_of(trained_speech), "--json", figures, "--plot", plot]
    result = run_python(  # the real command at some of its latencies
        f"import sys; sys.argv = {[*map(str, arguments)]!r}; "
        "import asr.studies.frontier; asr.studies.frontier.LOOK_AHEADS = (0,); "
        "from asr.cli import main; main()"
    )
    assert result.returncode == 0, result.stderr
    points = json.loads(figures.read_text())["points"]
    assert [p["look_ahead"] for p in points] == [0, 180, None]
    assert "whole" in result.stdout and plot.read_bytes().startswith(b"\x89PNG\r\n")
    home = next(
        p for p in points if p["look_ahead"] == asr.load(trained_speech).card.look_ahead / 16
    )
    assert home["figures"]["cer"] < 0.25
    assert points[0]["macs_per_second"] < home["macs_per_second"]
    assert {p["parameters"] for p in points} == {asr.load(trained_speech).card.parameters}


def test_a_run_is_exported_at_another_latency(trained_speech: Path, folder: Path) -> None:
    quick = folder / "quick.onnx"
    run("export", run_of(trained_speech), quick, "--latency", 2, 0)
    assert asr.load(quick).card.look_ahead == 0
    assert asr.load(quick).card.block_length == 2 * asr.load(quick).card.hop_length
    result = run_asr("export", run_of(trained_speech), folder / "x.onnx", "--latency", 0, 3)
    assert result.returncode == 2 and "encoder.look_ahead needs" in result.stderr
