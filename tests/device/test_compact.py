"""Compact language models: the same as the ARPA file, opened at once, and refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.lm import compact
from asr.decode.lm.compact import Offsets, read_compact, write_compact
from asr.decode.lm.language_model import Weights
from asr.decode.lm.lexicon import Lexicon
from asr.decode.lm.ngram import language_model
from asr.decode.lm.ngrams import NgramModel
from asr.decode.options import read_lm
from asr.files import ReadError
from features.errors import EarshotError
from tests.support.commands import run_asr
from tests.support.language_models import built, write_built
from tests.support.tiny_models import card

LETTERS = Alphabet.of(card("ctc", ("<blank>", " ", "'", *"abcdefghijklmnopqrstuvwxyz")))
RNG = np.random.default_rng(0)
WORDS = sorted({"".join(RNG.choice(list("abcdeé'"), 1 + k % 7)) for k in range(400)})
SENTENCES = [[WORDS[int(k)] for k in RNG.zipf(1.3, 8) % len(WORDS)] for _ in range(600)]


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return built(SENTENCES, 3)


@pytest.fixture(scope="module")
def path(model: NgramModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compact") / "lm.lm"
    write_compact(model, path)
    return path


def test_a_compact_file_says_what_the_model_says(model: NgramModel, path: Path) -> None:
    found = read_compact(path)
    assert (found.vocabulary, found.order) == (model.vocabulary, 3)
    assert all(found.number(word) == model.number(word) for word in [*WORDS, "zzz", ""])
    errors: list[float] = []
    for sentence in SENTENCES[:50]:
        before, context = found.start, model.start
        for word in [*sentence, "zzz"]:
            score, before = found.score(before, word)
            expected, context = model.score(context, word)
            assert before == context
            errors.append(score - expected)
    assert max(map(abs, errors)) < 0.3 and np.sqrt(np.mean(np.square(errors))) < 0.03


def test_values_that_are_few_are_kept_exactly(tmp_path: Path) -> None:
    model = built(SENTENCES[:5], 3)
    write_compact(model, tmp_path / "lm.lm")
    found = read_compact(tmp_path / "lm.lm")
    for level, expected in zip(found.levels, model.levels, strict=True):
        assert level.log_p[:] == pytest.approx(np.asarray(expected.log_p[:]), abs=1e-5)
    assert found.look_ahead[:] == pytest.approx(np.asarray(model.look_ahead[:]), abs=1e-5)


def test_the_search_uses_both_alike(path: Path, model: NgramModel) -> None:
    weights = Weights(0.7, 0.5, -1.0)
    ours, theirs = (language_model(LETTERS, lm, weights) for lm in (model, read_compact(path)))
    text = LETTERS.must_spell(f"{' '.join(SENTENCES[0]).replace('é', 'e')} qqq x", "test")
    totals = []
    for guide in (ours, theirs):
        state, total = guide.start(), 0.0
        for label in text:
            total += guide.rows([state])[0, label]
            state = guide.advance(state, label)
        totals.append(total + guide.final(state))
    assert totals[0] == pytest.approx(totals[1], abs=1.0)


def test_offsets_are_those_that_they_were_made_of() -> None:
    offsets = np.cumsum(RNG.integers(0, 500, 1000))
    stored = dict(compact._offsets("x", offsets))
    found = Offsets(stored["x base"], stored["x"])
    assert stored["x"].itemsize == 2
    assert (found[:] == offsets).all() and (found[100:165] == offsets[100:165]).all()
    assert [found[k] for k in (0, 63, 64, 999)] == offsets[[0, 63, 64, 999]].tolist()
    far = offsets * 10_000
    assert [name for name, _ in compact._offsets("x", far)] == ["x"]


@settings(max_examples=50)
@given(st.lists(st.text(max_size=6).filter(bool), unique=True, max_size=30), st.text(max_size=6))
def test_a_lexicon_has_its_words_and_no_others(words: list[str], other: str) -> None:
    lexicon = Lexicon.build(words, 3)
    assert lexicon.words == words
    assert [lexicon.number(word) for word in words] == list(range(3, 3 + len(words)))
    assert (lexicon.number(other) is not None) == (other in words)
    letters = set("".join(words[::2]))
    assert lexicon.spelt_with(letters) == sum(set(word) <= letters for word in words)
    scores = np.arange(3.0 + len(words))
    assert not words or lexicon.best_below(scores)[0] == scores[-1]


def test_spellings_add_up_and_prefer_what_words_are_like() -> None:
    spelling = Lexicon.build(WORDS, 3).spelling
    assert np.exp(spelling.log_p[:]).reshape(-1, spelling.letters).sum(axis=1) == pytest.approx(1.0)
    lexicon = Lexicon.build(["banana", "bandana", "cabana"], 3)
    assert lexicon.spelled("canana") > lexicon.spelled("nnnbbb")


def test_any_piece_of_a_file_is_refused(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    for length in (0, 5, 20, 200, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.lm").write_bytes(content[:length])
        with pytest.raises((DecodeError, ReadError)) as raised:
            read_compact(tmp_path / "cut.lm")
        assert "cut.lm: " in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda c: c[:14] + b"\x02" + c[15:],
            "is .* of version 2, and this program reads version 1",
        ),
        (lambda c: c + b"more", "is cut off after .* bytes, or too long; copy it again"),
        (lambda c: c[:-1], "is cut off after"),
        (lambda c: c[:40] + b"?" + c[41:], "is damaged; copy it again"),
        (
            lambda c: b"nothing of the kind",
            "has no .data. line, so it is no ARPA file; make one with",
        ),
    ],
)
def test_a_file_that_is_no_whole_one_is_one_line(
    path: Path, tmp_path: Path, change, complaint: str
) -> None:
    other = tmp_path / "other.lm"
    other.write_bytes(change(path.read_bytes()))
    with pytest.raises(EarshotError, match=rf"other\.lm: {complaint}") as raised:
        read_lm(other)
    assert "\n" not in str(raised.value)


def test_a_file_of_other_letters_is_one_line(tmp_path: Path) -> None:
    write_compact(built([["да", "нет"], ["a"]], 2), tmp_path / "other.lm")
    with pytest.raises(DecodeError, match=r"other\.lm: .* spell only 1 of its 3 words; give"):
        language_model(LETTERS, read_compact(tmp_path / "other.lm"), Weights(0.5, 0.0, 0.0))


def test_the_commands_make_and_use_it(tmp_path: Path) -> None:
    text, arpa = tmp_path / "text.txt", tmp_path / "lm.arpa"
    text.write_text("\n".join(" ".join(sentence) for sentence in SENTENCES[:100]))
    write_built(SENTENCES[:100], 3, arpa)
    result = run_asr("lm", "compact", arpa, tmp_path / "a.lm")
    assert (result.returncode, result.stdout) == (0, "") and "a.lm, 0." in result.stderr
    result = run_asr("lm", "build", text, "-o", tmp_path / "b.lm")
    assert result.returncode == 0, result.stderr
    found = [run_asr("lm", "perplexity", tmp_path / name, text).stdout for name in ("a.lm", "b.lm")]
    assert found[0] == found[1] and found[0].startswith("perplexity ")
    exact = run_asr("lm", "perplexity", arpa, text).stdout.split()[1]
    assert float(found[0].split()[1]) == pytest.approx(float(exact), rel=0.01)
