"""Models beside others on the same recordings: what is compared, what it costs, who is missing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import asr
from asr.evaluation.trials import EvaluationError
from asr.studies.bench.others import DETECTORS, RATE, TRANSCRIBERS, PocketSphinx, detector
from asr.studies.bench.sentences import compare_sentences, held_out
from asr.studies.bench.spoken import as_said, cardinal
from asr.studies.bench.wake_words import PeerTrack
from asr.studies.bench.workers import PeerError, Worker, described, missing
from features.audio import read_audio
from tests.support.commands import ROOT, hide_packages, run_asr

SPEECH = ROOT / "samples" / "digits.ogg"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Mr. Smith paid $20.50, didn't he?", "mister smith paid twenty dollars fifty didn't he"),
        ("In 1850 and 1906, 2,000 men", "in eighteen fifty and nineteen oh six two thousand men"),
        ("[Music] the 21st & the 20th", "the twenty first and the twentieth"),
        ("3.14 is 50% of it", "three point one four is fifty percent of it"),
        ("well-known, in the 1850s", "well known in the eighteen fifties"),
        ("", ""),
    ],
)
def test_what_is_written_becomes_what_is_said(written: str, said: str) -> None:
    assert as_said(written) == said
    assert as_said(said) == said


def test_numbers_in_words() -> None:
    assert cardinal(0) == "zero" and cardinal(90) == "ninety"
    assert cardinal(1_000_015) == "one million fifteen"
    assert cardinal(705_342) == "seven hundred five thousand three hundred forty two"


def manifest(folder: Path, *texts: str) -> Path:
    """A manifest of the same recording, by a speaker for each text."""
    lines = [
        json.dumps({"audio_filepath": str(SPEECH), "text": text, "speaker": f"s{number}"})
        for number, text in enumerate(texts)
    ]
    path = folder / "digits.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_peer_answers_in_a_process_of_its_own() -> None:
    pytest.importorskip("pocketsphinx")
    assert missing(PocketSphinx) == []
    sound = read_audio(SPEECH, RATE)
    with Worker(PocketSphinx) as worker:
        first = worker.ask(sound)
        assert first.answer and first.seconds > 0.0
        assert worker.start_seconds > 0.0 and worker.memory is not None
        assert worker.memory > described(PocketSphinx())["size"] / 10


class Broken(PocketSphinx):
    """A peer that is installed and ends as soon as it is asked."""

    def load(self) -> Any:
        raise RuntimeError("an illegal instruction")


@pytest.mark.slow
def test_a_peer_that_does_not_work_here_says_why() -> None:
    with pytest.raises(PeerError, match="does not work here: RuntimeError: an illegal instruction"):
        Worker(Broken)


@pytest.mark.slow
def test_sentences_beside_those_that_are_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pocketsphinx")
    data, out = manifest(tmp_path, "One, two, three!", "one two three"), tmp_path / "figures.json"
    figures = compare_sentences(asr.load("english"), data, json_file=out)
    rows = figures["transcribers"]
    assert list(rows)[:2] == ["english", "english, no language model"]
    assert set(rows) == {*list(rows)[:2], *(peer.name for peer in TRANSCRIBERS)}
    for peer in TRANSCRIBERS:
        assert ("problem" in rows[peer.name]) or rows[peer.name]["rtf"] > 0
        if packages := missing(peer):
            assert rows[peer.name]["problem"] == f"not installed: pip install {' '.join(packages)}"
    row = rows["pocketsphinx"]
    assert row["all"] == row["groups"]["digits"] and row["all"]["n"] == 2
    assert row["texts"][0] == row["texts"][1]  # of the same sound, the same
    assert rows["english"]["size"] > rows["english, no language model"]["size"]
    printed = capsys.readouterr().out
    assert f"pocketsphinx: {row['version']}" in printed and "real-" in printed
    assert json.loads(out.read_text())["recordings"] == 2


@pytest.mark.slow
def test_a_missing_peer_is_named_with_what_installs_it(tmp_path: Path) -> None:
    hidden = hide_packages(
        tmp_path / "hidden", "pocketsphinx", "faster_whisper", "moonshine_voice", "moonshine_cpp"
    )
    data = manifest(tmp_path, "one two three")
    result = run_asr("bench", "english", "--peers", "--audio", data, **hidden)
    assert result.returncode == 0, result.stderr
    assert "pocketsphinx: not installed: pip install pocketsphinx" in result.stdout
    assert "Moonshine base: not installed: pip install moonshine-voice moonshine-cpp" in (
        result.stdout
    )


def test_of_a_recipe_what_it_holds_out_is_compared(tmp_path: Path) -> None:
    texts = manifest(tmp_path, *(["one two three"] * 10))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "r"\n[model.head]\nkind = "ctc"\n[data]\nvalidation_limit = 3\n'
        + "".join(
            f'[[data.sources]]\npath = "{texts}"\nname = "{name}"\nlicence = "CC0"\n'
            'attribution = "nobody"\nspeaker = "{speaker}"\n'
            f"validation = {share}\n"
            for name, share in (("half", 50), ("all learnt", 0), ("some", 20))
        )
    )
    model = asr.load("english")
    trials = held_out(model, recipe)
    assert [trial.group for trial in trials] == ["half"] * 3 + ["some"] * 2
    assert [trial.group for trial in held_out(model, recipe, ["some"])] == ["some"] * 2
    assert len(held_out(model, recipe, ["half"], ["data.validation_limit=2"])) == 2
    with pytest.raises(EvaluationError, match="has no source none"):
        held_out(model, recipe, ["none"])
    with pytest.raises(EvaluationError, match="holds out nobody"):
        held_out(model, recipe, ["all learnt"])


# Wake words


def test_a_peer_reports_once_in_its_refractory_period() -> None:
    times = np.array([0.5, 0.6, 1.0, 2.6, 2.7])
    track = PeerTrack("alexa", 3.0, times, np.array([0.9, 1.0, 0.4, 0.7, 0.95]))
    assert [firing.time for firing in track.firings({"alexa": 0.7})] == [0.5, 2.6]
    assert [firing.time for firing in track.firings({"alexa": 0.95})] == [0.6, 2.7]


def test_silence_parts_the_streams_of_a_peer() -> None:
    """What is pushed is blocks of 80 ms; times count from the beginning of a stream."""
    lengths: list[int] = []

    def push(block: bytes) -> list[float]:
        samples = np.frombuffer(block, np.int16)
        lengths.append(len(samples))
        return [0.0, float(np.abs(samples).max(initial=0) > 1000)]

    found = detector(push)(np.full(2000, 0.5, np.float32))
    assert [probability for _, probability in found] == [1.0] * len(found)
    assert found[-1][0] == pytest.approx(2000 / RATE, abs=0.08) and found[0][0] > 0.0
    assert set(lengths[:-1]) == {1280} and sum(lengths) == 2000 + round(2.5 * RATE)


@pytest.mark.slow
def test_a_wake_word_beside_those_that_are_installed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hiss = rng.normal(0.0, 0.01, 10 * RATE).astype(np.float32)
    (tmp_path / "talk").mkdir()
    soundfile.write(tmp_path / "talk" / "hiss.wav", hiss, RATE)
    out = tmp_path / "figures.json"
    data = manifest(tmp_path, "alexa", "one two three", "alexa")
    command = ("bench", "english", "--peers", "--audio", data, "--keywords", "alexa")
    result = run_asr(*command, "--negative", tmp_path / "talk", "--json", out)
    assert result.returncode == 0, result.stderr
    detectors = json.loads(out.read_text())["detectors"]
    assert list(detectors) == ["english", *(peer.name for peer in DETECTORS)]
    assert detectors["english"]["said"] == 2
    assert [point["at_most"] for point in detectors["english"]["rates"]] == [0.2, 0.5, 1.0, 2.0]
    for peer in DETECTORS:
        if packages := missing(peer):
            problem = f"not installed: pip install {' '.join(packages)}"
            assert detectors[peer.name] == {"problem": problem}
            assert f"{peer.name}: {problem}" in result.stdout
        else:
            assert detectors[peer.name]["rtf"] > 0 and detectors[peer.name]["size"] > 0


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--keywords", "alexa"), "give --peers and --audio"),
        (("--negative", "talk"), "give --peers and --audio"),
        (("--peers", "--audio", "words.jsonl", "--keywords", "alexa"), "--negative"),
        (
            ("--peers", "--audio", "words.jsonl", "--keywords", "a, b", "--negative", "talk"),
            "one at a time",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(arguments: tuple[str, ...], hint: str) -> None:
    result = run_asr("bench", "english", *arguments)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and hint in line and result.returncode == 2
