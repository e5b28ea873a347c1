"""JSGF grammars: what a beam search recognises within them, and what is refused."""

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
from asr.files import ReadError
from tests.support.decoding import scored
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
def test_a_grammar_accepts_its_sentences_only(tmp_path: Path, text: str, said: bool) -> None:
    grammar = read_grammar(write(tmp_path / "lamp.gram", LAMP, head=""))
    assert accepts(GrammarGuide(LETTERS, grammar), LETTERS, text) == said


@pytest.mark.parametrize(
    ("body", "said", "not_said"),
    [
        ("public <g> = on {http://a} | off {'} // ';\n;", ["on", "off"], ["http"]),
        ("public <g> = {a \\} b} on;", ["on"], []),
        ("public <g> = /1e-3/ on | /.5E+2f/ off | /3d/ dim /* // */;", ["on", "off", "dim"], []),
        ("public <g> = /0/ on | /0.0/ (off | dim) | up;", ["up"], ["on", "off", "dim"]),
        ("public <g> = <g.x> <y>; <x> = on; <g.y> = off;", ["on off"], ["on", "off"]),
        ("public <g> = on <g> | off;", ["off", "on off", "on on off"], ["on", "on off off"]),
        ("public <g> = on (up <h> | off); <h> = dim [<g>];", ["on up dim on off"], ["on on off"]),
        ("public <g> = on <VOID> | [<VOID>] off;", ["off"], ["on", "on off"]),
        ("public <g> = (<VOID>)+ | <VOID>* on;", ["on"], []),
        ("public <g> = on//off\n| /* a\n; */ off;", ["on", "off"], ["on off"]),
        ("public <g> = <a/|b=c;+>; <a/|b=c;+> = on;", ["on"], []),
    ],
)
def test_legal_grammars_are_read(
    tmp_path: Path, body: str, said: list[str], not_said: list[str]
) -> None:
    grammar = read_grammar(write(tmp_path / "g.gram", body))
    guide = GrammarGuide(LETTERS, grammar)
    assert [accepts(guide, LETTERS, text) for text in said] == [True] * len(said)
    assert not any(accepts(guide, LETTERS, text) for text in not_said)


def test_quotes_hold_any_sign(tmp_path: Path) -> None:
    grammar = read_grammar(write(tmp_path / "g.gram", r'public <g> = "On  // {;" "a \"b\\";'))
    words = Expansion("word", "on // {;"), Expansion("word", 'a "b\\')
    assert grammar.rules == {"<g>": Expansion("all", parts=words)}


def test_rules_are_named_with_the_package_or_without(tmp_path: Path) -> None:
    head = "#JSGF V1.0;\ngrammar com.acme.lamp;\n"
    body = "public <g> = <com.acme.lamp.x> <lamp.x> <x>; <x> = on;"
    guide = GrammarGuide(LETTERS, read_grammar(write(tmp_path / "g.gram", body, head)))
    assert accepts(guide, LETTERS, "on on on")


def test_what_leads_nowhere_is_not_begun(tmp_path: Path) -> None:
    body = "public <g> = a <VOID> | b <h> | c; <h> = d <h>;"
    guide = GrammarGuide(LETTERS, read_grammar(write(tmp_path / "g.gram", body)))
    (row,) = guide.rows([guide.start()])
    assert [LETTERS.labels[label] for label in np.flatnonzero(row == 0.0)] == ["<blank>", "c"]


@pytest.mark.parametrize("depth", [100, pytest.param(20_000, marks=pytest.mark.slow)])
def test_nesting_can_be_deep(tmp_path: Path, depth: int) -> None:
    chain = "".join(f"<r{k + 1}> = <r{k}>;" for k in range(depth))
    for body in [
        "public <g> = " + "(" * depth + "on" + ")" * depth + ";",
        "public <g> = " + "[" * depth + "on" + "]" * depth + ";",
        "public <g> = " + "(" * depth + "on" + ")+" * depth + ";",
        f"<r0> = on; {chain} public <g> = <r{depth}>;",
    ]:
        guide = GrammarGuide(LETTERS, read_grammar(write(tmp_path / "g.gram", body)))
        assert accepts(guide, LETTERS, "on") and not accepts(guide, LETTERS, "off")


