"""Typed keywords from the command line: in files, folders and pipes, and what can be wrong."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.commands import ASR, environment, run_asr
from tests.support.tiny_models import SAMPLE_RATE, tones

LABELS = ("a", "b", "c", "a", "b", "c", "a")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "tones.wav"
    audio = np.concatenate([tones(*LABELS, pause=0.05), np.zeros(SAMPLE_RATE, np.float32)])
    soundfile.write(path, audio, SAMPLE_RATE)
    return path


def test_typed_keywords_are_found(speech_model: Path, recording: Path) -> None:
    result = run_asr("spot", recording, "-m", speech_model, "--keywords", "Abca, ccca")
    assert (result.stderr, result.returncode) == ("", 0)
    (line,) = result.stdout.splitlines()
    time, unit, score, label = line.split()
    assert (unit, label) == ("s", "abca")
    # The second "a" begins at 0.8 s; two times 0.12 s later it is certain, within a step's block.
    assert float(time) == pytest.approx(0.8 + 0.24, abs=0.06)
    assert 90 < int(score.rstrip("%")) < 100


def test_finds_as_json(speech_model: Path, recording: Path) -> None:
    keywords = ("--keywords", "abca=0.5, bcab")
    result = run_asr("spot", recording, "-m", speech_model, *keywords, "-f", "json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [entry["label"] for entry in found] == ["abca"]
    assert found[0].keys() == {"file", "time", "label", "score", "start", "end"}
    assert found[0]["file"] == str(recording)
    assert found[0]["start"] == pytest.approx(0.05, abs=0.02)
    assert found[0]["start"] < found[0]["end"] < found[0]["time"]


def test_near_misses_come_with_the_reason(speech_model: Path, recording: Path) -> None:
    keywords = ("--keywords", "abca, bcab, aaaa=0.3", "--near-misses")
    result = run_asr("spot", recording, "-m", speech_model, *keywords)
    assert "(bcab: lost against 'abca')" in result.stdout
    result = run_asr("spot", recording, "-m", speech_model, *keywords, "-f", "json")
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    reasons = {entry["label"]: entry.get("reason", "") for entry in entries}
    assert reasons["abca"] == "" and reasons["bcab"] == "lost against 'abca'"


def test_a_folder_is_shared_out_and_a_pipe_is_read(
    tmp_path: Path, speech_model: Path, recording: Path
) -> None:
    for name in ("one.wav", "two.wav"):
        (tmp_path / name).write_bytes(recording.read_bytes())
    keywords = ("-m", speech_model, "--keywords", "abca")
    alone = run_asr("spot", recording, *keywords).stdout
    both = run_asr("spot", tmp_path, *keywords, "--jobs", 2).stdout
    assert both == "".join(f"{tmp_path / name}: {alone}" for name in ("one.wav", "two.wav"))
    with recording.open("rb") as sound:
        command = [*ASR, "spot", "-", *map(str, keywords)]
        piped = subprocess.run(command, stdin=sound, capture_output=True, env=environment())
    assert piped.stdout.decode() == alone


def test_ambiguous_keywords_are_warned_about(speech_model: Path, recording: Path) -> None:
    result = run_asr("spot", recording, "-m", speech_model, "--keywords", "bb, caba, cabc")
    short, alike = result.stderr.splitlines()
    assert short.startswith("warning: keyword 'bb' has fewer than 4 letters")
    assert alike.startswith("warning: keywords 'caba' and 'cabc' sound alike")
    assert result.returncode == 0


def test_rules_and_session_reach_the_command_line(speech_model: Path, recording: Path) -> None:
    def labels(*flags: object) -> list[str]:
        keywords = ("--keywords", "a=0.2,b=0.2,c=0.2")
        result = run_asr("spot", "-f", "json", "-m", speech_model, *keywords, *flags, recording)
        assert result.returncode == 0, result.stderr
        return [json.loads(line)["label"] for line in result.stdout.splitlines()]

    assert labels("--refractory", 0.0) == list(LABELS)
    assert labels("--refractory", 60.0) == ["a"]
    assert labels("--refractory", 0.0, "--threads", 2) == list(LABELS)
    result = run_asr("spot", "-m", speech_model, "--provider", "Quantum", recording)
    assert result.returncode == 2
    assert result.stderr.startswith("error: Quantum: is no provider of this onnxruntime")


def test_what_is_wrong_is_one_line(
    speech_model: Path, keyword_model: Path, recording: Path
) -> None:
    for flags, complaint in [
        (["-m", speech_model, "--keywords", " , "], "a keyword is missing; give them as in"),
        (["-m", speech_model, "--keywords", "abba=2"], "'abba': threshold 2 is not in (0, 1]"),
        (["-m", speech_model, "--keywords", "abba, ab ba"], "keyword 'ab ba' is there twice"),
        (["-m", speech_model, "--keywords", "abcd"], "cannot say 'd' in 'abcd'; respell it"),
        (["-m", speech_model, "--near-misses"], "--near-misses is about keywords; name them with"),
        (["-m", speech_model, "--linger", 1.0], "--linger is about keywords; name them with --key"),
        (["-m", keyword_model, "--linger", 1.0], "linger is about words that are found by their"),
        (["-m", speech_model], "type some with --keywords"),
        (
            ["-m", keyword_model, "--keywords", "operator"],
            "has not learnt 'operator', only low, high",
        ),
    ]:
        result = run_asr("spot", recording, recording, *flags)
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ") and complaint in line, (flags, line)
        assert (result.returncode, result.stdout) == (2, "")


def test_listening_takes_keywords_or_decoding(speech_model: Path) -> None:
    result = run_asr("listen", "-m", speech_model, "--keywords", "abca", "--beam", 4)
    assert result.returncode == 2
    assert result.stderr == "error: --keywords excludes language models, word lists and the like\n"


def test_options_of_keywords_are_those_of_all_that_a_model_has_learnt(
    keyword_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "said.wav"
    soundfile.write(path, tones("low", "high", seconds=0.5), SAMPLE_RATE)

    def rows(*options: object) -> list[dict]:
        result = run_asr("spot", path, "-m", keyword_model, "-f", "json", *options)
        assert result.returncode == 0, result.stderr
        return [*map(json.loads, result.stdout.splitlines())]

    assert [row["label"] for row in rows()] == ["low", "high"]
    assert [row["label"] for row in rows("--refractory", 60.0)] == ["low"]
    low, high = rows("--refractory", 60.0, "--near-misses")
    assert low["label"] == "low" and "reason" not in low
    assert high["label"] == "high" and high["reason"]
