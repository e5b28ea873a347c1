"""`asr soak` passes models that stay as they were, and fails those that do not."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
import asr.studies.soak
from asr.decode.keywords.trained import KeywordTrigger
from asr.events import Event
from asr.model import ModelError
from asr.runtime.scorers import Scores
from asr.studies.soak import SoakError, resident_memory, soak
from features.audio import AudioError
from tests.support import tiny_models
from tests.support.commands import run_asr
from tests.support.tiny_models import BLOCK, HOP, KEYWORDS, LETTERS, SAMPLE_RATE, Graph, card, tones

HOURS = 4 / 60
FIGURES = {
    "model",
    "hours",
    "hours_per_minute",
    "finite",
    "events",
    "differing",
    "probes",
    "agreement",
    "distance",
    "memory",
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tiny models know, in files."""
    folder = tmp_path_factory.mktemp("recordings")
    for number, labels in enumerate(["a", "b c", "cab", "ba ab"]):
        soundfile.write(folder / f"{number}.wav", tones(*labels), SAMPLE_RATE)
    for label in ("low", "high"):
        soundfile.write(folder / f"{label}.flac", tones(label, seconds=0.4), SAMPLE_RATE)
    return folder


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("streaming_ctc", marks=pytest.mark.slow),
        "streaming_classify",
        pytest.param("whole_classify", marks=pytest.mark.slow),
    ],
)
def test_stable_models_pass(kind: str, recordings: Path, tmp_path: Path) -> None:
    model = asr.load(getattr(tiny_models, kind)(tmp_path / "m.onnx"))
    figures = soak(model, HOURS, data=[recordings])
    assert figures.keys() == FIGURES
    assert figures["hours"] == pytest.approx(HOURS, rel=0.3)
    assert figures["events"] > 30 and figures["differing"] == 0 and figures["finite"]
    assert figures["agreement"] == [1.0, 1.0]
    assert figures["distance"] == pytest.approx([0.0, 0.0], abs=1e-3)
    assert figures["probes"] >= 2


def drifting(graph: Graph) -> None:
    """A clock in the state that shifts all scores towards one label."""
    graph.state("clock", 1)
    graph.tone_scores("pcm", hop=HOP)
    graph.add("Add", ["clock", graph.constant("tick", np.float32(0.01))], "next_clock")
    graph.add("Unsqueeze", ["next_clock", graph.constant("one", np.array([1]))], "now")
    graph.add("Mul", ["now", graph.constant("way", np.eye(5, dtype="f4")[2] * 2.0)], "shift")
    graph.add("Add", ["scores", "shift"], "out")


def exploding(graph: Graph) -> None:
    """A state that doubles with every block."""
    graph.state("size", 1)
    graph.tone_scores("pcm", hop=HOP)
    graph.add("Add", ["size", graph.constant("seed", np.float32(1e-3))], "grown")
    graph.add("Add", ["grown", "grown"], "next_size")
    graph.add("Identity", ["scores"], "out")


def scoring_all_at_once(graph: Graph) -> None:
    """Scores that depend on how much sound the step was given."""
    graph.state("nothing", 1)
    graph.tone_scores("pcm", hop=HOP)
    graph.add("Identity", ["nothing"], "next_nothing")
    graph.add("ReduceMean", ["scores"], "mean", axes=[1], keepdims=1)
    graph.add("Sub", ["scores", "mean"], "out")


@pytest.mark.parametrize(
    ("build", "samples", "problem"),
    [
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (drifting, BLOCK, "distance from a fresh stream grows from 0"),
                (exploding, BLOCK, "scores or states are not finite"),
            )
        ),
        (scoring_all_at_once, "samples", "events depend on how the sound is cut"),
    ],
)
def test_unstable_models_fail_with_the_reason(
    build: Callable[[Graph], None],
    samples: int | str,
    problem: str,
    recordings: Path,
    tmp_path: Path,
) -> None:
    graph = Graph(LETTERS)
    build(graph)
    path = graph.save(tmp_path / "m.onnx", "out", samples, card("ctc", LETTERS))
    with pytest.raises(SoakError, match=rf"^.*m\.onnx: .*{problem}"):
        soak(asr.load(path), HOURS, data=[recordings])


@pytest.mark.skipif(resident_memory() is None, reason="the system does not say what memory it uses")
@pytest.mark.slow
def test_a_memory_leak_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push, kept = KeywordTrigger.push, []

    def leak(trigger: KeywordTrigger, scores: Scores) -> list[Event]:
        kept.append(np.ones(20_000))
        return push(trigger, scores)

    monkeypatch.setattr(KeywordTrigger, "push", leak)
    model = asr.load(tiny_models.streaming_classify(tmp_path / "m.onnx"))
    with pytest.raises(SoakError, match=r"memory grows by \d+ MiB"):
        soak(model, HOURS)


def test_unusable_models_and_data_raise_at_once(tmp_path: Path) -> None:
    whole = asr.load(tiny_models.whole_ctc(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="cannot listen live"):
        soak(whole, 24.0)
    with pytest.raises(AudioError, match="no such file or folder"):
        soak(whole, 24.0, data=[tmp_path / "nothing"])


@pytest.mark.slow
def test_the_command(recordings: Path, tmp_path: Path) -> None:
    model, out = tiny_models.streaming_classify(tmp_path / "good.onnx"), tmp_path / "figures.json"
    sounds = ["--data", recordings, "--noise", recordings, "--hours", "0.03"]
    result = run_asr("soak", model, *sounds, "--json", out)
    assert (result.returncode, result.stderr) == (0, "")
    assert "events that differ between two cuts" in result.stdout
    assert json.loads(out.read_text()).keys() == FIGURES

    graph = Graph(KEYWORDS)
    exploding(graph)
    shape = {"hop_length": HOP, "window_length": BLOCK}
    graph.save(tmp_path / "bad.onnx", "out", BLOCK, card("classify", KEYWORDS, **shape))
    result = run_asr("soak", tmp_path / "bad.onnx", *sounds)
    (line,) = result.stderr.splitlines()
    assert line == f"error: {tmp_path}/bad.onnx: scores or states are not finite"
    assert result.returncode == 2


@pytest.mark.slow
def test_the_bundled_recogniser_passes() -> None:
    figures = soak(asr.load("english"), 20 / 60)  # as many probes as a day has
    assert figures["differing"] == 0 and figures["finite"]
