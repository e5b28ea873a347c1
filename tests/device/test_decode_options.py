"""The choices of decoding, from the library and from the command line."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from asr.batch.folder import fingerprint
from asr.decode.base import DecodeError
from asr.decode.keywords.typed import Keyword, SpotOptions
from asr.decode.lm.compact import write_compact
from asr.decode.options import (
    DEFAULT_WEIGHTS,
    SPOKEN_WEIGHTS,
    DecodeOptions,
    read_words,
    weights_in,
)
from asr.events import Utterance
from asr.model import ModelError, load
from asr.recognise import transcribe
from asr.stream import Stream
from tests.support.commands import run_asr
from tests.support.language_models import built, pronounced, write_built
from tests.support.tiny_models import SAMPLE_RATE, mumble, tones


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "mumble.wav"
    soundfile.write(path, mumble(), SAMPLE_RATE)
    return path


@pytest.mark.slow
def test_every_guide_reaches_the_command_line(
    tmp_path: Path, speech_model: Path, recording: Path
) -> None:
    words, grammar, lm = tmp_path / "words.txt", tmp_path / "g.gram", tmp_path / "lm.arpa"
    words.write_text("B\nbb\n")
    grammar.write_text("#JSGF V1.0; grammar g; public <g> = b | c;")
    write_built([["b"], ["b", "b"]], 2, lm)
    for flags, text in [
        ([], "a"),
        (["--beam", 4], "a"),
        (["--words", words], "b"),
        (["--grammar", grammar], "b"),
        (["--hotword", "c", "--hotword", "B"], "b"),
        (["--lm", lm, "--lm-weight", 2], "b"),
        (["--lm", lm, "--lm-weight", 0], "b"),  # "a" is unknown to it
        (["--lm", lm, "--words", words, "--word-bonus", -1], "b"),
    ]:
        result = run_asr("transcribe", recording, "-m", speech_model, *flags)
        assert (result.stdout, result.returncode) == (f"{text}\n", 0), (flags, result.stderr)


def test_alternatives_are_in_the_json(speech_model: Path, recording: Path) -> None:
    flags = ("--format", "json", "--n-best", 3)
    result = run_asr("transcribe", recording, "-m", speech_model, *flags)
    (segment,) = json.loads(result.stdout)["segments"]
    texts = [alternative["text"] for alternative in segment["n_best"]]
    scores = [alternative["score"] for alternative in segment["n_best"]]
    assert texts[:2] == ["a", "b"] and len(texts) == 3
    assert scores == sorted(scores, reverse=True)


def test_what_is_wrong_with_an_option_is_one_line(
    tmp_path: Path, speech_model: Path, recording: Path
) -> None:
    empty, foreign, lm = tmp_path / "empty.txt", tmp_path / "foreign.txt", tmp_path / "lm.arpa"
    empty.write_text("\n")
    foreign.write_text("straße\n")
    write_built([["да", "нет"]], 2, lm)
    grammar = tmp_path / "g.gram"
    grammar.write_text("#JSGF V1.0; grammar g; public <g> = a;")
    for flags, complaint in [
        (["--words", empty], f"{empty}: has no word; write one a line"),
        (["--words", tmp_path / "none.txt"], "none.txt: cannot be read as a word list"),
        (["--words", foreign], "the model cannot say"),
        (["--hotword", "xa"], "hotword: the model cannot say 'x' in 'xa'"),
        (["--lm", lm], f"{lm}: the labels of the acoustic model spell only 0 of its 2 words"),
        (["--lm", foreign], f"{foreign}: has no \\data\\ line"),
        (["--words", foreign, "--grammar", grammar], "exclude each other; give one of them"),
    ]:
        result = run_asr("transcribe", recording, "-m", speech_model, *flags)
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ") and complaint in line, (flags, line)
        assert result.returncode == 2


def test_a_stream_and_a_file_are_decoded_alike(speech_model: Path) -> None:
    model = load(speech_model)
    options = DecodeOptions(words=("ab", "c"), n_best=2)
    audio = tones("a", "b", " ", "c")
    stream = Stream(model, options)
    events = [
        event for part in range(0, len(audio), 777) for event in stream.push(audio[part:][:777])
    ]
    utterances = [event for event in [*events, *stream.finish()] if isinstance(event, Utterance)]
    assert transcribe(model, audio, options=options).segments == tuple(utterances)
    assert [utterance.text for utterance in utterances] == ["ab c"]
    assert [len(word.characters) for word in utterances[0].words] == [2, 1]


def test_keyword_models_take_no_decoding_options(keyword_model: Path) -> None:
    model = load(keyword_model)
    Stream(model, DecodeOptions())
    with pytest.raises(ModelError, match="this model spots keywords; language models, word lists"):
        Stream(model, DecodeOptions(beam=4))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"beam": 0}, "beam 0 follows nothing"),
        ({"n_best": 0}, "n_best 0 gives nothing"),
        ({"lm": "a.lm", "no_lm": True}, "--lm and --no-lm exclude each other"),
        ({"boost": 1.0}, "--boost is about hotwords"),
        ({"trailing_silence": 0.0}, "trailing_silence 0 is no time"),
        ({"hard_limit": math.inf}, "hard_limit inf is no time"),
        ({"words": ("a",), "grammar": "g.gram"}, "exclude each other"),
        ({"native": True, "lm": "lm.onnx"}, "native beam search knows no"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DecodeError, match=complaint):
        DecodeOptions(**wrong)


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        (DecodeOptions(lm_weight=0.5), "--lm-weight"),
        (DecodeOptions(word_bonus=1.0), "--word-bonus"),
        (DecodeOptions(unknown_bonus=1.0), "--unknown-bonus"),
    ],
)
def test_weights_without_a_language_model_are_refused(
    speech_model: Path, options: DecodeOptions, flag: str
) -> None:
    with pytest.raises(DecodeError, match=f"{flag} is about a language model; name one with --lm"):
        Stream(load(speech_model), options)


def test_the_language_model_beside_a_model_is_used(
    tmp_path: Path, speech_model: Path, recording: Path
) -> None:
    """The sound is an "a" or a "b"; that language model knows "b" only."""
    path, words = tmp_path / "mine.onnx", tmp_path / "words.txt"
    path.write_bytes(speech_model.read_bytes())
    words.write_text("a\n")
    write_compact(built([["b"], ["b", "b"]], 2), tmp_path / "mine.lm")
    for options, text in [
        (None, "b"),
        (DecodeOptions(n_best=2), "b"),
        (DecodeOptions(hotword=("b",)), "b"),
        (DecodeOptions(lm_weight=1.0), "b"),
        (DecodeOptions(no_lm=True), "a"),
        (DecodeOptions(words=str(words)), "a"),
    ]:
        assert transcribe(load(path), recording, options=options).text == text, options
    for flags, text in ([], "b"), (["--no-lm"], "a"):
        result = run_asr("transcribe", recording, "-m", path, *flags)
        assert (result.stdout, result.returncode) == (f"{text}\n", 0), result.stderr
    made = {fingerprint(path, options) for options in (DecodeOptions(), DecodeOptions(no_lm=True))}
    write_compact(built([["b"], ["a", "b"]], 2), tmp_path / "mine.lm")
    assert len(made | {fingerprint(path, DecodeOptions())}) == 3


def test_a_guide_that_changed_on_disk_is_read_again(tmp_path: Path, speech_model: Path) -> None:
    words, model = tmp_path / "words.txt", load(speech_model)
    texts: list[str] = []
    for word in ("ab", "b"):
        words.write_text(word)
        options = DecodeOptions(words=str(words))
        texts.append(transcribe(model, tones("a", "b"), options=options).text)
    assert texts == ["ab", "b"]


def test_fingerprints_depend_on_what_files_contain(tmp_path: Path, speech_model: Path) -> None:
    words, copy = tmp_path / "words.txt", tmp_path / "copy.onnx"
    copy.write_bytes(speech_model.read_bytes())
    made: list[str] = []
    for text in ("ab", "ba", "ab"):
        words.write_text(text)
        made.append(fingerprint(copy, DecodeOptions(words=str(words))))
    assert made[0] == made[2] != made[1]
    assert fingerprint(copy, DecodeOptions(hotword=("ab",))) != fingerprint(copy, DecodeOptions())
    with copy.open("ab") as file:
        file.write(b"\0")
    assert fingerprint(copy, DecodeOptions(words=str(words))) != made[0]


def test_endpoint_rules_are_options(speech_model: Path) -> None:
    model = load(speech_model)
    audio = tones("a", *" " * 40, "b")
    patient = DecodeOptions(trailing_silence=60.0)
    assert len(transcribe(model, audio, options=patient).segments) == 1
    hasty = DecodeOptions(trailing_silence=0.1)
    assert len(transcribe(model, audio, options=hasty).segments) == 2


def test_a_word_list_is_lower_case_and_without_repeats(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("Yes no\n\n  YES\tÜber\n")
    assert read_words(path) == ("yes", "no", "über")


def test_fingerprints_do_not_depend_on_where_a_model_and_its_language_model_lie(
    tmp_path: Path, speech_model: Path
) -> None:
    said = {"b": "B IY"}
    keywords = SpotOptions(keywords=(Keyword("b"),))
    made: list[tuple[str, str]] = []
    for name, known in (("here", said), ("there", said), ("other", {"b": "B EH"})):
        folder = tmp_path / name
        folder.mkdir()
        path = folder / "mine.onnx"
        path.write_bytes(speech_model.read_bytes())
        write_compact(pronounced(built([["b"]], 1), known), folder / "mine.lm")
        made.append((fingerprint(path, DecodeOptions()), fingerprint(path, keywords)))
    assert made[0] == made[1]
    assert not set(made[0]) & set(made[2])


def test_the_weights_are_those_of_the_search_that_is_made() -> None:
    english = load("english")
    beside = DecodeOptions(lm=english.language_model)
    assert weights_in(english.card, beside) == SPOKEN_WEIGHTS
    own = replace(beside, lm_weight=0.3)
    assert weights_in(english.card, own) == SPOKEN_WEIGHTS._replace(alpha=0.3)
    assert weights_in(english.card, replace(beside, hotword=("ruby",))) == DEFAULT_WEIGHTS
