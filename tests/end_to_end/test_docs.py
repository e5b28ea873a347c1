"""The pages: their code runs, and their commands are commands that exist."""

import functools
import math
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from docs.configuration_reference import reference
from features.audio import read_audio
from tests.support.commands import ROOT, run_asr, run_python

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README_LIMIT = 9 * 1024
JAVASCRIPT_MODULES = os.environ.get("NODE_PATH", "")


def blocks(language: str, pages: list[Path] = PAGES) -> Iterator[tuple[str, str]]:
    """Yield name of the page and text of each fenced block in a language."""
    for page in pages:
        for text in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S):
            yield page.name, text


def asr_commands() -> list[str]:
    """Return the `asr` commands in the pages' shell blocks, without comments and pipes."""
    whole = (text.replace("\\\n", " ") for _, text in blocks("sh"))  # commands may go on below
    lines = (line.split("#")[0] for text in whole for line in text.splitlines())
    parts = (part.strip() for line in lines for part in re.split(r"&&|\s[|>]\s", line))
    return sorted({part for part in parts if part.startswith("asr ")})


def contract_block(language: str) -> str:
    """Return the runner in this language of the page about the model file."""
    [(_, code)] = blocks(language, [ROOT / "docs" / "model_file.md"])
    return code


def stream_detections() -> list[tuple[float, str, float]]:
    """Return time, label and score of what a stream detects in the sample of commands."""
    model = asr.load("commands")
    stream = asr.Stream(model)
    audio = read_audio(ROOT / "samples" / "commands.flac", model.card.sample_rate)
    events = [
        event
        for start in range(0, len(audio), 1000)
        for event in stream.push(audio[start : start + 1000])
    ]
    events += stream.finish()
    return [(e.time, e.label, e.score) for e in events if isinstance(e, asr.Detection)]


def printed_detections(output: str) -> list[tuple[float, str, float]]:
    fields = (line.split() for line in output.splitlines())
    return [(float(time), label, float(score)) for time, label, score in fields]


def assert_same_detections(output: str) -> None:
    printed, streamed = printed_detections(output), stream_detections()
    assert [label for _, label, _ in printed] == [label for _, label, _ in streamed] != []
    for (time, _, score), (expected_time, _, expected_score) in zip(printed, streamed, strict=True):
        assert math.isclose(time, expected_time, abs_tol=0.006)
        assert math.isclose(score, expected_score, abs_tol=0.006)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_LIMIT


def test_readme_has_three_python_samples() -> None:
    assert len(list(blocks("python", [ROOT / "README.md"]))) == 3


@pytest.mark.parametrize(
    ("page", "code"), [pytest.param(*b, id=f"{b[0]}-{n}") for n, b in enumerate(blocks("python"))]
)
def test_python_block_runs(page: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = run_python(code)
    assert result.returncode == 0, f"{page}: {result.stderr}"


def runnable_commands() -> list[str]:
    """Return the documented commands that need no microphone, no training and nobody to stop them.

    Left out is also what reads a pipe or a model that the reader has to train, or needs a cluster.
    """
    kinds = (
        "asr info",
        "asr spot",
        "asr transcribe",
        "asr lm build texts.txt",
        "asr assist --wake seven",
    )
    named = [command for command in asr_commands() if command.startswith(kinds)]
    return [
        command for command in named if not {"-", "letters.onnx", "ray"} & {*shlex.split(command)}
    ]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages talk of, as a reader may have them."""
    folder = tmp_path_factory.mktemp("desk")
    samples = ROOT / "samples"
    (folder / "samples").symlink_to(samples)
    copies = {
        "talk.flac": "ruby.flac",
        "calls/1.mp3": "enter-seven.mp3",
        "recordings/erase.opus": "erase.opus",
        "archive/open.wav": "open-8k.wav",
    }
    for name, sample in copies.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(samples / sample, folder / name)
    soundfile.write(folder / "talk.wav", read_audio(samples / "enter-seven.mp3", 16000), 16000)
    (folder / "texts.txt").write_text("ruby red\nenter seven\nerase seven\n")
    (folder / "words.txt").write_text("ruby\nred\nr u b y\n")
    (folder / "home.jsgf").write_text("#JSGF V1.0;\ngrammar home;\npublic <one> = r u b y;\n")
    made = run_asr("lm", "build", folder / "texts.txt", "-o", folder / "lm.arpa")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", runnable_commands())
def test_documented_command_runs(command: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "--native" in command:
        pytest.importorskip("ctc_beam_decoder")
    monkeypatch.chdir(desk)
    result = run_asr(*shlex.split(command)[1:])
    assert result.returncode == 0, result.stderr


@functools.cache
def help_page(*names: str) -> str:
    page = run_asr(*names, "--help", COLUMNS="300")
    assert page.returncode == 0, page.stderr
    return page.stdout


@pytest.mark.parametrize("command", asr_commands())
def test_documented_command_and_its_options_exist(command: str) -> None:
    words = shlex.split(command)[1:]
    names = [words[0], words[1]] if words[0] == "lm" else [words[0]]
    page = help_page(*names)
    for option in (word for word in words if re.match(r"--?[a-z]", word)):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", page), option


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_messages_in_troubleshooting_are_those_of_the_program() -> None:
    folders = (ROOT / "asr", ROOT / "features", ROOT / "export")
    source = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?["\']', "", source)  # a message may be cut into lines
    rows = re.findall(r"^\| `(.+?)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.M)
    fragments = [part.strip(" '") for row in rows for part in row.split("...")]
    assert [fragment for fragment in fragments if fragment not in source] == []


def test_contract_in_python_gives_the_events_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert_same_detections(run_python(contract_block("python")).stdout)


def test_contract_in_javascript_gives_the_events_of_a_stream(tmp_path: Path) -> None:
    """Needs node, and onnxruntime-node in a folder that NODE_PATH names."""
    if (
        not (node := shutil.which("node"))
        or not (Path(JAVASCRIPT_MODULES) / "onnxruntime-node").is_dir()
    ):
        pytest.skip("node or onnxruntime-node is not installed")
    script, card, pcm = tmp_path / "spot.js", tmp_path / "card.json", tmp_path / "commands.f32"
    script.write_text(contract_block("js"))
    card.write_text(run_asr("info", "commands", "--json").stdout)
    read_audio(ROOT / "samples" / "commands.flac", 16000).astype(np.float32).tofile(pcm)
    model = ROOT / "asr" / "models" / "commands.onnx"
    command = [node, str(script), str(model), str(card), str(pcm)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert_same_detections(result.stdout)


def test_configuration_page_lists_every_setting_with_its_default() -> None:
    text = reference()
    for row in (
        "| `learning_rate` | `float` | `0.002` |",
        "| `look_ahead` | `int` | `0` |",
        "| `threshold` | `float` | `0.6` |",
        "| `licence` | `str` | required |",
    ):
        assert row in text
