"""The page about a model: whole in one file, with every part that the recordings can fill."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import soundfile as sf

from asr.evaluation.outcomes import Outcome
from asr.studies.report.report import word_errors
from tests.support.commands import run_asr
from tests.support.tiny_models import SAMPLE_RATE, streaming_classify, tones, whole_ctc


class Page(HTMLParser):
    """The titles of a page, and whatever it loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.titles: list[str] = []
        self.loaded: list[str] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.loaded += [value or "" for name, value in attrs if name in ("src", "srcset")]
        if tag == "link":
            self.loaded.append("link")

    def handle_data(self, data: str) -> None:
        if self._open == "h2" and data.strip():
            self.titles.append(data.strip())


def write_sentences(folder: Path) -> Path:
    """Tones for letters; one of the texts is not what is said."""
    entries = []
    texts = [("ab c", "ab c"), ("c a", "c a"), ("a b", "a c"), ("bb", "bb")]
    for number, (said, text) in enumerate(texts):
        path = folder / f"{number}.wav"
        sf.write(path, tones(*said), SAMPLE_RATE)
        speaker, gender = f"<s{number % 2}>", "fm"[number % 2]
        entries.append(
            {"audio_filepath": path.name, "text": text, "speaker": speaker, "gender": gender}
        )
    manifest = folder / "sentences.jsonl"
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return manifest


@pytest.mark.slow
def test_a_page_about_a_model_that_transcribes(tmp_path: Path) -> None:
    model, data = whole_ctc(tmp_path / "tones.onnx"), write_sentences(tmp_path)
    finished = run_asr("report", model, data, "-o", tmp_path / "out")
    assert finished.returncode == 0, finished.stderr
    html = (tmp_path / "out" / "index.html").read_text()
    page = Page(html)
    assert page.titles == [
        "Figures", "Groups of speakers", "Speakers", "Words", "Confidence", "Noise and rooms",
        "Errors",
    ]  # fmt: skip
    assert page.loaded and all(source.startswith("data:") for source in page.loaded)
    assert len(re.findall("<audio", html)) == 1  # of the one error
    assert "&lt;s0&gt;" in html and "<s0>" not in html


@pytest.mark.slow
def test_a_page_to_publish_holds_no_recording(tmp_path: Path) -> None:
    model, data = whole_ctc(tmp_path / "tones.onnx"), write_sentences(tmp_path)
    path = tmp_path / "published" / "tones.html"
    finished = run_asr("report", model, data, "--no-audio", "-o", path)
    assert finished.returncode == 0, finished.stderr
    html = path.read_text()
    assert html.count("<article>") == 1 and "<audio" not in html and "data:audio" not in html


@pytest.mark.slow
def test_a_page_about_a_model_of_keywords(tmp_path: Path) -> None:
    for label in ("low", "high"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for take in range(2):
            path = tmp_path / "data" / label / f"{take}.wav"
            sf.write(path, tones(label, seconds=0.2 + 0.1 * take), SAMPLE_RATE)
    model = streaming_classify(tmp_path / "k.onnx")
    finished = run_asr("report", model, tmp_path / "data", "-o", tmp_path / "out")
    assert finished.returncode == 0, finished.stderr
    page = Page((tmp_path / "out" / "index.html").read_text())
    assert page.titles == [
        "Figures", "Speakers", "Confusion", "Thresholds", "Noise and rooms", "Errors",
    ]  # fmt: skip


def test_word_errors_say_what_was_there_instead() -> None:
    outcomes = [
        Outcome("", "s", "turn on the lamp", "turn off the", 1.0, 0.1),
        Outcome("", "s", "the lamp", "a lamp", 1.0, 0.1),
        Outcome("", "s", "", "lamp", 1.0, 0.1),
    ]
    said, wrong, instead = word_errors(outcomes)
    assert said == {"turn": 1, "on": 1, "the": 2, "lamp": 2}
    assert wrong == {"on": 1, "lamp": 1, "the": 1}
    assert instead == {"on": {"off": 1}, "lamp": {"": 1}, "the": {"a": 1}}


def test_nothing_to_measure_is_one_line(tmp_path: Path) -> None:
    model = whole_ctc(tmp_path / "tones.onnx")
    finished = run_asr("report", model, tmp_path / "none.jsonl", "-o", tmp_path / "out")
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
