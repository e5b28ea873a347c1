"""The beam search of ctc-beam-decoder: the texts of ours, by the definition and side by side."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.lm.arpa import read_arpa, write_arpa
from asr.decode.lm.language_model import Weights
from asr.decode.lm.ngram import language_model
from asr.decode.lm.ngrams import NgramModel
from asr.decode.native import LEAST_LOG_PROB, NativeDecoder, NativeSearch
from asr.decode.options import DecodeOptions, build_decoder
from asr.events import Utterance
from tests.support.commands import ROOT, hide_packages, run_asr
from tests.support.ctc_by_definition import (
    EVERYTHING,
    NAMING,
    SPELLING,
    WEIGHTS,
    Score,
    decode,
    ranked,
    scores_of,
    spoken,
    texts_by_definition,
    utterances,
    word_model,
    word_score,
)
from tests.support.decoding import scored
from tests.support.language_models import write_built
from tests.support.tiny_models import SAMPLE_RATE, WORDS, card, mumble

pytest.importorskip("ctc_beam_decoder")

seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> NgramModel:
    path = tmp_path_factory.mktemp("lm") / "words.arpa"
    write_arpa(word_model(), path)
    return read_arpa(path)


def search(
    alphabet: Alphabet,
    lm: NgramModel | None = None,
    beam: int = EVERYTHING,
    weights: Weights = WEIGHTS,
) -> NativeSearch:
    return NativeSearch(alphabet, beam, lm, weights)


def utterances_of(
    alphabet: Alphabet, log_probs: np.ndarray, native: NativeSearch, cuts: Sequence[int] = ()
) -> list[Utterance]:
    decoder = NativeDecoder(alphabet, native)
    events = [event for part in np.split(log_probs, cuts) for event in decoder.push(scored(part))]
    return [event for event in events + decoder.finish() if isinstance(event, Utterance)]


def check_exact(
    alphabet: Alphabet, log_probs: np.ndarray, native: NativeSearch, score: Score
) -> None:
    assert log_probs.min() > LEAST_LOG_PROB
    expected = ranked(texts_by_definition(alphabet, log_probs), score)
    found = native.best(log_probs)
    assert {text.text: text.score for text in found} == pytest.approx(expected, abs=1e-5)
    assert len(found) == len(expected)
    assert [text.score for text in found] == sorted((t.score for t in found), reverse=True)


@settings(max_examples=40)
@given(seeds, st.integers(1, 6), st.sampled_from([SPELLING, NAMING]))
def test_texts_and_scores_are_those_of_all_paths(
    seed: int, frames: int, alphabet: Alphabet
) -> None:
    log_probs = scores_of(seed, frames, len(alphabet.labels), sharpness=1.0)
    check_exact(alphabet, log_probs, search(alphabet), lambda text: 0.0)


def test_a_model_of_words_counts_as_it_does_in_our_own_search(model: NgramModel) -> None:
    def score(text: str) -> float:
        return word_score(model, text.split())

    guided = search(SPELLING, model)
    for seed in range(20):
        check_exact(SPELLING, scores_of(seed, 5, sharpness=1.0), guided, score)


def test_a_model_in_capitals_counts_as_one_in_lower_case(tmp_path: Path) -> None:
    lower, upper, mixed = (tmp_path / f"{name}.arpa" for name in ("lower", "upper", "mixed"))
    texts = [["ab", "b"], ["ba", "ab", "b"]]
    for path, write in ((lower, str.lower), (upper, str.upper), (mixed, str.title)):
        write_built([list(map(write, text)) for text in texts], 2, path)
    capitals = search(SPELLING, read_arpa(upper), beam=8)
    for seed in range(5):
        log_probs = scores_of(seed, 30, sharpness=1.0)
        assert capitals.best(log_probs) == search(SPELLING, read_arpa(lower), 8).best(log_probs)
    with pytest.raises(DecodeError, match=r"some of its words have capitals, .*without --native"):
        search(SPELLING, read_arpa(mixed))


def test_a_model_of_words_guides_the_search(tmp_path: Path) -> None:
    """Of a narrow beam, where every letter of its word is the less likely one."""
    write_built([["bab"], ["bab"]], 2, tmp_path / "lm.arpa")
    lm = read_arpa(tmp_path / "lm.arpa")
    log_probs = np.log(np.full((5, 4), 0.01, np.float32))
    for frame, (best, second) in enumerate([(2, 3), (0, 0), (3, 2), (0, 0), (2, 3)]):
        log_probs[frame, best], log_probs[frame, second] = np.log([0.55, 0.43])
    weights = Weights(alpha=0.4, beta=0.0, oov=-4.0)
    fusion = language_model(SPELLING, lm, weights)
    for beam in (2, 16):
        (ours,) = utterances(decode(SPELLING, log_probs, fusion, beam))
        (text,) = utterances_of(SPELLING, log_probs, search(SPELLING, lm, beam, weights))
        (alone,) = utterances_of(SPELLING, log_probs, search(SPELLING, None, beam))
        assert (text.text, ours.text, alone.text) == ("bab", "bab", "aba")


@pytest.mark.slow
@settings(max_examples=40)
@given(seeds)
def test_clear_speech_is_recognised_as_by_our_own_search(seed: int) -> None:
    log_probs = spoken(seed, 300, clarity=8.0)
    found = utterances_of(SPELLING, log_probs, search(SPELLING, beam=16))
    ours = utterances(decode(SPELLING, log_probs, beam=16))
    assert [(u.text, u.words, u.start) for u in found] == [(u.text, u.words, u.start) for u in ours]


@settings(max_examples=30)
@given(seeds, st.data())
def test_utterances_do_not_depend_on_the_cutting(seed: int, data: st.DataObject) -> None:
    log_probs = spoken(seed, 200)
    cuts = sorted(data.draw(st.lists(st.integers(0, 200), max_size=6)))
    native = search(SPELLING, beam=8)
    whole = utterances_of(SPELLING, log_probs, native)
    assert utterances_of(SPELLING, log_probs, native, cuts) == whole


def test_reset_forgets_the_open_utterance_and_the_time() -> None:
    decoder = NativeDecoder(SPELLING, search(SPELLING, beam=8))
    log_probs = spoken(3, 40)
    first = [*decoder.push(scored(log_probs)), *decoder.finish()]
    decoder.push(scored(log_probs[:17]))
    decoder.reset()
    assert first and [*decoder.push(scored(log_probs)), *decoder.finish()] == first


@pytest.mark.parametrize("frames", [0, 1, 500])
def test_silence_says_nothing(frames: int) -> None:
    log_probs = np.log(np.tile(np.array([0.97, 0.01, 0.01, 0.01], np.float32), (frames, 1)))
    assert utterances_of(SPELLING, log_probs, search(SPELLING, beam=4)) == []


@pytest.mark.slow
def test_files_are_transcribed_as_by_our_own_search() -> None:
    ours = run_asr("transcribe", ROOT / "samples", "--beam", 16, "--no-lm")
    native = run_asr("transcribe", ROOT / "samples", "--beam", 16, "--no-lm", "--native")
    assert (native.stdout, native.stderr) == (ours.stdout, ours.stderr)
    assert native.returncode == 0 and "enter seven" in native.stdout


def test_the_command_with_a_language_model(tmp_path: Path, speech_model: Path) -> None:
    wav, lm = tmp_path / "mumble.wav", tmp_path / "lm.arpa"
    soundfile.write(wav, mumble(), SAMPLE_RATE)
    write_built([["b"], ["bb", "b"]], 2, lm)
    for flags, text in ([], "a"), (["--lm", lm], "b"), (["--lm", lm, "--lm-weight", 0], "b"):
        result = run_asr("transcribe", wav, "-m", speech_model, "--native", *flags)
        assert (result.stdout, result.stderr) == (f"{text}\n", ""), flags
    flags = ("--format", "json", "--n-best", 3)
    result = run_asr("transcribe", wav, "-m", speech_model, "--native", *flags)
    (segment,) = json.loads(result.stdout)["segments"]
    assert [alternative["text"] for alternative in segment["n_best"]][:2] == ["a", "b"]


def test_what_it_cannot_do_is_one_line(tmp_path: Path, speech_model: Path) -> None:
    words, letters, flat = (tmp_path / name for name in ("words.txt", "letters.arpa", "flat.arpa"))
    words.write_text("a\n")
    write_built([["a", "b"]], 2, letters)
    write_built([["ab", "b"]], 1, flat)
    wav = tmp_path / "a.wav"
    soundfile.write(wav, mumble(), SAMPLE_RATE)
    hidden = hide_packages(tmp_path / "hidden", "ctc_beam_decoder")
    for flags, changes, complaint in [
        (["--words", words], {}, "knows no word list, grammar, hotwords"),
        (["--hotword", "b"], {}, "leave these out, or --native"),
        (["--lm", letters], {}, f"{letters}: the native beam search takes models of words"),
        (["--lm", flat], {}, f"{flat}: KenLM cannot read it (FormatLoadException. This ngram"),
        ([], hidden, 'ctc-beam-decoder is not installed; pip install "earshot-asr[fast]"'),
    ]:
        result = run_asr("transcribe", wav, "-m", speech_model, "--native", *flags, **changes)
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ") and complaint in line, (flags, line)
        assert result.returncode == 2


def test_labels_that_are_words_take_no_model_of_words(model: NgramModel) -> None:
    options = DecodeOptions(native=True, lm=model.path)
    with pytest.raises(DecodeError, match="labels that are characters, and no others"):
        build_decoder(card("ctc", WORDS), options)
