"""The models that come with the package do what the README says of them."""

import json
import os
from pathlib import Path

import pytest

import asr
from asr.decode.options import DecodeOptions
from asr.evaluation.outcomes import decide
from asr.model import BUNDLED
from asr.recognise import transcribe
from asr.training.data.sources import is_validation_speaker
from features.audio import find_audio, read_audio
from tests.support.commands import ROOT, run_asr

SAMPLES = ROOT / "samples"
MEGABYTE = 1_000_000
RECORDINGS = os.environ.get("ASR_DATA")


@pytest.mark.parametrize(("name", "limit"), [("commands", 2), ("english", 21)])
def test_models_are_small_and_credit_their_data(name: str, limit: int) -> None:
    assert (BUNDLED / f"{name}.onnx").stat().st_size <= limit * MEGABYTE
    card = asr.load(name).card
    assert {source.name for source in card.training_data} >= {"Speech Commands", "AN4"}
    assert all(source.licence and source.attribution for source in card.training_data)


def test_keywords_of_the_samples() -> None:
    finished = run_asr("spot", "--format", "json", SAMPLES)
    assert finished.returncode == 0, finished.stderr
    found = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [(Path(find["file"]).name, find["label"]) for find in found] == [
        ("commands.flac", "yes"),
        ("commands.flac", "stop"),
        ("commands.flac", "left"),
        ("stop-48k-stereo.wav", "stop"),
        ("yes.wav", "yes"),
    ]


def test_every_sample_is_transcribed() -> None:
    finished = run_asr("transcribe", "--format", "json", SAMPLES)
    assert finished.returncode == 0, finished.stderr
    lines = map(json.loads, finished.stdout.splitlines())
    assert {Path(line["file"]).name: line["text"] for line in lines} == {
        "commands.flac": "yes stop left",
        "digits.ogg": "three one four one five",
        "enter-seven.mp3": "enter seven",
        "erase.opus": "erase",
        "open-8k.wav": "open",
        "rain.ogg": "it was raining when we left the house but the sun came out in the afternoon",
        "ruby.flac": "r u b y",
        "stop-48k-stereo.wav": "stop",
        "yes.wav": "yes",
    }


@pytest.mark.slow
@pytest.mark.skipif(not RECORDINGS, reason="ASR_DATA names no folder of recordings")
def test_digits_of_the_speaker_who_are_not_in_training() -> None:
    model = asr.load("english")
    digits = sorted(path.name for path in Path(RECORDINGS or "", "fsdd").iterdir())
    files = find_audio(Path(RECORDINGS or "", "fsdd"))
    files = [file for file in files if file.name.startswith("yweweler")][::5]
    assert len(digits) == 10 and len(files) == 100
    for options, least in ((DecodeOptions(), 0.85), (DecodeOptions(words=tuple(digits)), 0.93)):
        found = [transcribe(model, file, options=options).text for file in files]
        right = sum(text == file.parent.name for text, file in zip(found, files, strict=True))
        assert right / len(files) > least


@pytest.mark.skipif(not RECORDINGS, reason="ASR_DATA names no folder of recordings")
def test_commands_of_people_who_are_not_in_training() -> None:
    model = asr.load("commands")
    words = Path(RECORDINGS or "", "speech_commands")
    right = total = 0
    for label in set(model.card.labels) - set(model.card.background):
        files = find_audio(words / label)
        held_out = [f for f in files if is_validation_speaker(f.name.split("_")[0], 10.0)]
        for file in held_out[:12]:
            right += decide(model, read_audio(file, model.card.sample_rate)) == label
            total += 1
    assert total > 80
    assert right / total > 0.9
