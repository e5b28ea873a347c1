"""Measuring typed keywords: what counts as a hit, and one pass of the audio for every threshold."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.decode.keywords.typed import Keyword, SpotOptions, parse_keywords
from asr.evaluation.keywords import RATES, Said, evaluate_keywords, find_said
from asr.evaluation.trials import EvaluationError
from asr.events import Detection
from asr.model import Model, ModelError, load
from asr.recognise import spot
from asr.training.data.sources import DataError, Recording
from features.audio import read_audio
from tests.support.commands import run_asr
from tests.support.tiny_models import SAMPLE_RATE, tones

AB = (0.1, 0.6)  # where tones("a", "b", ...) has its first two
KEYWORDS = SpotOptions(keywords=parse_keywords("ab, ca"))
TAIL = np.zeros(SAMPLE_RATE, np.float32)

Entry = tuple[Sequence[str], str, tuple[float, float]]
NOWHERE = (0.0, 0.0)
ENTRIES: tuple[Entry, ...] = (
    (("a", "b"), "ab", AB),  # a hit
    (("b", "c"), "ab", AB),  # missed
    (("a", "b", " ", "b"), "ab b", (1.0, 1.4)),  # missed, and a false alarm: it is not said there
    (("a", "b", " ", "c", "a"), "ab ca", AB),  # two hits: whose time it is, is not known
    (("c", "a"), "b", NOWHERE),  # a false alarm
    (("a", "b", " ", "a", "b"), "a b", NOWHERE),  # a hit, and a false alarm: it is said once
)


@pytest.fixture(scope="module")
def model(speech_model: Path) -> Model:
    return load(speech_model)


def write_manifest(folder: Path, entries: Sequence[Entry] = ENTRIES) -> Path:
    lines: list[str] = []
    for number, (labels, text, (start, end)) in enumerate(entries):
        audio = np.concatenate([tones(*labels), TAIL])
        soundfile.write(folder / f"{number}.wav", audio, SAMPLE_RATE)
        fields: dict[str, Any] = {"audio_filepath": f"{number}.wav", "text": text}
        fields |= {"keyword_start": start, "keyword_end": end, "speaker": str(number)}
        lines.append(json.dumps(fields))
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_hits_misses_and_false_alarms(tmp_path: Path, model: Model) -> None:
    figures = evaluate_keywords(model, write_manifest(tmp_path), KEYWORDS)
    ab, ca, both = figures["keywords"]["ab"], figures["keywords"]["ca"], figures["all"]
    assert (ab["said"], ab["missed"], ab["false_alarms"]) == (5, 2, 2)
    assert (ca["said"], ca["missed"], ca["false_alarms"]) == (1, 0, 1)
    assert (both["said"], both["missed"], both["false_alarms"]) == (6, 2, 3)
    assert both["miss_rate"] == pytest.approx(1 / 3)
    assert both["miss_interval"][0] < 1 / 3 < both["miss_interval"][1]
    seconds = sum(0.1 + 0.3 * len(labels) + 1.0 for labels, _, _ in ENTRIES)
    marked = 0.5 + 0.5 + 0.4  # of the texts with one keyword only
    assert figures["hours"] == pytest.approx((seconds - marked) / 3600)
    assert both["false_alarms_per_hour"] == pytest.approx(3 / figures["hours"])
    # One hit has a known end. Its last label begins 0.2 s before that and is known 0.24 s later.
    assert ab["delay_median"] == ab["delay_90"] == pytest.approx(0.08, abs=0.05)
    assert ca["delay_median"] is None


def test_misses_are_shown_by_speaker_and_drawn_by_speaker(
    tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bob is missed twice, ann never: two more people may be anything."""
    found, missed = (("a", "b"), "ab", AB), (("b", "c"), "ab", AB)
    manifest = write_manifest(tmp_path, [found, missed, found, missed, found])
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for fields, speaker in zip(lines, ("ann", "bob", "ann", "bob", "ann"), strict=True):
        fields["speaker"] = speaker
    manifest.write_text("\n".join(map(json.dumps, lines)))
    figures = evaluate_keywords(model, manifest, SpotOptions(keywords=parse_keywords("ab")))
    assert figures["interval_over"] == "speakers"
    assert figures["speakers"] == [
        {"speaker": "bob", "said": 2, "missed": 2},
        {"speaker": "ann", "said": 3, "missed": 0},
    ]
    assert figures["all"]["miss_interval"] == (0.0, 1.0)
    assert "other speakers, from the 2 here" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_one_pass_serves_every_threshold(tmp_path: Path, model: Model) -> None:
    manifest = write_manifest(tmp_path)
    figures = evaluate_keywords(model, manifest, KEYWORDS)
    for point in figures["curve"][::15]:
        keywords = tuple(Keyword(k.text, min(point["threshold"], 1.0)) for k in KEYWORDS.keywords)
        events = [
            event
            for path in sorted(tmp_path.glob("*.wav"))
            for event in spot(
                model, read_audio(path, SAMPLE_RATE), options=SpotOptions(keywords=keywords)
            )
            if isinstance(event, Detection)
        ]
        assert len(events) == point["said"] - point["missed"] + point["false_alarms"]
    nothing = figures["curve"][-1]
    assert (nothing["miss_rate"], nothing["false_alarms"]) == (1.0, 0)


