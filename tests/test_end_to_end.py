"""The road that a newcomer goes: recordings, training, a model file, and words heard by it."""

import json
from pathlib import Path

import jiwer
import pytest

from tests.commands import run_asr
from tests.synthetic_speech import WORDS, speaker, write_manifest, write_words
from tests.tiny_training import write_speech_recipe, write_words_recipe

STRANGERS = range(40, 46)
TEXTS = ("yes", "left yes no", "no yes")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def run(*arguments: object) -> str:
    """What a command prints; it must succeed."""
    result = run_asr(*arguments, **ONE_THREAD)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of speakers whom no model was trained on."""
    folder = tmp_path_factory.mktemp("road")
    write_words(folder / "strangers", STRANGERS)
    write_manifest(folder / "talk", STRANGERS, TEXTS)
    return folder


@pytest.fixture(scope="module")
def keywords(folder: Path) -> Path:
    """A model of single words, by two commands."""
    run("train", write_words_recipe(folder))
    run("export", folder / "runs" / "words", folder / "words.onnx")
    return folder / "words.onnx"


@pytest.fixture(scope="module")
def speech(folder: Path) -> Path:
    """A streaming model of characters, by two commands."""
    larger = ("hidden=48", "stem_channels=48", "block=6", "look_ahead=6")
    encoder = [f"model.encoder.{setting}" for setting in larger]
    run("train", write_speech_recipe(folder), "optimisation.epochs=36", *encoder)
    run("export", folder / "runs" / "speech", folder / "speech.onnx")
    return folder / "speech.onnx"


def test_words_of_strangers_are_recognised(keywords: Path, folder: Path) -> None:
    figures = folder / "words.json"
    run("evaluate", keywords, folder / "strangers", "--json", figures)
    found = json.loads(figures.read_text())
    assert found["n"] == len(STRANGERS) * len(WORDS) * 2
    assert found["accuracy"] > 0.9
    assert 0.0 < found["real_time_factor"] < 1.0
    assert {"wer", "cer"} <= found.keys()


def test_words_of_strangers_are_spotted(keywords: Path, folder: Path) -> None:
    heard = dict.fromkeys(WORDS, 0)
    for word in WORDS:
        clips = folder / "strangers" / word
        for line in run("spot", clips, "-m", keywords, "-f", "json").splitlines():
            found = json.loads(line)
            heard[word] += found["label"] == word
            assert 0.0 < found["time"] <= 1.5 and 0.0 < found["score"] <= 1.0
    clips = len(STRANGERS) * 2
    assert all(0.75 * clips <= count <= 1.25 * clips for count in heard.values()), heard


def test_one_clip_gives_one_word(keywords: Path, folder: Path) -> None:
    clip = folder / "strangers" / "yes" / f"{speaker(STRANGERS[0]).name}_nohash_0.wav"
    assert run("spot", clip, "-m", keywords).split()[-1] == "yes"


def test_noise_is_no_word(keywords: Path, folder: Path) -> None:
    assert run("spot", folder / "noise", "-m", keywords) == ""


def test_the_held_out_speakers_of_a_recipe_are_evaluated_as_in_training(
    keywords: Path, folder: Path
) -> None:
    figures = folder / "held_out.json"
    run("evaluate", keywords, folder / "words.toml", "--json", figures)
    error = json.loads(run("info", keywords, "--json"))["metrics"]["error"]
    assert 1.0 - json.loads(figures.read_text())["accuracy"] == pytest.approx(error, abs=0.05)


def test_sentences_of_strangers_are_transcribed(speech: Path, folder: Path) -> None:
    said, heard = [], []
    for line in run("transcribe", folder / "talk", "-m", speech, "-f", "json").splitlines():
        transcript = json.loads(line)
        number = int(Path(transcript["file"]).stem.rpartition("_")[2])
        said.append(TEXTS[number])
        heard.append(transcript["text"])
    assert len(said) == len(STRANGERS) * len(TEXTS)
    assert jiwer.cer(said, heard) < 0.25, heard


def test_sentences_of_strangers_are_evaluated(speech: Path, folder: Path) -> None:
    figures = folder / "speech.json"
    run("evaluate", speech, folder / "talk" / "manifest.jsonl", "--json", figures)
    found = json.loads(figures.read_text())
    assert found["n"] == len(STRANGERS) * len(TEXTS)
    assert found["cer"] < 0.25 and found["wer"] < 0.5
    assert {"accuracy", "real_time_factor"} <= found.keys()
