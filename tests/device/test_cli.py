"""The `asr` command as a user meets it: in a process of its own, judged by what it prints."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import __version__
from asr.model import load
from tests.support.commands import ASR, environment, hide_packages, run_asr, run_python
from tests.support.tiny_models import SAMPLE_RATE, tones

SPEECH = tones("a", "b", " ", "c")
KEYWORD = tones("low", "high", seconds=0.4, pause=0.6)


def write(
    path: Path,
    audio: np.ndarray = SPEECH,
    rate: int = SAMPLE_RATE,
    subtype: str | None = None,
) -> Path:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, audio, rate, subtype)
    return path


def test_one_file_gives_its_words_alone(tmp_path: Path, speech_model: Path) -> None:
    result = run_asr("transcribe", write(tmp_path / "talk.wav"), "--model", speech_model)
    assert (result.stdout, result.stderr, result.returncode) == ("ab c\n", "", 0)


def test_several_files_and_folders_are_named(tmp_path: Path, speech_model: Path) -> None:
    first = write(tmp_path / "b" / "one.flac", tones("b"))
    second = write(tmp_path / "b" / "deep" / "zwei größe.ogg", tones("c"))
    (tmp_path / "b" / "notes.txt").write_text("not audio")
    third = write(tmp_path / "three.wav", tones("a"))
    result = run_asr("transcribe", tmp_path / "b", third, "-m", speech_model)
    assert result.stdout == f"{second}: c\n{first}: b\n{third}: a\n"
    assert result.returncode == 0


def test_transcripts_as_json_lines(tmp_path: Path, speech_model: Path) -> None:
    speech, silence = write(tmp_path / "a.wav"), write(tmp_path / "b.wav", 0 * SPEECH)
    result = run_asr("transcribe", speech, silence, "-m", speech_model, "--format", "json")
    found, nothing = map(json.loads, result.stdout.splitlines())
    assert found == {
        "schema": 1,
        "file": str(speech),
        "text": "ab c",
        "duration": 1.3,
        "segments": [
            {
                "text": "ab c",
                "start": 0.1,
                "end": 1.2,
                "words": [
                    {"text": "ab", "start": 0.1, "end": 0.6, "confidence": 1.0},
                    {"text": "c", "start": 1.0, "end": 1.2, "confidence": 1.0},
                ],
            }
        ],
    }
    assert nothing == {
        "schema": 1,
        "file": str(silence),
        "text": "",
        "duration": 1.3,
        "segments": [],
    }


def test_keywords_as_json_lines(tmp_path: Path, keyword_model: Path) -> None:
    path = write(tmp_path / "clip.wav", KEYWORD)
    result = run_asr("spot", path, "-m", keyword_model, "-f", "json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"] for line in found] == [str(path)] * 2
    assert [line["label"] for line in found] == ["low", "high"]
    assert [line["time"] for line in found] == [0.68, 1.68]
    assert all(line.keys() == {"file", "time", "label", "score"} for line in found)
    assert all(0.5 <= line["score"] <= 1.0 for line in found)


def test_keywords_as_text(tmp_path: Path, keyword_model: Path) -> None:
    path = write(tmp_path / "clip.wav", KEYWORD)
    one = run_asr("spot", path, "-m", keyword_model).stdout.splitlines()
    assert [line.split() for line in one] == [
        ["0.68", "s", "67%", "low"],
        ["1.68", "s", "67%", "high"],
    ]
    two = run_asr("spot", path, path, "-m", keyword_model).stdout.splitlines()
    assert two == [f"{path}: {line}" for line in one] * 2


def test_bad_files_are_named_and_the_others_come_out(tmp_path: Path, speech_model: Path) -> None:
    write(tmp_path / "a.wav")
    write(tmp_path / "z.wav", tones("c"))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.mp3").write_text("this is no sound")
    write(tmp_path / "nan.wav", np.full(800, np.nan, np.float32), subtype="FLOAT")
    missing = tmp_path / "missing.wav"
    result = run_asr("transcribe", missing, tmp_path, "-m", speech_model)
    assert result.returncode == 2
    assert result.stdout == f"{tmp_path}/a.wav: ab c\n{tmp_path}/z.wav: c\n"
    # The mp3 decoder adds notes of its own.
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    bad = ("missing.wav", "empty.wav", "nan.wav", "text.mp3")
    assert [line.partition(".")[0] for line in lines[:-1]] == [
        f"error: {tmp_path}/{name}".partition(".")[0] for name in bad
    ]
    assert lines[-1] == "error: 4 of 6 files failed"


def test_a_single_bad_file_is_one_line(tmp_path: Path, speech_model: Path) -> None:
    result = run_asr("transcribe", tmp_path / "missing.wav", "-m", speech_model)
    assert result.returncode == 2
    assert result.stdout == ""
    expected = f"error: {tmp_path}/missing.wav: no such file or folder; check the path\n"
    assert result.stderr == expected


@pytest.mark.parametrize("task", ["transcribe", "spot"])
def test_awkward_sound_gives_a_result(
    tmp_path: Path, speech_model: Path, keyword_model: Path, task: str
) -> None:
    model, audio = (speech_model, SPEECH) if task == "transcribe" else (keyword_model, KEYWORD)
    files = [
        write(tmp_path / "silent.wav", np.zeros(16_000)),
        write(tmp_path / "clipped.wav", np.sign(audio)),
        write(tmp_path / "one-sample.wav", np.array([0.5])),
        write(tmp_path / "8kHz.wav", audio[::2], 8000),
        write(tmp_path / "24-bit.wav", audio, subtype="PCM_24"),
        write(tmp_path / "stereo.flac", np.stack([audio, audio], axis=1)),
    ]
    result = run_asr(task, *files, "-m", model)
    assert (result.returncode, result.stderr) == (0, "")
    found = "ab c" if task == "transcribe" else "high"
    for name in ("8kHz.wav", "24-bit.wav", "stereo.flac"):
        assert any(f"{name}: " in x and x.endswith(found) for x in result.stdout.splitlines())
    assert not any(
        line.startswith(f"{tmp_path}/silent.wav") and line.endswith(found)
        for line in result.stdout.splitlines()
    )


def test_the_wrong_kind_of_model_names_the_right_command(
    tmp_path: Path, speech_model: Path, keyword_model: Path
) -> None:
    path = write(tmp_path / "a.wav")
    for command, model, other in (
        ("transcribe", keyword_model, "asr spot"),
        ("spot", speech_model, "asr transcribe"),
    ):
        result = run_asr(command, path, path, "-m", model)
        assert (result.returncode, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {model}: ") and f"use '{other}'" in line


@pytest.mark.parametrize("command", ["transcribe", "spot"])
def test_what_is_no_model_is_one_line(tmp_path: Path, command: str) -> None:
    path = write(tmp_path / "a.wav")
    for model in (path, tmp_path / "none.onnx"):
        result = run_asr(command, path, "--model", model)
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {model}: ") and result.returncode == 2


def test_info_shows_the_card(speech_model: Path) -> None:
    card = load(speech_model).card
    table = run_asr("info", speech_model)
    assert table.returncode == 0
    for text in ("tiny-ctc", "look_ahead", "320", '"<blank>"', "CC0-1.0", card.weights_sha256):
        assert text in table.stdout
    as_json = run_asr("info", speech_model, "--json")
    assert json.loads(as_json.stdout) == json.loads(card.to_json())


def test_a_closed_pipe_is_quiet(tmp_path: Path, speech_model: Path) -> None:
    for number in range(40):
        write(tmp_path / f"{number}.wav", tones("a"))
    command = [*ASR, "transcribe", str(tmp_path), "-m", str(speech_model)]
    with subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.slow
def test_a_terminal_that_knows_only_ascii_can_be_written_to(
    tmp_path: Path, speech_model: Path
) -> None:
    write(tmp_path / "größe.wav")
    result = run_asr("transcribe", tmp_path, tmp_path, "-m", speech_model, PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert result.stdout == f"{tmp_path}/gr\\u00f6\\u00dfe.wav: ab c\n" * 2
    path = tmp_path / "größe 𝄞.wav"
    (tmp_path / "größe.wav").rename(path)
    arguments = ("transcribe", path, "-m", speech_model, "-f", "json")
    as_json = run_asr(*arguments, PYTHONIOENCODING="ascii")
    assert json.loads(as_json.stdout)["file"] == str(path)


def test_help_teaches_by_example_and_loads_nothing_heavy() -> None:
    result = run_python(
        """
