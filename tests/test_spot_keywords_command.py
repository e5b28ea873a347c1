"""Typed keywords from the command line: in files, folders and pipes, and what can be wrong."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests import tiny_models
from tests.commands import ASR, environment, run_asr
from tests.tiny_models import SAMPLE_RATE, tones

LABELS = ("a", "b", "c", "a", "b", "c", "a")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.streaming_ctc(tmp_path_factory.mktemp("models") / "speech.onnx")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "tones.wav"
    audio = np.concatenate([tones(*LABELS, pause=0.05), np.zeros(SAMPLE_RATE, np.float32)])
    soundfile.write(path, audio, SAMPLE_RATE)
    return path


def test_typed_keywords_are_found(model: Path, recording: Path) -> None:
    result = run_asr("spot", recording, "-m", model, "--keywords", "Abca, ccca")
    assert (result.stderr, result.returncode) == ("", 0)
    (line,) = result.stdout.splitlines()
    time, unit, score, label = line.split()
    assert (unit, label) == ("s", "abca")
    # The second "a" begins at 0.8 s; two times 0.12 s later it is certain, within a step's block.
    assert float(time) == pytest.approx(0.8 + 0.24, abs=0.06)
    assert 90 < int(score.rstrip("%")) < 100


def test_finds_as_json(model: Path, recording: Path) -> None:
    arguments = ("spot", recording, "-m", model, "--keywords", "abca=0.5, bcab", "-f", "json")
    found = [json.loads(line) for line in run_asr(*arguments).stdout.splitlines()]
    assert [entry["label"] for entry in found] == ["abca"]
    assert found[0].keys() == {"file", "time", "label", "score", "start", "end"}
    assert found[0]["file"] == str(recording)
    assert found[0]["start"] == pytest.approx(0.05, abs=0.02)
    assert found[0]["start"] < found[0]["end"] < found[0]["time"]


def test_near_misses_are_told_with_the_reason(model: Path, recording: Path) -> None:
    keywords = ("--keywords", "abca, bcab, aaaa=0.3", "--near-misses")
    result = run_asr("spot", recording, "-m", model, *keywords)
    assert "(bcab: lost against 'abca')" in result.stdout
    lines = run_asr("spot", recording, "-m", model, *keywords, "-f", "json").stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    reasons = {entry["label"]: entry.get("reason", "") for entry in entries}
    assert reasons["abca"] == "" and reasons["bcab"] == "lost against 'abca'"


def test_a_folder_is_shared_out_and_a_pipe_is_heard(
    tmp_path: Path, model: Path, recording: Path
) -> None:
    for name in ("one.wav", "two.wav"):
        (tmp_path / name).write_bytes(recording.read_bytes())
    keywords = ("-m", model, "--keywords", "abca")
    alone = run_asr("spot", recording, *keywords).stdout
    both = run_asr("spot", tmp_path, *keywords, "--jobs", 2).stdout
    assert both == "".join(f"{tmp_path / name}: {alone}" for name in ("one.wav", "two.wav"))
    with recording.open("rb") as sound:
        command = [*ASR, "spot", "-", *map(str, keywords)]
        piped = subprocess.run(command, stdin=sound, capture_output=True, env=environment())
    assert piped.stdout.decode() == alone


def test_doubtful_keywords_are_warned_about(model: Path, recording: Path) -> None:
    result = run_asr("spot", recording, "-m", model, "--keywords", "bb, caba, cabc")
    short, alike = result.stderr.splitlines()
    assert short.startswith("warning: keyword 'bb' has fewer than 4 letters")
    assert alike.startswith("warning: keywords 'caba' and 'cabc' sound alike")
    assert result.returncode == 0


def test_what_is_wrong_is_one_line(tmp_path: Path, model: Path, recording: Path) -> None:
    trained = tiny_models.streaming_classify(tmp_path / "keywords.onnx")
    for flags, complaint in [
        (["-m", model, "--keywords", " , "], "a keyword is missing; give them as in"),
        (["-m", model, "--keywords", "abba=2"], "'abba': threshold 2 is not in (0, 1]"),
        (["-m", model, "--keywords", "abba, ab ba"], "keyword 'ab ba' is there twice"),
        (["-m", model, "--keywords", "abcd"], "the model cannot say 'd' in 'abcd'; respell it"),
        (["-m", model, "--near-misses"], "give them with --keywords"),
        (["-m", model], "type some with --keywords"),
        (["-m", trained, "--keywords", "operator"], "trained on and no others"),
    ]:
        result = run_asr("spot", recording, recording, *flags)
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ") and complaint in line, (flags, line)
        assert (result.returncode, result.stdout) == (2, "")


def test_listening_takes_keywords_or_decoding(model: Path) -> None:
    result = run_asr("listen", "-m", model, "--keywords", "abca", "--beam", 4)
    assert result.returncode == 2
    assert result.stderr == "error: --keywords excludes language models, word lists and the like\n"