def test_the_operating_points_keep_to_their_rates(tmp_path: Path, model: Model) -> None:
    quiet = ENTRIES[:2]  # no false alarm at the thresholds that find the keyword
    figures = evaluate_keywords(model, write_manifest(tmp_path, quiet), KEYWORDS)
    assert [point["at_most"] for point in figures["rates"]] == list(RATES)
    for point in figures["rates"]:
        assert point["false_alarms_per_hour"] <= point["at_most"]
        assert point["missed"] == 1
    loud = evaluate_keywords(model, write_manifest(tmp_path), KEYWORDS)
    assert all(point["false_alarms"] == 0 for point in loud["rates"])


def test_detections_within_the_tolerance_are_hits(tmp_path: Path, model: Model) -> None:
    for shift, missed in ((0.28, 0), (-0.28, 0), (0.35, 1), (-0.35, 1)):
        # The mark is about the instant in which the last label is found, moved.
        end = 0.4 + shift
        manifest = write_manifest(tmp_path, [(("a", "b"), "ab", (end - 0.01, end))])
        assert evaluate_keywords(model, manifest, KEYWORDS)["all"]["missed"] == missed, shift


def test_a_mark_that_ends_before_it_begins_is_ignored(tmp_path: Path, model: Model) -> None:
    manifest = write_manifest(tmp_path, [(("a", "b"), "ab", (2.0, 1.0))])
    both = evaluate_keywords(model, manifest, KEYWORDS)["all"]
    assert (both["said"], both["missed"], both["delay_median"]) == (1, 0, None)


def test_folder_names_are_the_texts(tmp_path: Path, model: Model) -> None:
    for word, labels in (("ab", "ab"), ("ca", "ca"), ("ca", "ab"), ("b", "b")):
        (tmp_path / word).mkdir(exist_ok=True)
        audio = np.concatenate([tones(*labels), TAIL])
        soundfile.write(tmp_path / word / f"{labels}.wav", audio, SAMPLE_RATE)
    figures = evaluate_keywords(model, tmp_path, KEYWORDS)
    both = figures["all"]
    assert (both["said"], both["missed"], both["false_alarms"]) == (3, 1, 1)
    assert figures["recordings"] == 4


def test_a_recipe_is_measured_on_the_speakers_it_holds_out(tmp_path: Path, model: Model) -> None:
    manifest = write_manifest(tmp_path)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"""
name = "tones"
[model.head]
kind = "ctc"
[[data.sources]]
path = "{manifest}"
name = "Tones"
licence = "CC0"
attribution = "a machine"
speaker = "{{speaker}}"
validation_speakers = ["0", "4"]
""")
    both = evaluate_keywords(model, recipe, KEYWORDS)["all"]
    assert (both["said"], both["missed"], both["false_alarms"]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wild fire", [0]),
        ("a wildfire in the wild fire", [0, 0]),
        ("wildfires", []),
        ("the fire is wild", []),
        ("fire wild fire", [0, 1, 1]),
        ("", []),
    ],
)
def test_keywords_are_found_in_texts_as_whole_words(text: str, said: list[int]) -> None:
    keywords = parse_keywords("wild fire, fire")[: 2 if text.startswith("fire") else 1]
    recording = Recording(
        path=Path("a.wav"), text=text, speaker="", source=0, validation=True, marked=(1.0, 2.0)
    )
    found = find_said(recording, keywords)
    assert [entry.keyword for entry in found] == said
    assert len(found) != 1 or found == (Said(0, (1.0, 2.0)),)


def test_what_cannot_be_measured_raises(tmp_path: Path, model: Model, keyword_model: Path) -> None:
    manifest = write_manifest(tmp_path)
    with pytest.raises(EvaluationError, match=r"none of the keywords .* check the spelling"):
        evaluate_keywords(model, manifest, SpotOptions(keywords=parse_keywords("cc")))
    with pytest.raises(ModelError, match="measured with a model that transcribes"):
        evaluate_keywords(load(keyword_model), manifest, KEYWORDS)
    manifest.write_text(manifest.read_text().replace('"keyword_end": 0.6', '"keyword_end": "late"'))
    with pytest.raises(DataError, match=r"0.wav: .* no times in keyword_start, keyword_end"):
        evaluate_keywords(model, manifest, KEYWORDS)


def test_the_command_writes_tables_figures_and_a_plot(tmp_path: Path, model: Model) -> None:
    figures, plot = tmp_path / "figures.json", tmp_path / "det.png"
    flags = ("--keywords", "ab, ca=0.6", "--json", figures, "--plot", plot)
    result = run_asr("evaluate", model.path, write_manifest(tmp_path), *flags)
    assert result.returncode == 0, result.stderr
    assert "missed % (95 % interval)" in result.stdout and "6 recordings" in result.stdout
    assert json.loads(figures.read_text())["keywords"]["ca"]["threshold"] == 0.6
    assert plot.read_bytes().startswith(b"\x89PNG")
