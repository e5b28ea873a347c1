"""Whatever stands in a grammar or an ARPA file: it is used, or refused by an error of our own."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode.alphabet import Alphabet
from asr.decode.guides.grammar import GrammarGuide
from asr.decode.guides.jsgf import read_grammar
from asr.decode.lm.arpa import read_arpa
from asr.decode.lm.fusion import Fusion
from asr.decode.lm.language_model import Weights
from asr.decode.lm.ngram import language_model
from asr.decode.lm.ngrams import END, NgramModel
from features.errors import EarshotError
from tests.support import language_models
from tests.support.tiny_models import card

ALPHABETS = [
    Alphabet.of(card("ctc", ("<blank>", " ", *"abc"))),
    Alphabet.of(card("ctc", ("<blank>", "a", "b", "c"))),
    Alphabet.of(card("ctc", ("<blank>", "yes", "no"))),
]
GRAMMAR = """#JSGF V1.0 UTF-8 en; // comment
grammar com.g; public <a> = /1e-3/ a (b | <b>)* {tag \\} //} | "c" [<g.c>]; <b> = c+ /* b */;
<c> = <VOID> | <NULL> | a <c>;"""
ARPA = language_models.ARPA.replace("yes", "a").replace("no", "b")
PIECES = [
    *("#JSGF V1.0;", "grammar g;", "public", "import <x.*>;", "<a>", "<b>", "<g.a>", "<NULL>"),
    *("<VOID>", "=", ";", "|", "(", ")", "[", "]", "*", "+", "{", "}", "/", "/0/", "/1e-3/"),
    *("//", "/*", "*/", '"', "\\", "a", "b", "B", "\n", "\0", "\u2028", "\ufeff"),
    *("\\data\\", "\\1-grams:", "\\2-grams:", "\\3-grams:", "\\end\\", "ngram 1=1", "ngram 2=²"),
    *("-1", "nan", "-inf", "1e999", "<s>", "</s>", "<unk>", "<UNK>", "<space>", "\t", "\r"),
]
pieces = st.sampled_from(PIECES) | st.text(max_size=2)


@st.composite
def damaged(draw: st.DrawFn, whole: str) -> bytes:
    """A file with some places of it replaced by something else; now and then, anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=50))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(whole)))
        end = draw(st.integers(start, min(len(whole), start + draw(st.integers(0, 20)))))
        whole = whole[:start] + " ".join(draw(st.lists(pieces, max_size=3))) + whole[end:]
    return whole.encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "guide"


def check_guide(guide: Fusion, alphabet: Alphabet) -> None:
    """Follow whatever a guide allows for a while; no score is a nan, or above all bounds."""
    states = [guide.start()]
    for _ in range(4):
        rows = guide.rows(states)
        assert rows.shape == (len(states), len(alphabet.labels))
        assert not np.isnan(rows).any() and (rows < math.inf).all()
        assert (rows[:, alphabet.blank] == 0.0).all()
        assert all(guide.final(state) < math.inf for state in states)
        grown = [(k, label) for k, label in np.argwhere(rows > -math.inf) if label]
        states = [guide.advance(states[k], int(label)) for k, label in grown[:4]] or states


def test_the_undamaged_files_are_used(path: Path) -> None:
    path.write_text(GRAMMAR)
    check_guide(GrammarGuide(ALPHABETS[0], read_grammar(path)), ALPHABETS[0])
    path.write_text(ARPA)
    assert read_arpa(path).vocabulary == ["a", "b"]


@settings(max_examples=150, deadline=None)
@given(damaged(GRAMMAR))
def test_any_grammar_is_used_or_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for alphabet in ALPHABETS:
        try:
            guide = GrammarGuide(alphabet, read_grammar(path))
        except EarshotError as error:
            assert str(error).startswith(str(path))
        else:
            check_guide(guide, alphabet)


def check_model(model: NgramModel) -> None:
    context = model.start
    for word in [*model.vocabulary, None, END, *model.vocabulary]:
        score, context = model.score(context, word)
        assert math.isfinite(score)


@settings(max_examples=150, deadline=None)
@given(damaged(ARPA))
def test_any_arpa_file_is_used_or_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for alphabet in ALPHABETS:
        try:
            model = read_arpa(path)
            check_model(model)
            guide = language_model(alphabet, model, Weights(0.5, 1.0, -3.0))
        except EarshotError as error:
            assert str(error).startswith(str(path))
        else:
            check_guide(guide, alphabet)