@pytest.mark.parametrize("levels", [18, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "last", ["on", *(pytest.param(name, marks=pytest.mark.slow) for name in ("<NULL>", "<VOID>"))]
)
def test_rules_that_double_are_read_and_refused_as_a_guide(
    tmp_path: Path, levels: int, last: str
) -> None:
    doubling = "".join(f"<r{k + 1}> = <r{k}> <r{k}>;" for k in range(levels))
    body = f"<r0> = {last}; {doubling} public <g> = <r{levels}>;"
    grammar = read_grammar(write(tmp_path / "g.gram", body))
    with pytest.raises(DecodeError, match=r"g\.gram: its rules within rules unfold to more than"):
        GrammarGuide(LETTERS, grammar)


def test_a_long_list_of_words_is_read(tmp_path: Path) -> None:
    names = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=4)]
    grammar = read_grammar(write(tmp_path / "g.gram", "public <g> = " + "\n| ".join(names) + ";"))
    assert [part.text for part in grammar.rules["<g>"].parts] == names


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
def test_the_network_follows_the_meaning_of_the_operators(expansion: Expansion) -> None:
    said = said_by(expansion, 3)
    if not has_words(expansion):
        with pytest.raises(DecodeError, match="g: says nothing at all; give it a word"):
            GrammarGuide(WORDS, Grammar("g", {}, expansion))
        return
    guide = GrammarGuide(WORDS, Grammar("g", {}, expansion))
    for length in range(4):
        for words in itertools.product(("turn", "on", "off"), repeat=length):
            assert accepts(guide, WORDS, " ".join(words)) == (words in said)


def recognised(grammar: Grammar, text: str) -> list[str]:
    """What a beam search within a grammar makes of a text that is spelled clearly."""
    frames = [label for letter in LETTERS.spell(text) or () for label in (letter, 0)]
    log_probs = np.log(np.eye(len(LETTERS.labels), dtype=np.float32)[frames] * 0.9 + 0.1 / 29)
    decoder = BeamDecoder(LETTERS, 16, GrammarGuide(LETTERS, grammar))
    events = [*decoder.push(scored(log_probs)), *decoder.finish()]
    return [event.text for event in events if isinstance(event, Utterance)]


def test_the_beam_finds_the_nearest_sentence_of_the_grammar(tmp_path: Path) -> None:
    grammar = read_grammar(write(tmp_path / "lamp.gram", LAMP, head=""))
    assert recognised(grammar, "turn oft the lamp") == ["turn off the lamp"]
    assert recognised(grammar, "good nihgt") == ["good night"]


def test_a_command_that_is_broken_off_is_not_recognised(tmp_path: Path) -> None:
    grammar = read_grammar(write(tmp_path / "g.gram", "public <g> = turn on the radio;"))
    assert recognised(grammar, "turn on the") == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("public <a> = a <b>; <b> = b <a> c | c;", "rule <b> refers to itself before its end"),
        ("public <a> = a <a>+;", "rule <a> refers to itself before its end"),
        ("public <a> = [<b>] a; <b> = <a>;", "rule <a> refers to itself before its end"),
        ("public <a> = a <b>;", "rule <b> is not defined; write '<b> = ... ;'"),
        ("<a> = a;", "has no rule that is public"),
        ("", "has no rule that is public"),
        ("public <a> = <NULL>;", "says nothing at all; give it a word"),
        ("public <a> = a | ;", "line 3: has an empty alternative"),
        ("public <a> = ;", "line 3: has an empty alternative"),
        ('public <a> = "";', "line 3: has '' where a word or a rule should be"),
        ("public <a> = a {open;", "line 3: cannot read '{' here; close what is open"),
        ("public <a> = a /x/ b;", "line 3: cannot read '/' here"),
        ("public <a> = (a | b;", "line 3: has ';' where ')' should be"),
        ("public <a> = a\n", "line 4: has 'the end of the file' where ';' should be"),
        ("public <a> = * ;", "line 3: has '*' where a word or a rule should be"),
        ("\npublic a = b;", "line 4: has 'a' where a rule like '<name> = ... ;' should be"),
        ("import <other.*>;", "imports another grammar, which is not supported"),
        ("public <a> = <VOID>;", "says nothing at all; give it a word"),
        ("public <a> = a <a>;", "says nothing at all; give it a word"),
        ("<a> = a; public <a> = b;", "rule <a> is defined twice; join them with"),
        ('public <a> = "open;', "line 3: cannot read '\"' here"),
        ("public <a> = größe;", "the model cannot say 'ß', 'ö' in 'größe'"),
    ],
)
def test_a_wrong_grammar_is_refused(tmp_path: Path, body: str, complaint: str) -> None:
    path = write(tmp_path / "bad.gram", body)
    with pytest.raises(DecodeError) as raised:
        GrammarGuide(LETTERS, read_grammar(path))
    assert str(raised.value).startswith(str(path)) and complaint in str(raised.value)


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        ("", "does not begin with '#JSGF V1.0;', so it is no grammar; write that first"),
        ("#JSGF V1.0;", "line 1: has 'public' where 'grammar NAME;' should be"),
    ],
)
def test_a_grammar_has_a_head(tmp_path: Path, head: str, complaint: str) -> None:
    path = write(tmp_path / "bad.gram", "public <a> = a;", head)
    with pytest.raises(DecodeError) as raised:
        read_grammar(path)
    assert complaint in str(raised.value)
    with pytest.raises(ReadError, match="cannot be read as a grammar"):
        read_grammar(tmp_path / "none.gram")
