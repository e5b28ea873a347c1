"""A folder of words without a configuration: what is found in it, and what it amounts to."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import soundfile
import torch

from asr.card import Alarms
from asr.evaluation.streams import Watcher
from asr.events import Detection, NearMiss
from asr.kept import Keeper, read_moments, write_decisions
from asr.model import load
from asr.recognise import spot
from asr.studies.own_words.build import Order, Result, configure
from asr.studies.own_words.hard import mine
from asr.studies.own_words.materials import gather, window_of
from asr.studies.own_words.near_misses import near_misses
from asr.studies.own_words.recipe import NOTHING, as_toml
from asr.studies.own_words.speakers import guess_speakers
from asr.studies.own_words.survey import NOBODY_KNOWN, Survey, survey
from asr.studies.own_words.verdict import verdict
from asr.training.config import parse_config, parse_toml
from asr.training.data.batches import epoch_batches
from asr.training.data.corpus import load_corpus
from asr.training.data.sources import DataError
from asr.training.negatives import bundled_negatives
from asr.training.voices import draw_readings, installed_voices, read_all
from asr.training.voices.espeak import PROGRAM, phonemes
from tests.support.commands import run_asr
from tests.support.synthetic_speech import SAMPLE_RATE, say, speaker
from tests.support.tiny_models import tones

needs_espeak = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="espeak-ng is missing")


def write(root: Path, layout: dict[str, list[str]]) -> Path:
    """Write a take of a word, of its own, to each of these paths below the folder of the word."""
    for word, names in layout.items():
        for number, name in enumerate(names):
            path = root / word / name
            path.parent.mkdir(parents=True, exist_ok=True)
            sound = say("yes", speaker(number), take=len(word))
            soundfile.write(path, sound + np.float32(1e-4 * len(str(path))), SAMPLE_RATE)
    return root


LAYOUTS = {
    "prefix": ("{who}_{n}.wav", "in part 1 of the file name"),
    "nohash": ("{who}_nohash_{n}.wav", "before _nohash_"),
    "folder": ("{who}/{n}.wav", "in the folder under the word"),
    "letters": ("{who}{n}.wav", "in the letters of the file name"),
    "word first": ("lamp-{who}-{n}.wav", "in part 2 of the file name"),
}


@pytest.mark.parametrize(("pattern", "where"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_speakers_are_guessed_from_names(pattern: str, where: str) -> None:
    people = ("anna", "ben", "carla")
    recordings = [
        (word, PurePosixPath(pattern.replace("lamp", word).format(who=who, n=n)))
        for word in ("lamp", "off")
        for who in people
        for n in range(3)
    ]
    guess = guess_speakers(recordings)
    assert guess is not None and guess.where == where
    assert guess.speakers == tuple(who for _ in range(2) for who in people for _ in range(3))


def test_names_of_speech_commands_are_taken_at_their_word() -> None:
    """As in a small part of it: nobody says two words."""
    names = ["0a7c2a8d_nohash_0", "0b09edd3_nohash_1", "ffd2ba2f_nohash_0", "f953e1af_nohash_2"]
    guess = guess_speakers([("ab"[n > 1], PurePosixPath(f"{x}.ogg")) for n, x in enumerate(names)])
    assert guess is not None and guess.where == "before _nohash_"
    assert guess.speakers == tuple(name[:8] for name in names)


@pytest.mark.parametrize(
    "names", [["001.wav", "002.wav"], ["take_1.wav", "take_2.wav"], ["f3a9-1.wav", "77bc-2.wav"]]
)
def test_names_that_say_nothing_of_speakers_are_not_guessed(names: list[str]) -> None:
    assert guess_speakers([(w, PurePosixPath(f"{w[0]}{n}")) for w in "ab" for n in names]) is None


def test_whole_speakers_are_held_out(tmp_path: Path) -> None:
    names = [f"{who}_{n}.wav" for who in ("anna", "ben", "carla", "dora", "emil") for n in range(2)]
    found = survey(write(tmp_path, {"lamp": names, "オフ": names}))
    held_out = {take.speaker for take in found.takes if take.held_out}
    assert found.by_speaker and len(held_out) == 1 and found.speakers == 5
    assert not held_out & {take.speaker for take in found.takes if not take.held_out}
    assert found.words == ("lamp", "オフ") and found.counts["オフ"] == 10


def test_of_one_voice_some_recordings_are_held_out(tmp_path: Path) -> None:
    found = survey(write(tmp_path, {"on": ["1.wav", "2.wav", "3.wav", "4.wav"], "off": ["1.wav"]}))
    held_out = [take.word for take in found.takes if take.held_out]
    assert not found.by_speaker and held_out == ["on"]
    assert any("--speaker names them" in note for note in found.notes)


def test_speakers_can_be_named_by_a_pattern(tmp_path: Path) -> None:
    names = ["a1-x.wav", "a2-x.wav", "b1-y.wav", "b2-y.wav"]
    found = survey(write(tmp_path, {"on": names, "off": names}), speaker=r"-(\w)\.wav$")
    assert {take.speaker for take in found.takes} == {"x", "y"}
    with pytest.raises(DataError, match="finds no speaker"):
        survey(tmp_path, speaker=r"-(z)\.wav$")
    with pytest.raises(DataError, match="exactly one group"):
        survey(tmp_path, speaker=r"\d")


def test_folders_that_begin_with_an_underscore_hold_no_words(tmp_path: Path) -> None:
    names = [f"anna_{n}.wav" for n in range(3)]
    layout = {"on": names, "_background_": names, "_unknown_": names, "_Other words": names}
    found = survey(write(tmp_path, layout))
    assert found.words == ("on",)
    assert [path.parent.name for path in found.noises] == ["_background_"] * 3
    assert {path.parent.name for path in found.others} == {"_unknown_", "_Other words"}


def test_words_may_be_under_the_speakers(tmp_path: Path) -> None:
    layout = {who: ["on/1.wav", "on/2.wav", "off/1.wav"] for who in ("anna", "ben", "carla")}
    found = survey(write(tmp_path, layout))
    assert set(found.words) == {"on", "off"} and found.speakers == 3


def test_what_is_no_use_is_said(tmp_path: Path) -> None:
    names = [f"{who}_{n}.wav" for who in ("anna", "ben") for n in range(3)]
    write(tmp_path, {"on": names, "off": names})
    for word in ("on", "off"):
        (tmp_path / word / "anna_8.wav").write_bytes(b"no sound")
    shutil.copy(tmp_path / "on" / "anna_0.wav", tmp_path / "off" / "anna_9.wav")
    shutil.copy(tmp_path / "on" / "ben_0.wav", tmp_path / "on" / "ben_9.wav")
    shutil.copy(tmp_path / "on" / "ben_0.wav", tmp_path / "loose.wav")
    notes = "\n".join(survey(tmp_path).notes)
    assert "left out 1 recordings beside the folders" in notes
    assert "left out 2 of 16 files that cannot be read" in notes
    assert "left out 2 copies" in notes
    assert "left out 1 recordings that stand under several words" in notes


def test_a_recording_whose_header_leaves_its_length_open_is_a_take(tmp_path: Path) -> None:
    """As a recorder leaves a file that it could not finish."""
    write(tmp_path, {"on": ["1.wav", "2.wav", "3.wav", "4.wav"]})
    path = tmp_path / "on" / "1.wav"
    whole = path.read_bytes()
    place = whole.index(b"data") + 4
    path.write_bytes(whole[:place] + bytes(4) + whole[place + 4 :])
    found = survey(tmp_path)
    assert [take.path.name for take in found.takes] == ["1.wav", "2.wav", "3.wav", "4.wav"]
    assert found.takes[0].seconds == pytest.approx(found.takes[1].seconds, rel=0.5)


@pytest.mark.parametrize(
    ("layout", "problem"),
    [
        ({".": ["a.wav"]}, "has no folders of words"),
        ({"on": ["a.wav"]}, r"'on' has too few recordings \(1\).*'asr record'"),
    ],
)
def test_a_folder_that_cannot_be_trained_on_is_one_line(
    tmp_path: Path, layout: dict[str, list[str]], problem: str
) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        survey(write(tmp_path, layout))
    assert "\n" not in str(caught.value)


def test_two_words_with_the_same_recordings_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"on": ["a_1.wav", "a_2.wav"]})
    shutil.copytree(tmp_path / "on", tmp_path / "off")
    with pytest.raises(DataError, match="all recordings of 'off' stand under another word"):
        survey(tmp_path)


# What it amounts to


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """Two words, one of them long, by three people, each file of its own."""
    root = tmp_path_factory.mktemp("words")
    for number in range(3):
        who = speaker(number)
        for word, text in {"yes": "yes", "stop left": "stop left no"}.items():
            for take in range(2):
                path = root / word / f"p{number}_{take}.wav"
                path.parent.mkdir(exist_ok=True)
                quiet = np.zeros(3 * SAMPLE_RATE * (word != "yes"), np.float32)
                sound = np.concatenate([quiet, say(text, who, take), quiet])
                soundfile.write(path, sound, SAMPLE_RATE)
    return survey(root)


def test_the_window_holds_the_longest_words(found: Survey) -> None:
    assert 1.2 < window_of(found.takes) < 2.6


@pytest.mark.slow
def test_the_settings_make_a_corpus_of_words_and_negatives(found: Survey, tmp_path: Path) -> None:
    radio = tmp_path / "radio"
    radio.mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).standard_normal(7 * SAMPLE_RATE)
        soundfile.write(radio / f"{number}.flac", 0.01 * noise, SAMPLE_RATE)
    materials = gather(found, tmp_path / "materials", [radio])
    assert [path.name for path in materials.held_out] == ["4.flac"] and len(
        materials.negatives
    ) == 5
    order = Order(name="lamp", out=tmp_path / "lamp.onnx", folder=tmp_path / "runs")
    config = configure(order, found.takes, materials, NOTHING, "first")
    assert parse_config(parse_toml(as_toml(config)), "toml") == config
    # Without the bundled speech, which takes a while to decode.
    own = tuple(s for s in config.data.sources if "bundled" not in s.name)
    config = replace(config, data=replace(config.data, sources=own))
    corpus = load_corpus(config)
    assert corpus.labels.names == ("stop left", "yes", "_unknown_")
    texts = {example.recording.text for example in corpus.validation}
    assert texts == {"stop left", "yes"}
    unknown = [e for e in corpus.train if e.targets == (2,)]
    sources = {config.data.sources[e.recording.source].name for e in unknown}
    assert sources == {"pieces", "cuts"}
    words = [e for e in corpus.train if e.targets != (2,)]
    assert max(e.samples for e in words) < (materials.window + 0.3) * SAMPLE_RATE
    silent = replace(config, augment=replace(config.augment, voices=0.0))
    talked_over, alone = (epoch_batches(one, corpus, 0)[0].inputs for one in (config, silent))
    assert not torch.equal(talked_over, alone)


@pytest.mark.slow
def test_bundled_negatives_unpack_once(tmp_path: Path) -> None:
    speech, noise = bundled_negatives(tmp_path, 1.0)
    lines = (Path(speech.path) / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    files = {path.name for path in Path(speech.path).glob("*.opus")}
    assert len(lines) == len(files) > 500
    assert {"zeros.flac", "hiss.flac"} < {path.name for path in Path(noise.path).iterdir()}
    (Path(noise.path) / "hiss.flac").unlink()
    bundled_negatives(tmp_path, 1.0)
    assert not (Path(noise.path) / "hiss.flac").exists()


# From a phrase


@needs_espeak
def test_near_misses_differ_from_the_phrase_and_sound_like_it() -> None:
    texts = near_misses(["hey lamp"], "en-us", np.random.default_rng(0))
    assert len(set(texts)) == len(texts) > 20
    (hey, lamp) = phonemes("hey lamp", "en-us")
    assert f"[[{''.join(hey)} {''.join(lamp)}]]" not in texts
    assert {f"[[{''.join(hey)}]]", f"[[{''.join(lamp)}]]", "hey the"} < set(texts) | {"[[h'eI]]"}


# The commands


@needs_espeak
def test_an_interrupted_reading_goes_on_where_it_was(tmp_path: Path) -> None:
    voices = [voice for voice in installed_voices("en") if voice.engine.name == "espeak"]
    readings = list(draw_readings(["hey lamp"], voices, 3, np.random.default_rng(0)))
    paths = [tmp_path / f"{number}.flac" for number in range(3)]
    seconds = read_all(readings, paths)
    paths[1].unlink()
    before = [paths[k].stat().st_mtime_ns for k in (0, 2)]
    assert read_all(readings, paths, resume=True) == seconds
    assert paths[1].exists() and [paths[k].stat().st_mtime_ns for k in (0, 2)] == before
    read_all(readings, paths)
    assert paths[0].stat().st_mtime_ns != before[0]


@needs_espeak
@pytest.mark.slow
def test_a_phrase_alone_becomes_a_model_that_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_asr("new", "hey lamp", "--minutes", "1", "--from", "commands")
    assert result.returncode == 0, result.stderr
    for said in (
        "500 readings",
        "held-out recordings, of synthetic voices",
        "which proves at most",
    ):
        assert said in result.stdout
    assert result.stdout.splitlines()[-1].startswith("wrote hey_lamp.onnx; try it: asr listen")
    model = load(tmp_path / "hey_lamp.onnx")
    assert model.card.alarms and "hey lamp" in model.card.alarms.thresholds
    readings = sorted((tmp_path / "runs/hey_lamp/synthetic").rglob("*.flac"))[::20]
    found = [any(isinstance(event, Detection) for event in spot(model, path)) for path in readings]
    assert len(found) == 25 and sum(found) > len(found) // 3  # of one minute no more can be asked


def test_of_synthetic_voices_the_verdict_asks_for_people(tmp_path: Path) -> None:
    """However good the figures are: with the same figures, nothing is missing of people."""
    voices = [f"{who}_{n}.wav" for who in ("anna", "ben", "carla") for n in range(2)]
    found = survey(write(tmp_path, {"hey lamp": voices}))
    right = {"accuracy": 1.0, "accuracy_interval": (0.9, 1.0), "n": 2}
    labels = {"labels": ["hey lamp"], "confusion": [[2]], "recall": {"hey lamp": 1.0}}
    row = {"miss_rate": 0.0, "miss_interval": (0.0, 0.1), "said": 2, "false_alarms": 0}
    stream = {"all": row}
    thresholds = {"hey lamp": 0.6}
    alarms = Alarms(budget=0.5, hours=10.0, count=0, at_most=0.3, thresholds=thresholds)
    result = Result(load("commands"), right | labels, stream, alarms)
    order = Order("lamp", tmp_path / "lamp.onnx", tmp_path / "runs")
    people, synthetic = (
        "\n".join(verdict(order, found, result, synthetic=kind)) for kind in (False, True)
    )
    assert "of people not trained on" in people and "nothing by these figures" in people
    assert "of synthetic voices not trained on" in synthetic
    assert "missing most: recordings of people" in synthetic
    assert "the budget is not kept" not in people
    nameless = tuple(replace(take, speaker=NOBODY_KNOWN) for take in found.takes)
    unsaid = verdict(order, replace(found, takes=nameless, speakers=1), result)
    assert "missing most: who speaks: file names do not say" in "\n".join(unsaid)
    loud = replace(result, streams={"all": row | {"false_alarms": 6}})
    assert "the budget is not kept" in "\n".join(verdict(order, found, loud))


def test_options_of_folders_are_refused_for_a_toml_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("")
    result = run_asr("train", tmp_path / "a.toml", "--minutes", "5")
    assert result.returncode == 2 and "--minutes is about folders of words" in result.stderr


def test_a_budget_of_nothing_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"on": ["a_1.wav", "a_2.wav", "a_3.wav"]})
    result = run_asr("train", tmp_path, "--false-alarms-per-hour", "0")
    assert result.returncode == 2 and "cannot be proved by any number of hours" in result.stderr


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Two false alarms, a missed word, a phrase with a word in it, and one that nobody reviewed."""
    folder = tmp_path / "kept"
    keeper = Keeper(folder, "lamp", SAMPLE_RATE)
    noise = 0.1 * np.random.default_rng(0).standard_normal(20 * SAMPLE_RATE)
    events = [
        Detection(3.0, "on", 0.9),
        Detection(5.0, "on", 0.9),
        NearMiss(8.0, "off", 0.4, None, None, "below the threshold of 60%"),
        Detection(11.0, "on", 0.8),
        Detection(14.0, "on", 0.7),
    ]
    keeper.push(noise.astype(np.float32), events)
    said = ("", "door bell", "Off", "turn it on")
    names = [moment.audio for moment in read_moments(folder)]
    write_decisions(folder, dict(zip(names, said, strict=False)))
    return folder


