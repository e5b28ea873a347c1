"""What `asr export` and `asr info` say of a model."""

import re
from pathlib import Path

import pytest

from asr.card import ModelCard
from asr.cli.card_table import latency_in_words
from export.parity import TOLERANCE
from tests.support import tiny_models
from tests.support.commands import run_asr
from tests.support.tiny_models import KEYWORDS, LETTERS
from tests.support.tiny_runs import save_run


@pytest.mark.slow
def test_export_says_what_it_wrote(tmp_path: Path) -> None:
    save_run(tmp_path / "run", {"block": 4, "look_ahead": 3}, {"kind": "ctc"})
    out = tmp_path / "new" / "tiny.onnx"
    result = run_asr("export", tmp_path / "run", out)
    assert result.returncode == 0, result.stderr
    wrote, latency, error = result.stderr.splitlines()
    found = re.fullmatch(
        rf"wrote {out}: (.+) MB, fp32 weights; scores differ from the trained model by at most "
        "(.+)",
        wrote,
    )
    assert found and float(found[1]) == pytest.approx(out.stat().st_size / 1e6, abs=0.01)
    assert 0.0 <= float(found[2]) <= TOLERANCE
    # Two layers look ahead 3 frames of 30 ms each, and a block is 4 frames.
    assert latency.startswith("latency: scores come 180 to 300 ms after the sound")
    assert error == "error: 0.25"


def test_info_gives_lengths_in_milliseconds_too(speech_model: Path) -> None:
    result = run_asr("info", speech_model)
    text = " ".join(result.stdout.replace("│", " ").split())
    assert "look_ahead 320 samples, 20 ms" in text
    assert "block_length 640 samples, 40 ms" in text
    assert "metrics none; 'asr evaluate' measures" in text
    assert "scores come 20 to 60 ms after the sound: they wait until a " in text


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (
            tiny_models.card(
                "classify", KEYWORDS, block_length=None, window_length=8000, hop_length=1600
            ),
            "every 100 ms a decision about the last 500 ms",
        ),
        (
            tiny_models.card("ctc", LETTERS, block_length=None),
            "not live: the model needs the whole utterance",
        ),
    ],
)
def test_latency_of_models_that_do_not_stream(card: ModelCard, words: str) -> None:
    assert latency_in_words(card) == words