import sys
from asr.cli import main
sys.argv = ["asr", "transcribe", "--help"]
try:
    main()
finally:
    print(sorted({"numpy", "onnxruntime", "soundfile", "sounddevice"} & set(sys.modules)))
"""
    )
    assert "asr transcribe -f json talk.wav | jq" in result.stdout
    assert result.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    "arguments", [("train", "words.toml"), ("export", "run", "m.onnx"), ("evaluate", "MODEL", "d")]
)
def test_training_commands_without_torch_say_what_to_install(
    tmp_path: Path, speech_model: Path, arguments: tuple[str, ...]
) -> None:
    hidden = hide_packages(tmp_path / "hidden", "torch", "torchaudio", "onnx", "jiwer")
    words = [str(speech_model) if word == "MODEL" else word for word in arguments]
    result = run_asr(*words, **hidden)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and 'pip install "earshot-asr[train]"' in line
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("transcribe", "--hlp"), "no such option: --hlp"),
        (("transcribe", "a.wav", "--jobs", "0"), "invalid value for '--jobs' / '-j'"),
        (
            ("transcribe", "a", "-f", "doc"),
            "invalid value for '--format' / '-f': 'doc' is not one of",
        ),
        (("info",), "missing argument 'MODEL'; see 'asr info --help'"),
        (("dance",), "no such command 'dance'; see 'asr --help'"),
        (("lm", "dance"), "no such command 'dance'; see 'asr lm --help'"),
    ],
)
def test_a_usage_error_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = run_asr(*arguments)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {message}") and line.endswith("--help'")
    assert (result.returncode, result.stdout) == (2, "")


def test_nothing_to_train_on_is_named() -> None:
    result = run_asr("train", "nope")
    message = "error: nope: no such folder of words or TOML file; check the path\n"
    assert (result.stderr, result.returncode) == (message, 2)


def test_the_version_is_shown() -> None:
    assert run_asr("--version").stdout == f"asr {__version__}\n"
    module = [sys.executable, "-m", "asr", "--version"]
    assert subprocess.check_output(module, env=environment(), text=True) == f"asr {__version__}\n"


@pytest.mark.parametrize("command", [(), ("transcribe",), ("lm",), ("lm", "build")])
def test_help_gives_flags_no_type(command: tuple[str, ...]) -> None:
    page = run_asr(*command, "--help").stdout
    assert "--help" in page and "bool" not in page.lower()


def test_the_shell_completes_commands_and_models() -> None:
    def completed(words: str) -> set[str]:
        last = str(len(words.split(" ")) - 1)
        answer = run_asr(_ASR_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=last)
        return set(answer.stdout.split())

    assert {"transcribe", "train"} <= completed("asr t")
    assert completed("asr transcribe --model en") == {"english"}


@pytest.mark.parametrize(("columns", "lines"), [(80, 5), (200, 2)])
def test_help_fills_the_lines_of_any_terminal(columns: int, lines: int) -> None:
    page = run_asr("assist", "--help", COLUMNS=str(columns)).stdout
    paragraphs = re.split(r"\n +\n", page)
    examples = next(text for text in paragraphs if "--grammar home.jsgf" in text)
    assert len(examples.splitlines()) == 5
    prose = next(text for text in paragraphs if "without a pause loses nothing" in text)
    assert len(prose.splitlines()) == lines


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["transcribe", "spot", "info", "help"])
def test_output_that_cannot_be_written_is_one_line(
    tmp_path: Path, speech_model: Path, keyword_model: Path, command: str
) -> None:
    speech, clip = write(tmp_path / "a.wav"), write(tmp_path / "b.wav", KEYWORD)
    arguments = {
        "transcribe": ["transcribe", str(speech), "-m", str(speech_model)],
        "spot": ["spot", str(clip), "-m", str(keyword_model)],
        "info": ["info", str(speech_model), "--json"],
        "help": ["--help"],
    }[command]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*ASR, *arguments], env=environment(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: standard output cannot be written (No space left on device); ")
    assert result.returncode == 2