@pytest.mark.slow
def test_reviews_are_learned_from(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{who}_{n}.wav" for who in ("anna", "ben", "carla") for n in range(2)]
    words = write(tmp_path / "words", {"on": names, "off": names})
    monkeypatch.chdir(tmp_path)
    options = ("--from", "nothing", "--config", "words.toml")
    result = run_asr("train", words, "--more", kept, *options)
    assert result.returncode == 0, result.stderr
    assert "from reviews: 1 takes of words, 2 of what is none of them" in result.stdout
    assert "left out 1 recordings that are not reviewed yet" in result.stderr
    assert "left out 1 recordings that hold a word among others" in result.stderr
    materials = tmp_path / "runs" / "words" / "materials"
    of_words, false = (
        [json.loads(line) for line in (materials / name).read_text().splitlines()]
        for name in ("reviewed.jsonl", "false_alarms.jsonl")
    )
    (missed,) = of_words
    assert missed["text"] == "off" and 0.5 < missed["duration"] < 3.0
    assert [(row["text"], row["duration"]) for row in false] == [("", 2.5), ("", 2.5)]
    sources = {
        source["name"]: source
        for source in parse_toml(Path("words.toml").read_text())["data"]["sources"]
    }
    assert sources["reviewed"]["weight"] >= 1.0 and "false alarms" in sources


def test_what_nobody_reviewed_is_refused(kept: Path, tmp_path: Path) -> None:
    (kept / "decisions.jsonl").unlink()
    names = [f"{who}_{n}.wav" for who in ("anna", "ben", "carla") for n in range(2)]
    words = write(tmp_path / "words", {"on": names, "off": names})
    result = run_asr("train", words, "--more", kept, "--config", tmp_path / "words.toml")
    assert result.returncode == 2 and "go through it with 'asr review" in result.stderr


@pytest.mark.slow
def test_of_half_corrupt_files_the_rest_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{who}_{n}.wav" for who in ("anna", "ben", "carla") for n in range(4)]
    words = write(tmp_path / "words", {"on": names, "off": names})
    for path in words.glob("*/*_[01].wav"):
        path.write_bytes(path.read_bytes()[:20])  # cut off in the header
    for path in words.glob("*/anna_2.wav"):
        path.write_bytes(path.read_bytes()[:44])  # a header and no sound
    monkeypatch.chdir(tmp_path)
    result = run_asr("train", words, "--from", "nothing", "--config", "words.toml")
    assert result.returncode == 0, result.stderr
    assert "left out 14 of 24 files that cannot be read as sound" in result.stdout
    assert "2 words with 5 recordings each" in result.stdout
    assert Path("words.toml").exists()


@pytest.mark.parametrize(
    ("layout", "problem"),
    [
        ({"on": ["a.wav"]}, "'on' has too few recordings (1)"),
        ({"on": ["a_1.wav", "a_2.wav"], "off": []}, "stand under another word, too"),
    ],
    ids=["one recording", "two words that are the same"],
)
def test_what_cannot_be_trained_on_is_one_line_of_the_command(
    layout: dict[str, list[str]], problem: str, tmp_path: Path
) -> None:
    write(tmp_path, layout)
    if "off" in layout:
        shutil.copytree(tmp_path / "on", tmp_path / "off")
    result = run_asr("train", tmp_path)
    assert result.returncode == 2 and problem in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_negatives_that_hold_the_word_are_listed_and_not_learned(
    keyword_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pause = np.zeros(2 * SAMPLE_RATE, np.float32)
    word, near = (tones("low", seconds=0.5, level=level) for level in (0.4, 0.034))
    radio = tmp_path / "radio.wav"
    soundfile.write(radio, np.concatenate([pause, word, pause, near, pause]), SAMPLE_RATE)
    takes = mine(Watcher(load(keyword_model)), [radio], tmp_path, math.inf)
    assert len(takes) == 1 and takes[0].word == ""
    assert 0.0 < np.abs(soundfile.read(takes[0].path)[0]).max() < 0.1
    assert "1 moments of the negatives sound like the words" in caplog.text
    assert "radio.wav at 2." in caplog.text
    assert "1 hard negatives in" in capsys.readouterr().out
