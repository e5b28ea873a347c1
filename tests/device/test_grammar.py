"""JSGF grammars: what they let a beam search hear, and what is refused."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.beam import BeamDecoder
from asr.decode.guides.grammar import GrammarGuide
from asr.decode.guides.jsgf import Expansion, Grammar, read_grammar
from asr.events import Utterance
from tests.support.tiny_models import card

LETTERS = Alphabet.of(card("ctc", ("<blank>", " ", *"abcdefghijklmnopqrstuvwxyz'")))
WORDS = Alphabet.of(card("ctc", ("<blank>", "turn", "on", "off")))

LAMP = """\ufeff#JSGF V1.0 UTF-8 en;
/* what a lamp
   understands */
grammar lamp;

public <command> = Turn (/0.7/ on | /0.3/ off {tag \\} too}) [the] <what>+ ; // the usual
public <other> = "good  night" | <NULL> | don't*;
<what> = lamp | radio;
"""


def write(path: Path, body: str, head: str = "#JSGF V1.0;\ngrammar g;\n") -> Path:
    path.write_text(head + body, encoding="utf-8")
    return path


def accepts(guide: GrammarGuide, alphabet: Alphabet, text: str) -> bool:
    """Whether a grammar lets a text be spelled, and end."""
    labels = alphabet.spell(text)
    assert labels is not None
    state = guide.start()
    for label in labels:
        if guide.rows([state])[0, label] != 0.0:
            return False
        state = guide.advance(state, label)
    return guide.final(state) == 0.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("turn on lamp", True),
        ("turn off the radio lamp radio", True),
        ("good night", True),
        ("don't don't", True),
        ("turn on", False),
        ("turn lamp", False),
        ("turn on the", False),
        ("turn on lampradio", False),
        ("good", False),
        ("night", False),
        ("tag too", False),
    ],
)
def test_what_a_grammar_says(tmp_path: Path, text: str, said: bool) -> None:
    grammar = read_grammar(write(tmp_path / "lamp.gram", LAMP, head=""))
    assert accepts(GrammarGuide(LETTERS, grammar), LETTERS, text) == said


def test_a_separator_at_the_end_changes_nothing(tmp_path: Path) -> None:
    grammar = read_grammar(write(tmp_path / "g.gram", "public <g> = a b;"))
    guide = GrammarGuide(LETTERS, grammar)
    labels = [*(LETTERS.spell("a b") or ()), 1]
    state = guide.start()
    for label in labels:
        state = guide.advance(state, label)
    assert guide.final(state) == 0.0


def said_by(expansion: Expansion, longest: int) -> set[tuple[str, ...]]:
    """All sentences of at most `longest` words, by the meaning of each operator."""
    inside = [said_by(part, longest) for part in expansion.parts]
    match expansion.kind:
        case "word":
            found = {(expansion.text,)}
        case "any":
            found = set().union(*inside)
        case "all":
            found = {sum(parts, ()) for parts in itertools.product(*inside)}
        case _:
            found, before = set(inside[0]), set()
            while found != before:
                before = found
                found = found | {a + b for a in found for b in inside[0] if len(a + b) <= longest}
    return {sentence for sentence in found if len(sentence) <= longest}


def has_words(expansion: Expansion) -> bool:
    """Whether anything can be said at all, be it a long sentence."""
    return expansion.kind == "word" or any(map(has_words, expansion.parts))


expansions = st.recursive(
    st.sampled_from([Expansion("word", word) for word in ("turn", "on", "off")])
    | st.just(Expansion("all")),
    lambda inside: (
        st.builds(
            Expansion,
            st.sampled_from(["all", "any"]),
            parts=st.lists(inside, min_size=1, max_size=3).map(tuple),
        )
        | inside.map(lambda part: Expansion("many", parts=(part,)))
    ),
    max_leaves=6,
)


@given(expansions)
def test_the_network_says_what_the_operators_mean(expansion: Expansion) -> None:
    said = said_by(expansion, 3)
    if not has_words(expansion):
        with pytest.raises(DecodeError, match="g: says nothing at all; give it a word"):
            GrammarGuide(WORDS, Grammar("g", {}, expansion))
        return
    guide = GrammarGuide(WORDS, Grammar("g", {}, expansion))
    for length in range(4):
        for words in itertools.product(("turn", "on", "off"), repeat=length):
            assert accepts(guide, WORDS, " ".join(words)) == (words in said)


def heard(grammar: Grammar, text: str) -> list[str]:
    """What a beam search within a grammar makes of a text that is spelled clearly."""
    frames = [label for letter in LETTERS.spell(text) or () for label in (letter, 0)]
    log_probs = np.log(np.eye(len(LETTERS.labels), dtype=np.float32)[frames] * 0.9 + 0.1 / 29)
    decoder = BeamDecoder(LETTERS, 16, GrammarGuide(LETTERS, grammar))
    events = [*decoder.push(log_probs), *decoder.finish()]
    return [event.text for event in events if isinstance(event, Utterance)]


def test_the_beam_hears_the_nearest_that_the_grammar_says(tmp_path: Path) -> None:
    grammar = read_grammar(write(tmp_path / "lamp.gram", LAMP, head=""))
    assert heard(grammar, "turn oft the lamp") == ["turn off the lamp"]
    assert heard(grammar, "good nihgt") == ["good night"]


def test_a_command_that_is_broken_off_is_not_heard(tmp_path: Path) -> None:
    grammar = read_grammar(write(tmp_path / "g.gram", "public <g> = turn on the radio;"))
    assert heard(grammar, "turn on the") == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("public <a> = a <b>; <b> = b <a> | c;", "rule <a> refers to itself"),
        ("public <a> = a <b>;", "rule <b> is not defined; write '<b> = ... ;'"),
        ("<a> = a;", "has no rule that is public"),
        ("", "has no rule that is public"),
        ("public <a> = <NULL>;", "says nothing at all; give it a word"),
        ("public <a> = a | ;", "line 3: has an empty alternative"),
        ("public <a> = ;", "line 3: has an empty alternative"),
        ("public <a> = (a | b;", "line 3: has ';' where ')' should be"),
        ("public <a> = a\n", "line 4: has 'the end of the file' where ';' should be"),
        ("public <a> = * ;", "line 3: has '*' where a word or a rule should be"),
        ("\npublic a = b;", "line 4: has 'a' where a rule like '<name> = ... ;' should be"),
        ("import <other.*>;", "imports another grammar, which is not supported"),
        ("public <a> = <VOID>;", "uses <VOID>, which is not supported"),
        ("<a> = a; public <a> = b;", "rule <a> is defined twice"),
        ('public <a> = "open;', "line 3: cannot read '\"' here"),
        ("public <a> = größe;", "the model cannot say 'ß', 'ö' in 'größe'"),
    ],
)
def test_what_is_wrong_with_a_grammar_is_said(tmp_path: Path, body: str, complaint: str) -> None:
    path = write(tmp_path / "bad.gram", body)
    with pytest.raises(DecodeError) as raised:
        GrammarGuide(LETTERS, read_grammar(path))
    assert str(raised.value).startswith(str(path)) and complaint in str(raised.value)


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        ("", "does not begin with '#JSGF V1.0;', so it is no grammar"),
        ("#JSGF V1.0;", "line 1: has 'public' where 'grammar NAME;' should be"),
    ],
)
def test_a_grammar_has_a_head(tmp_path: Path, head: str, complaint: str) -> None:
    path = write(tmp_path / "bad.gram", "public <a> = a;", head)
    with pytest.raises(DecodeError) as raised:
        read_grammar(path)
    assert complaint in str(raised.value)
    with pytest.raises(DecodeError, match="cannot be read as a grammar"):
        read_grammar(tmp_path / "none.gram")
