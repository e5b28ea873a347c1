"""Phonemes: how words are said, and a model that learns to read them beside the letters."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import asr
from asr.card import CardError
from asr.decode.lm.compact import read_compact, write_compact
from asr.decode.options import DecodeOptions, build_decoder
from asr.decode.spoken import SpokenDecoder
from asr.phonemes import LETTERS, PronunciationError, parse_pronunciation, shown_pronunciation
from asr.training import pronounce as pronounce_module
from asr.training.data.labels import Labels
from asr.training.data.sounds import Sounds
from asr.training.ngrams.pronounce import UnpronouncedError, pronounce
from asr.training.pronounce import pronounced, pronunciations
from asr.training.voices import espeak
from tests.support.commands import hide_packages, run_asr
from tests.support.language_models import built, write_built
from tests.support.tiny_training import write_speech_recipe

SENTENCES = ["two ships see the sea", "i like two ships", "the zyzzgrub likes the sea too"]


def test_pronunciations_are_read_and_shown_in_the_notation_of_cmudict() -> None:
    assert parse_pronunciation(" ih1 R SH AA2 T") == parse_pronunciation("IH R SH AA T")
    assert shown_pronunciation(parse_pronunciation("IH1 R SH AA2 T")) == "IH R SH AA T"
    every = " ".join(LETTERS)
    assert shown_pronunciation(parse_pronunciation(every)) == every
    assert len(set(LETTERS.values())) == len(LETTERS) == 39


@pytest.mark.parametrize(("text", "problem"), [("", "empty"), ("T UW X", "'X' is no phoneme")])
def test_what_is_no_pronunciation_is_refused_with_the_phonemes(text: str, problem: str) -> None:
    with pytest.raises(PronunciationError, match=f"{problem}.*write those of CMUdict: AA AE"):
        parse_pronunciation(text)


@pytest.mark.slow
def test_words_are_said_as_in_cmudict_each_way_once() -> None:
    said = [shown_pronunciation(one) for one in pronunciations("tomato")]
    assert said == ["T AH M EY T OW", "T AH M AA T OW"]
    assert pronunciations("thinkengine") == ["".join(pronounced(["think", "engine"]) or [])]
    assert pronounced(["two", "ships"]) == [pronunciations("two")[0], pronunciations("ships")[0]]


@pytest.mark.skipif(not espeak.Espeak().voices("en"), reason="eSpeak NG is not installed")
def test_other_words_are_said_as_espeak_reads_them() -> None:
    (said,) = pronunciations("zyzzgrub")
    assert shown_pronunciation(said) == "Z IH Z G R AH B"
    agreeing = [
        espeak_reads in pronunciations(word)
        for word in ("ship", "garden", "cheese", "morning", "about", "thing", "yellow", "quick")
        for espeak_reads in _by_espeak(word)
    ]
    assert sum(agreeing) >= len(agreeing) - 2


def _by_espeak(word: str) -> list[str]:
    return pronounce_module._guessed(word)


def test_targets_have_a_boundary_between_words() -> None:
    labels = Labels(["<blank>", " ", *"abcdefghijklmnopqrstuvwxyz"], task="ctc")
    targets = labels.encode("two ships")
    assert targets is not None
    found = Sounds(labels).of(targets)
    words = pronounced(["two", "ships"])
    assert words is not None and len(found) == len(" ".join(words))


def test_a_text_that_nobody_can_say_has_no_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    labels = Labels(["<blank>", " ", *"abcdefghijklmnopqrstuvwxyz"], task="ctc")
    targets = labels.encode("two qqzrxx")
    assert targets is not None
    assert Sounds(labels).of(targets) == ()


def test_a_pronounced_language_model_is_kept_in_its_file(tmp_path: Path) -> None:
    model = built([sentence.split() for sentence in SENTENCES], 3)
    said, unsaid = pronounce(model)
    assert unsaid == [] or unsaid == ["zyzzgrub"]
    write_compact(said, tmp_path / "said.lm")
    found, expected = read_compact(tmp_path / "said.lm").pronunciations, said.pronunciations
    assert found is not None and expected is not None
    assert found.lexicon.words == expected.lexicon.words
    for pronunciation in expected.lexicon.words:
        number = expected.lexicon.number(pronunciation)
        assert number is not None and found.lexicon.number(pronunciation) == number
        assert found.alike(number) == expected.alike(number)
    assert found.look_ahead[:] == pytest.approx(expected.look_ahead[:], abs=0.2)


def test_a_language_model_without_english_words_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(UnpronouncedError, match="none of its words can be pronounced"):
        pronounce(built([["qqzrxx", "zzqqx"]], 2))


@pytest.mark.slow
def test_the_command_says_what_it_pronounced(tmp_path: Path) -> None:
    write_built([sentence.split() for sentence in SENTENCES], 3, tmp_path / "lm.arpa")
    result = run_asr("lm", "pronounce", tmp_path / "lm.arpa", tmp_path / "said.lm")
    assert result.returncode == 0, result.stderr
    assert "words are pronounced" in result.stderr
    assert read_compact(tmp_path / "said.lm").pronunciations is not None


def test_without_the_packages_for_training_it_says_what_to_install(tmp_path: Path) -> None:
    write_built([sentence.split() for sentence in SENTENCES], 3, tmp_path / "lm.arpa")
    hidden = hide_packages(tmp_path / "hidden", "cmudict")
    result = run_asr("lm", "pronounce", tmp_path / "lm.arpa", tmp_path / "said.lm", **hidden)
    assert result.returncode == 2 and "earshot-asr[train]" in result.stderr


@pytest.mark.slow
def test_a_model_that_reads_phonemes_is_searched_by_sound(
    exported_run: Callable[[str, str], Path], tmp_path: Path
) -> None:
    exported = asr.load(exported_run("latency-controlled", "phonemes") / "new" / "tiny.onnx")
    said, _ = pronounce(built([["no", "one"], ["one", "no"]], 2))
    write_compact(said, tmp_path / "said.lm")
    options = DecodeOptions(lm=tmp_path / "said.lm")
    assert isinstance(build_decoder(exported.card, options), SpokenDecoder)
    assert not isinstance(build_decoder(exported.card, DecodeOptions(n_best=2)), SpokenDecoder)
    with pytest.raises(CardError, match="phonemes are others"):
        replace(exported.card, phonemes=("<blank>", "a"))


@pytest.mark.slow
def test_training_reads_phonemes_and_goes_on_from_the_file(tmp_path: Path) -> None:
    recipe = write_speech_recipe(tmp_path)
    brief = ("optimisation.epochs=2", "optimisation.evaluate_every=10", "model.head.phonemes=true")
    result = run_asr("train", recipe, *brief, "optimisation.consistency=0.2")
    assert result.returncode == 0, result.stderr
    metrics = (tmp_path / "runs" / "speech" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(metrics[-1])["per"] > 0.0
    result = run_asr("export", tmp_path / "runs" / "speech", tmp_path / "speech.onnx")
    assert result.returncode == 0, result.stderr
    again = ("name=again", f"optimisation.start={tmp_path / 'speech.onnx'}")
    result = run_asr("train", recipe, *brief, *again)
    assert result.returncode == 0, result.stderr
    started = next(line for line in result.stdout.splitlines() if line.startswith("starting with"))
    whole, all_of_them = started.split()[2], started.split()[4]
    assert whole == all_of_them
