"""What `asr evaluate` measures, what it leaves out, and how certain it says its figures are."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.evaluation.accuracy import evaluate
from asr.evaluation.figures import error_rates, summarise
from asr.evaluation.intervals import bootstrap_interval, share_interval, wilson_interval
from asr.evaluation.outcomes import SWEEP, Outcome, decide, run_trials
from asr.evaluation.report import print_evaluation
from asr.evaluation.trials import EvaluationError, Trial, expected, read_trials
from asr.events import Detection
from asr.model import Model, load
from asr.runtime.session import State
from asr.stream import Stream
from tests.support import tiny_models
from tests.support.commands import run_asr
from tests.support.tiny_models import SAMPLE_RATE, tones

RATES = {"n", "accuracy", "accuracy_interval", "cer", "cer_interval", "wer", "wer_interval"}

RECIPE = """
name = "tones"
data.cache = "FOLDER/cache"
model.head = {kind = "classify", labels = ["low", "high"], window = 0.08}

[[data.sources]]
path = "words"
name = "tones"
licence = "CC0"
attribution = "a machine"
speaker = '(\\d)\\.wav$'
validation_speakers = ["0", "1"]
"""


@pytest.fixture
def speech(speech_model: Path) -> Model:
    return load(speech_model)


@pytest.fixture
def keywords(keyword_model: Path) -> Model:
    return load(keyword_model)


def write_manifest(folder: Path, entries: Sequence[tuple[str, str, dict[str, str]]]) -> Path:
    """Tones, the text that the manifest says of them, and further fields."""
    lines: list[str] = []
    for number, (labels, text, fields) in enumerate(entries):
        soundfile.write(folder / f"{number}.wav", tones(*labels), SAMPLE_RATE)
        lines.append(json.dumps({"audio_filepath": f"{number}.wav", "text": text} | fields))
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_words(folder: Path, *words: str) -> None:
    for number, word in enumerate(words):
        (folder / word).mkdir(parents=True, exist_ok=True)
        audio = tones(word.lower(), seconds=0.6)
        soundfile.write(folder / word / f"{number}.wav", audio, SAMPLE_RATE)


def outcome(speaker: str, right: bool, group: str = "") -> Outcome:
    hypothesis = "high" if right else "low"
    return Outcome(group, speaker, "high", hypothesis, 1.0, 0.1, (), ((),) * len(SWEEP))


# What is measured


def test_punctuation_and_capitals_are_no_errors(tmp_path: Path, speech: Model) -> None:
    manifest = write_manifest(tmp_path, [("ab c", "Ab, c!", {}), ("ab", "a-b", {})])
    figures = evaluate(speech, manifest)
    assert (figures["n"], figures["accuracy"], figures["left_out"]) == (2, 0.5, {})
    assert figures["wer"] == 2 / 4  # "ab" for "a b"


def test_an_empty_reference_counts_insertions(tmp_path: Path, speech: Model) -> None:
    manifest = write_manifest(tmp_path, [("ab", "ab", {}), ("ab c", "", {}), ("", "", {})])
    figures = evaluate(speech, manifest)
    assert (figures["n"], figures["accuracy"]) == (3, pytest.approx(2 / 3))
    assert (figures["wer"], figures["cer"]) == (2.0, 2.0)
    with pytest.raises(EvaluationError, match="its texts are empty"):
        evaluate(speech, write_manifest(tmp_path, [("ab", "", {})]))


def test_recordings_left_out_are_counted_with_the_reason(
    tmp_path: Path, speech: Model, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [("ab", "ab", {}), ("ab", "ab 5", {}), ("ab", "abba é", {}), ("c", "c", {})]
    manifest = write_manifest(tmp_path, entries)
    (tmp_path / "3.wav").write_text("this is no sound")
    figures = evaluate(speech, manifest)
    assert figures["n"] == 1
    assert sorted(figures["left_out"].values()) == [1, 2]
    assert "left out 2 whose texts have characters that the model has no label for ('ab 5')" in (
        caplog.text
    )
    assert "3.wav: " in caplog.text


def test_a_recipe_of_labels_and_texts_has_one_normal_form(keywords: Model) -> None:
    card = keywords.card
    for text, reference in (("High", "high"), ("low", "low"), ("other", "_unknown_")):
        assert expected(card, text) == (reference, "")
    reference, problem = expected(card, "very high")
    assert not reference and "among other words" in problem
    known = tiny_models.card("classify", ("low", "high"), hop_length=640, window_length=1280)
    assert expected(known, "other")[1].endswith("no label for")
    accents = tiny_models.card(
        "classify", ("Caf\u00e9 au_lait", "no"), hop_length=640, window_length=1280
    )
    assert expected(accents, "cafe\u0301_AU lait") == ("Caf\u00e9 au_lait", "")


def test_a_flat_folder_has_no_labels(tmp_path: Path, keywords: Model, speech: Model) -> None:
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", tones("high", seconds=0.6), SAMPLE_RATE)
    for model in (keywords, speech):
        with pytest.raises(EvaluationError, match=r"3 recordings have no labels; .*<word>"):
            evaluate(model, tmp_path)
    write_words(tmp_path, "high", "low", "High")
    figures = evaluate(keywords, tmp_path)
    assert (figures["n"], figures["accuracy"]) == (3, 1.0)
    assert list(figures["left_out"].values()) == [3]


def test_a_folder_that_holds_a_manifest_is_read_as_one(tmp_path: Path, speech: Model) -> None:
    write_manifest(tmp_path, [("ab", "ab", {"speaker": "ann"}), ("c", "c", {"speaker": "ann"})])
    trials, _ = read_trials(speech, tmp_path)
    assert [(t.reference, t.speaker) for t in trials] == [("ab", "ann"), ("c", "ann")]


def test_the_command_names_what_it_leaves_out_in_one_line(
    tmp_path: Path, speech_model: Path
) -> None:
    manifest = write_manifest(tmp_path, [("ab", "ab", {}), ("ab", "route 66", {})])
    result = run_asr("evaluate", speech_model, manifest, "--json", tmp_path / "figures.json")
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"warning: {manifest}: left out 1 whose texts ")
    assert json.loads((tmp_path / "figures.json").read_text())["n"] == 1


OTHER_ENCODERS = ("latency-controlled", "whole")


class CountedSteps(Model):
    """A model that counts the samples that it is run on."""

    samples = 0

    def step(self, pcm: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        self.samples += pcm.shape[1]
        return super().step(pcm, state)


@pytest.mark.parametrize(
    "encoder", ["lstm", *(pytest.param(e, marks=pytest.mark.slow) for e in OTHER_ENCODERS)]
)
def test_one_run_of_a_classifier_answers_and_fires(
    exported_run: Callable[[str, str], Path], encoder: str
) -> None:
    """The answer to a short clip is that at its end, not that in the silence which closes it."""
    model = CountedSteps(exported_run(encoder, "classify") / "new" / "tiny.onnx")
    card = model.card
    generator = np.random.default_rng(0)
    noises = [generator.normal(0, 0.1, n).astype("f4") for n in (1, 3000, 5121, 8000, 24_000)]
    trials = [Trial("", "", "yes", lambda noise=noise: noise) for noise in noises]
    outcomes = list(run_trials(model, trials))
    once, model.samples = model.samples, 0
    for noise, made in zip(noises, outcomes, strict=True):
        stream = Stream(model)
        events = stream.push(noise) + stream.finish()
        assert made.fired == tuple(e.label for e in events if isinstance(e, Detection))
        if len(noise) <= 8000:
            likeliest = load(model.path).log_probs(noise)[-1].argmax()
            assert made.hypothesis == decide(load(model.path), noise) == card.labels[likeliest]
    assert once == model.samples


def test_a_recipe_gives_the_model_whole_recordings(tmp_path: Path, keywords: Model) -> None:
    write_words(tmp_path / "words", "high", "low", "high", "low")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("FOLDER", str(tmp_path)))
    lengths = {len(trial.waveform()) for trial in read_trials(keywords, recipe).trials}
    assert lengths == {len(tones("high", seconds=0.6))}
    figures = evaluate(keywords, recipe)
    assert (figures["n"], figures["accuracy"], figures["hit_rate"]) == (2, 1.0, 1.0)


# How certain it is


def test_intervals_are_over_speakers_not_recordings(keywords: Model) -> None:
    """Eight people are always recognised, the ninth at 80 %: another one may be like that, too."""
    outcomes = [outcome(f"s{k}", k > 0 or n % 5 > 0) for k in range(9) for n in range(50)]
    figures = summarise(keywords.card, outcomes)
    assert figures["interval_over"] == "speakers" and figures["n_speakers"] == 9
    low, high = figures["accuracy_interval"]
    per_recording = wilson_interval(440, 450)
    assert low < per_recording[0] - 0.02 and high >= per_recording[1]
    worst = figures["speakers"][0]
    assert (worst["speaker"], worst["accuracy"]) == ("s0", pytest.approx(0.8))
    assert len(figures["speakers"]) == 9


def test_intervals_do_not_shrink_where_nobody_is_wrong() -> None:
    right, speakers = np.ones(40), ["ann", "bob"] * 20
    assert share_interval(right, right, speakers) == wilson_interval(40, 40)


def test_unknown_speakers_and_a_single_one_are_said(
    keywords: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    for speakers, words in (
        ([f"{k}.wav" for k in range(8)], "each recording counts as another speaker's"),
        (["ann"] * 8, "other recordings of this one speaker"),
        (["ann", "bob"] * 4, "other speakers, from the 2 here"),
    ):
        outcomes = [outcome(name, k > 0) for k, name in enumerate(speakers)]
        figures = summarise(keywords.card, outcomes)
        print_evaluation(figures)
        assert words in " ".join(capsys.readouterr().out.split())
        if figures["interval_over"] == "recordings":
            assert figures["accuracy_interval"] == wilson_interval(7, 8)
            assert figures["speakers"] == []


def test_error_rates_are_bootstrapped_over_speakers() -> None:
    references, hypotheses = ["a b", "a b", "a b", "a b"], ["a b", "a b", "b", ""]
    figures = error_rates(references, hypotheses, ["ann", "ann", "bob", "bob"])
    assert figures["wer"] == 3 / 8
    expected_interval = bootstrap_interval(np.array([0, 3]), np.array([4, 4]))
    assert figures["wer_interval"] == expected_interval == (0.0, 0.75)


def test_a_speaker_who_says_nothing_has_no_rate(keywords: Model, speech: Model) -> None:
    def said(speaker: str, reference: str, hypothesis: str) -> Outcome:
        return Outcome("", speaker, reference, hypothesis, 1.0, 0.1)

    outcomes = [said("ann", "a b", "a"), said("ann", "a", "a"), said("bob", "", "a")] * 2
    figures = summarise(speech.card, outcomes)
    assert [(row["speaker"], row["wer"]) for row in figures["speakers"]] == [
        ("ann", 1 / 3),
        ("bob", None),
    ]
    assert figures["wer"] == 2 / 3 and figures.keys() >= RATES


# What is shown


def test_many_labels_are_shown_as_the_pairs_confused_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels = tuple(f"w{k}" for k in range(41))
    card = tiny_models.card("classify", labels, hop_length=640, window_length=1280)
    empty = ((),) * len(SWEEP)
    outcomes = [Outcome("", str(k), f"w{k}", f"w{k}", 1.0, 0.1, (), empty) for k in range(41)]
    outcomes += [Outcome("", f"x{k}", "w7", "w9", 1.0, 0.1, (), empty) for k in range(3)]
    outcomes += [Outcome("", "y", "w1", "w2", 1.0, 0.1, (), empty)]
    print_evaluation(summarise(card, outcomes))
    out = capsys.readouterr().out
    rows = [line.replace("│", " ").split() for line in out.splitlines()]
    assert rows.index(["w7", "w9", "3", "4"]) < rows.index(["w1", "w2", "1", "2"])
    assert ["w7", "4", "25.0"] in rows
    assert "labels, worst first: 10 of 41" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("seconds", "said", "rate"),
    [
        (1.0, "false accepts: 1 in 1 s of other sound: too little to tell how many an hour", "-"),
        (720.0, "false accepts: 1 in 0.20 hours of other sound, 5.0 an hour", "5.0"),
        (3600.0, "false accepts: 1 in 1.00 hours of other sound, 1.0 an hour", "1.0"),
    ],
)
def test_false_accepts_an_hour_take_some_sound(
    keywords: Model, capsys: pytest.CaptureFixture[str], seconds: float, said: str, rate: str
) -> None:
    fired = ("low",)
    other = Outcome("", "ann", "_unknown_", "low", seconds, 0.1, fired, (fired,) * len(SWEEP))
    print_evaluation(summarise(keywords.card, [other]))
    out = capsys.readouterr().out
    assert said in out
    rows = [line.replace("│", " ").split() for line in out.splitlines()]
    assert [f"{SWEEP[0]:g}", "-", rate] in rows
