"""Prefix beam search against the definition: every path of a small utterance, summed by text."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.beam import BeamDecoder
from asr.decode.greedy import GreedyDecoder
from asr.decode.guides.hotwords import Hotwords
from asr.decode.guides.word_list import WordList
from asr.decode.lm.fusion import Fusion, Sum
from asr.decode.lm.ngram import language_model
from asr.events import Partial, Utterance
from tests.support.ctc_by_definition import (
    NAMING,
    PAUSE,
    SPELLING,
    WEIGHTS,
    check_exact,
    decode,
    scores_of,
    sentence_score,
    spoken,
    texts_by_definition,
    utterances,
    word_model,
    word_score,
)
from tests.support.decoding import scored
from tests.support.language_models import model_of

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(0, 6))
def test_texts_and_scores_are_those_of_all_paths(seed: int, frames: int) -> None:
    check_exact(SPELLING, scores_of(seed, frames), None, lambda text: 0.0)


@given(seeds, st.integers(0, 7))
def test_labels_that_are_words_are_exact_too(seed: int, frames: int) -> None:
    check_exact(NAMING, scores_of(seed, frames, labels=3), None, lambda text: 0.0)


@given(seeds, st.integers(1, 6))
def test_a_word_list_allows_its_words_only(seed: int, frames: int) -> None:
    words = {"a", "ab", "bb"}
    fusion = WordList(SPELLING, words)

    def allow(text: str) -> float:
        return 0.0 if set(text.split()) <= words else -math.inf

    check_exact(SPELLING, scores_of(seed, frames), fusion, allow)


@given(seeds, st.integers(1, 6))
def test_a_model_of_words_counts_for_whole_words(seed: int, frames: int) -> None:
    model = word_model()

    def score(text: str) -> float:
        return word_score(model, text.split())

    fusion = language_model(SPELLING, model, WEIGHTS)
    check_exact(SPELLING, scores_of(seed, frames), fusion, score)


@given(seeds, st.integers(1, 6))
def test_a_model_of_characters_counts_for_each(seed: int, frames: int) -> None:
    table = {
        ("<s>",): (-99.0, -0.1),
        ("</s>",): (-1.5, 0.0),
        ("a",): (-0.9, -0.4),
        ("<space>",): (-1.2, -0.6),
        ("a", "<space>"): (-0.3, 0.0),
        ("<s>", "a"): (-0.5, 0.0),
    }
    model = model_of(table, "characters.arpa")

    def score(text: str) -> float:
        units = ["<space>" if letter == " " else letter for letter in text]
        unknown = sum(not model.knows(unit) for unit in units)
        words = WEIGHTS.beta * len(text.split())
        return sentence_score(model, units, WEIGHTS.alpha) + words + WEIGHTS.oov * unknown

    fusion = language_model(SPELLING, model, WEIGHTS)
    check_exact(SPELLING, scores_of(seed, frames), fusion, score)


def hotword_score(text: str, phrases: Sequence[str], boost: float) -> float:
    """The boost of the phrases that stand in a text as whole words."""
    return sum(
        boost
        * (len(phrase) + 1)
        * f" {text} ".replace(" ", "  ").count(f" {phrase.replace(' ', '  ')} ")
        for phrase in phrases
    )


@given(seeds, st.integers(1, 6))
def test_hotwords_are_boosted_when_they_are_complete(seed: int, frames: int) -> None:
    phrases = ("ab", "b a")
    fusion = Hotwords(SPELLING, phrases, 0.8)

    def score(text: str) -> float:
        return hotword_score(text, phrases, 0.8)

    check_exact(SPELLING, scores_of(seed, frames), fusion, score)


@given(seeds, st.integers(1, 6))
def test_guides_add_up(seed: int, frames: int) -> None:
    words = {"a", "ab"}
    fusion = Sum([WordList(SPELLING, words), Hotwords(SPELLING, ["ab"], 0.8)])

    def score(text: str) -> float:
        listed = set(text.split()) <= words
        return hotword_score(text, ["ab"], 0.8) if listed else -math.inf

    check_exact(SPELLING, scores_of(seed, frames), fusion, score)


@settings(max_examples=30)
@given(seeds, st.data())
def test_utterances_do_not_depend_on_the_cutting(seed: int, data: st.DataObject) -> None:
    log_probs = spoken(seed, 200)
    cuts = sorted(data.draw(st.lists(st.integers(0, 200), max_size=6)))
    fusion = language_model(SPELLING, word_model(), WEIGHTS)
    whole = utterances(decode(SPELLING, log_probs, fusion, 8))
    assert utterances(decode(SPELLING, log_probs, fusion, 8, cuts)) == whole


@pytest.mark.slow
@settings(max_examples=40)
@given(seeds, st.sampled_from([None, "words", "hotwords", "model"]))
def test_stable_words_never_change(seed: int, guide: str | None) -> None:
    fusions = {
        "words": WordList(SPELLING, ["a", "ab", "bab"]),
        "hotwords": Hotwords(SPELLING, ["ab a"], 2.0),
        "model": language_model(SPELLING, word_model(), WEIGHTS),
    }
    stable: list[str] = []
    for event in decode(SPELLING, spoken(seed, 200), fusions.get(guide or ""), 6, range(5, 200, 5)):
        words = (event.stable if isinstance(event, Partial) else event.text).split()
        assert words[: len(stable)] == stable
        stable = [] if isinstance(event, Utterance) else words
        assert isinstance(event, Utterance) or event.text.split()[: len(words)] == words


def test_words_become_stable_while_somebody_talks() -> None:
    log_probs = scores_of(1, 60, sharpness=4.0)
    reported = [
        e for e in decode(SPELLING, log_probs, beam=4, cuts=range(60)) if isinstance(e, Partial)
    ]
    assert len({partial.stable for partial in reported}) == 3


@settings(max_examples=40)
@given(seeds)
def test_clear_speech_reads_as_the_greedy_decoder_reads_it(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, 150)
    log_probs = np.log(np.eye(4, dtype=np.float32)[labels] * 0.9996 + 1e-4)
    greedy = GreedyDecoder(SPELLING)
    expected = utterances([*greedy.push(scored(log_probs)), *greedy.finish()])
    found = utterances(decode(SPELLING, log_probs, beam=4))
    assert [(u.text, u.words) for u in found] == [(u.text, u.words) for u in expected]


def test_a_pause_ends_an_utterance_and_times_go_on() -> None:
    labels = [2] + [0] * PAUSE + [3]
    log_probs = np.log(np.eye(4, dtype=np.float32)[labels] * 0.9996 + 1e-4)
    first, second = utterances(decode(SPELLING, log_probs, beam=4))
    assert (first.text, first.start, first.end) == ("a", 0.0, 0.01)
    assert (second.text, second.start) == ("b", pytest.approx((PAUSE + 1) * 0.01))


def test_what_a_word_list_cannot_finish_is_left_out() -> None:
    labels = [2, 3, 1, 3]
    log_probs = np.log(np.eye(4, dtype=np.float32)[labels] * 0.9996 + 1e-4)
    fusion = WordList(SPELLING, ["ab", "bbbb"])
    (event,) = utterances(decode(SPELLING, log_probs, fusion, beam=1))
    assert event.text == "ab"


def test_a_talked_in_word_has_a_low_confidence() -> None:
    log_probs = scores_of(0, 6, sharpness=0.5)
    log_probs[:3] = np.log([0.01, 0.01, 0.97, 0.01])
    fusion = WordList(SPELLING, ["ab"])
    (event,) = utterances(decode(SPELLING, log_probs, fusion))
    (word,) = event.words
    masses = texts_by_definition(SPELLING, log_probs)
    assert word.confidence == pytest.approx(math.exp(masses["ab"]))
    assert word.confidence < math.exp(max(masses.values()))


def test_reset_forgets_the_open_utterance_and_the_time() -> None:
    decoder = BeamDecoder(SPELLING, 8)
    log_probs = spoken(3, 40)
    first = [*decoder.push(scored(log_probs)), *decoder.finish()]
    decoder.push(scored(log_probs[:17]))
    decoder.reset()
    assert [*decoder.push(scored(log_probs)), *decoder.finish()] == first


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda a: WordList(a, []), "the word list is empty; give at least one word"),
        (lambda a: WordList(a, ["ab", "axb"]), "word list: the model cannot say 'x' in 'axb'"),
        (lambda a: Hotwords(a, ["ä b"], 1.0), "hotword: the model cannot say 'ä' in 'ä b'"),
    ],
)
def test_what_the_model_cannot_say_is_named(
    make: Callable[[Alphabet], Fusion], complaint: str
) -> None:
    with pytest.raises(DecodeError) as raised:
        make(SPELLING)
    assert str(raised.value).startswith(complaint)


@pytest.mark.parametrize("words", [["äb", "b2", "a"], ["да", "нет", "a"]])
def test_a_language_model_of_another_alphabet_is_refused(words: list[str]) -> None:
    model = model_of({(word,): (-1.0, 0.0) for word in words}, "other.arpa")
    with pytest.raises(DecodeError, match=r"other\.arpa: .* only 1 of its 3 words; give"):
        language_model(SPELLING, model, WEIGHTS)
