"""Words by their sound: a search over phonemes, whose words are written by what is likely there."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from asr.decode.alphabet import Alphabet
from asr.decode.beam import BeamDecoder
from asr.decode.lm.language_model import Weights
from asr.decode.lm.ngram import WordModel
from asr.decode.lm.pronounced import PronouncedModel
from asr.decode.spoken import SpokenDecoder
from asr.decode.writer import Writer
from asr.events import Event, Partial, Utterance
from asr.phonemes import SOUNDS, parse_pronunciation
from asr.runtime.scorers import Scores
from tests.support.language_models import built, pronounced
from tests.support.tiny_models import card

LETTERS = Alphabet.of(card("ctc", ("<blank>", " ", "'", *"abcdefghijklmnopqrstuvwxyz")))
PHONEMES = replace(LETTERS, labels=SOUNDS)
SAID = {
    "two": "T UW",
    "too": "T UW",
    "to": "T UW",
    "see": "S IY",
    "sea": "S IY",
    "ships": "SH IH P S",
    "the": "DH AH",
    "i": "AY",
    "like": "L AY K",
}
SENTENCES = [
    "i see the sea",
    "i like the sea",
    "the sea",
    "two ships",
    "two ships",
    "i like two ships",
    "i like to see two ships",
    "i like to see the sea too",
]
WEIGHTS = Weights(alpha=1.0, beta=1.0, oov=0.0)


MODEL = pronounced(built([sentence.split() for sentence in SENTENCES], 3), SAID)
assert MODEL.pronunciations is not None
FOUND = MODEL.pronunciations


def decoder(n_best: int = 1) -> SpokenDecoder:
    guide = WordModel(PHONEMES, PronouncedModel(MODEL, FOUND), WEIGHTS)
    writer = Writer(LETTERS, MODEL, FOUND, WEIGHTS.alpha)
    return SpokenDecoder(LETTERS, PHONEMES, 16, guide, writer, n_best)


def frames(alphabet: Alphabet, text: str, each: int, total: int) -> np.ndarray:
    """Scores of a text: `each` frames a label, a blank after it, blanks up to `total` frames."""
    rows = np.full((total, len(alphabet.labels)), 0.001)
    rows[:, alphabet.blank] = 1.0
    for k, unit in enumerate(text):
        at = 4 + k * (each + 1)
        rows[at : at + each, alphabet.labels.index(unit)] = 4.0
        rows[at : at + each, alphabet.blank] = 0.05
    return np.log(rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def scores(words: str, letters: str | None = None) -> Scores:
    """Somebody says words, and the letters read `letters`, or nothing sure."""
    said = " ".join(
        parse_pronunciation(SAID.get(word, word.replace("_", " "))) for word in words.split(" ")
    )
    total = 20 + 5 * len(said)
    phonemes = frames(PHONEMES, said, 4, total)
    read = np.full((total, len(LETTERS.labels)), -np.log(len(LETTERS.labels)), np.float32)
    if letters is not None:
        each = max(1, 5 * len(said) // len(letters) - 1)
        read = frames(LETTERS, letters, each, total)
    return Scores(0, read, 0, phonemes)


def decoded(given: Scores, cut: int = 10**6, n_best: int = 1) -> list[Event]:
    search = decoder(n_best)
    assert given.phonemes is not None
    events: list[Event] = []
    for start in range(0, len(given.log_probs), cut):
        part = slice(start, start + cut)
        events += search.push(Scores(0, given.log_probs[part], 0, given.phonemes[part]))
    return [*events, *search.finish()]


def utterances(events: Sequence[Event]) -> list[Utterance]:
    return [event for event in events if isinstance(event, Utterance)]


@pytest.mark.parametrize("text", ["i see the sea", "two ships", "i like to see the sea too"])
def test_what_is_said_before_and_after_chooses_among_words_that_sound_alike(text: str) -> None:
    (found,) = utterances(decoded(scores(text)))
    assert found.text == text
    assert [word.text for word in found.words] == text.split()


def test_letters_choose_where_the_language_model_does_not_care() -> None:
    for word in ("two", "too", "to"):
        (found,) = utterances(decoded(scores("two", letters=word)))
        assert found.text == word


def test_what_is_in_no_lexicon_is_written_as_the_letters_spell_it() -> None:
    given = scores("B_AA_B", letters="bob")
    (found,) = utterances(decoded(given))
    assert found.text == "bob"


def test_what_is_in_no_lexicon_and_has_no_letters_is_nothing() -> None:
    given = scores("B_AA_B")
    nothing = frames(LETTERS, "", 1, len(given.log_probs))
    assert utterances(decoded(given._replace(log_probs=nothing))) == []


def test_times_are_those_of_the_letters() -> None:
    given = scores("two ships", letters="two ships")
    (found,) = utterances(decoded(given))
    seconds = len(given.log_probs) * LETTERS.frame_seconds
    assert 0.0 <= found.start < found.words[0].end <= found.words[1].start < found.end <= seconds
    assert ["".join(c.text for c in word.characters) for word in found.words] == ["two", "ships"]


def test_letters_that_cannot_be_fitted_in_leave_the_times_to_the_phonemes() -> None:
    squeezed = scores("two ships")
    assert squeezed.phonemes is not None
    short = Scores(0, squeezed.log_probs[::6], 0, frames(PHONEMES, "tu SIps", 1, 18)[:18])
    given = Scores(0, np.resize(short.log_probs, (18, len(LETTERS.labels))), 0, short.phonemes)
    (found,) = utterances(decoded(given))
    assert found.text == "two ships" and found.start < found.end


@pytest.mark.parametrize("cut", [1, 7, 36])
def test_however_it_is_cut_the_words_are_the_same(cut: int) -> None:
    given = scores("i like to see the sea too", letters="i like to see the sea too")
    whole, parts = utterances(decoded(given)), utterances(decoded(given, cut))
    assert [u.text for u in whole] == [u.text for u in parts]
    assert [w.start for u in whole for w in u.words] == [w.start for u in parts for w in u.words]


def test_what_was_settled_stays() -> None:
    rng = np.random.default_rng(4)
    for _ in range(5):
        given = scores("i like to see the sea too ships the sea i see")
        noise = rng.normal(0.0, 1.5, given.log_probs.shape).astype(np.float32)
        noisy = given._replace(log_probs=given.log_probs + noise)
        events = decoded(noisy, cut=9)
        (final,) = utterances(events)
        settled = [event.stable for event in events if isinstance(event, Partial)]
        assert any(settled)
        for text in settled:
            assert final.text.split()[: len(text.split())] == text.split()


def test_other_texts_are_written_too() -> None:
    (found,) = utterances(decoded(scores("i see the sea"), n_best=4))
    texts = [alternative.text for alternative in found.alternatives]
    assert texts[0] == found.text and len(set(texts)) == len(texts) > 1


def test_scores_without_phonemes_are_refused() -> None:
    with pytest.raises(ValueError, match="no phonemes"):
        decoder().push(scores("two")._replace(phonemes=None))


def test_a_language_model_of_pronunciations_is_the_one_of_words() -> None:
    spoken = PronouncedModel(MODEL, FOUND)
    context = MODEL.start
    for word in ["i", "like", "to", "see", "the", "sea"]:
        number = spoken.lexicon.number(parse_pronunciation(SAID[word]))
        assert number is not None
        score, following = spoken.follow(context, number)
        alike = [other for other in SAID if SAID[other] == SAID[word]]
        likeliest = max(MODEL.score(context, other)[0] for other in alike)
        assert score == likeliest >= MODEL.score(context, word)[0]
        context = following


def test_letters_and_phonemes_that_agree_give_the_same_words() -> None:
    by_letters = BeamDecoder(LETTERS, 16)
    given = scores("two ships", letters="two ships")
    found = [*by_letters.push(given), *by_letters.finish()]
    assert [u.text for u in utterances(found)] == [u.text for u in utterances(decoded(given))]
