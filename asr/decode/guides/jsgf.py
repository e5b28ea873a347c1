"""Grammars: the JSpeech Grammar Format (JSGF), as far as command grammars use it.

    #JSGF V1.0;
    grammar lamp;
    public <command> = turn (on | off) [the] <what>+ ;
    <what> = lamp | radio ;

Alternatives, groups, optional parts, `*`, `+`, references to rules of the same file (`<what>` or
`<lamp.what>`; also to the rule itself, at the end of an alternative), `<NULL>`, `<VOID>`, comments
and quotes. Tags (`{...}`) and weights (`/0.5/`) are read and have no effect, but for the weight 0,
which rules an alternative out. What any public rule says is recognised.

Source: "JSpeech Grammar Format", W3C Note, 5 June 2000.
"""

import graphlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from asr.decode.base import DecodeError
from asr.files import read_text

HEADER = re.compile(r"#JSGF\s+V1\.0\b")
TOKEN = re.compile(
    r"""(?P<space>\s+) | (?P<comment>//[^\n]*|/\*[\s\S]*?\*/) | (?P<header>\#JSGF\s[^;\n]*;)
    | (?P<tag>\{(?:\\[\s\S]|[^}\\])*\})
    | /\s*(?P<weight>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[fFdD]?\s*/
    | (?P<rule><[^<>\s]+>) | "(?P<quoted>(?:\\[\s\S]|[^"\\])*)" | (?P<sign>[=;|()\[\]*+])
    | (?P<word>[^\s=;|()\[\]*+<>{}"/]+)""",
    re.VERBOSE,
)
ESCAPE = re.compile(r"\\([\s\S])")
CLOSING = {"=": ";", "(": ")", "[": "]"}  # what ends a rule, a group, an optional part


class Token(NamedTuple):
    """A piece of a grammar file. kind: a group name of TOKEN, or "end"."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Expansion:
    """What may be said: a word, a rule, all parts in turn, any one part, or the part many times.

    text: the word, or the name of the rule.
    """

    kind: Literal["word", "rule", "all", "any", "many"]
    text: str = ""
    parts: tuple["Expansion", ...] = ()


NULL = Expansion("all")
VOID = Expansion("any")


@dataclass(frozen=True, eq=False)
class Grammar:
    """A grammar file: its rules by name, and what its public rules say together."""

    path: str
    rules: Mapping[str, Expansion]
    start: Expansion


def read_grammar(path: str | os.PathLike[str]) -> Grammar:
    """Read a JSGF file; words are lower-cased. Raises DecodeError, or ReadError if it is no text.

    Every rule that is referred to is there, and none refers to itself but at its end.
    """
    grammar = _Parser(str(path), read_text(path, "a grammar")).grammar()
    _check_rules(grammar)
    return grammar


def _check_rules(grammar: Grammar) -> None:
    """Raise DecodeError about rules that are not there, and about recursion."""
    references: dict[str, dict[str, bool]] = {}
    todo = [name for name, _ in _references(grammar.start)]
    while todo:
        name = todo.pop()
        if name in references:
            continue
        if name not in grammar.rules:
            raise DecodeError(f"{grammar.path}: rule {name} is not defined; write '{name} = ... ;'")
        references[name] = {}
        for other, last in _references(grammar.rules[name]):
            references[name][other] = references[name].get(other, True) and last
        todo += references[name]
    try:
        graphlib.TopologicalSorter(references).prepare()
    except graphlib.CycleError:
        _check_recursion(grammar.path, references)


def _check_recursion(path: str, references: Mapping[str, Mapping[str, bool]]) -> None:
    """Only recursion at the end of a rule can be made a finite automaton."""
    for name, others in references.items():
        reached: set[str] = set()
        todo = [other for other, last in others.items() if not last]
        while todo:
            other = todo.pop()
            if other not in reached:
                reached.add(other)
                todo += references[other]
        if name in reached:
            raise DecodeError(
                f"{path}: rule {name} refers to itself before its end, which is not supported; "
                "repeat with * or + instead"
            )


def _references(expansion: Expansion) -> Iterator[tuple[str, bool]]:
    """Yield the rules that an expansion refers to, and whether it ends with them."""
    todo = [(expansion, True)]
    while todo:
        part, last = todo.pop()
        if part.kind == "rule":
            yield part.text, last
        for left, inner in enumerate(reversed(part.parts)):
            ends = part.kind == "any" or (part.kind == "all" and left == 0)
            todo.append((inner, last and ends))


@dataclass
class _Open:
    """A rule, group or optional part that is being read. sign: what opened it."""

    sign: str
    alternatives: list[Expansion] = field(default_factory=list)
    parts: list[Expansion] = field(default_factory=list)
    never: bool = False


class _Parser:
    """Reads the tokens of one file. Nesting is on a stack of its own, so that it can be deep."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        tokens = self._split(text)
        head = next(tokens)
        if head.kind != "header" or not HEADER.match(head.text):
            raise DecodeError(
                f"{path}: does not begin with '#JSGF V1.0;', so it is no grammar; write that first"
            )
        self._tokens = list(tokens)
        self._position = 0

    def grammar(self) -> Grammar:
        """Read the whole file."""
        self._declaration()
        rules: dict[str, Expansion] = {}
        public: list[Expansion] = []
        while self._token.kind != "end":
            is_public = self._accept("public")
            name = self._local(self._take("rule", "a rule like '<name> = ... ;'").text)
            self._expect("=")
            if name in rules:
                raise self._error(f"rule {name} is defined twice; join them with |")
            rules[name] = self._expansion()
            if is_public:
                public.append(Expansion("rule", name))
        if not public:
            raise DecodeError(f"{self._path}: has no rule that is public; write 'public <name> ='")
        return Grammar(self._path, rules, Expansion("any", parts=tuple(public)))

    def _declaration(self) -> None:
        if not self._accept("grammar"):
            raise self._error(f"has '{self._token.text}' where 'grammar NAME;' should be")
        self._name = self._take("word", "the name of the grammar").text
        self._expect(";")
        if self._token.text == "import":
            raise self._error("imports another grammar, which is not supported; copy its rules")

    def _local(self, rule: str) -> str:
        """The name of a rule without that of this grammar, be it with the package or without."""
        for grammar in (self._name, self._name.rpartition(".")[2]):
            if rule.startswith(f"<{grammar}."):
                return f"<{rule[len(grammar) + 2 :]}"
        return rule

    def _expansion(self) -> Expansion:
        """Read what a rule says, up to and with its semicolon."""
        levels = [_Open("=")]
        while True:
            inner, token = levels[-1], self._token
            sign = token.text if token.kind == "sign" else ""
            self._position += 1
            if token.kind == "weight":
                inner.never |= float(token.text) == 0.0
            elif sign == "|":
                self._end_alternative(inner)
            elif sign in ("(", "["):
                levels.append(_Open(sign))
            elif sign == CLOSING[inner.sign]:
                self._end_alternative(inner)
                levels.pop()
                if not levels:
                    return _one_of(inner.alternatives)
                optional = [NULL] if inner.sign == "[" else []
                levels[-1].parts.append(self._repeated(_one_of(inner.alternatives + optional)))
            elif token.kind != "tag":
                inner.parts.append(self._repeated(self._item(token, inner)))

    def _end_alternative(self, inner: _Open) -> None:
        if not inner.parts:
            self._position -= 1
            raise self._error("has an empty alternative; write <NULL> to allow nothing")
        whole = inner.parts[0] if len(inner.parts) == 1 else Expansion("all", "", (*inner.parts,))
        inner.alternatives.append(VOID if inner.never else whole)
        inner.parts, inner.never = [], False

    def _repeated(self, item: Expansion) -> Expansion:
        if self._accept("+"):
            return Expansion("many", parts=(item,))
        if self._accept("*"):
            return Expansion("any", parts=(Expansion("many", parts=(item,)), NULL))
        return item

    def _item(self, token: Token, inner: _Open) -> Expansion:
        if token.kind == "rule":
            return {"<NULL>": NULL, "<VOID>": VOID}.get(
                token.text, Expansion("rule", self._local(token.text))
            )
        text = ESCAPE.sub(r"\1", token.text) if token.kind == "quoted" else token.text
        words = text.lower().split()
        if token.kind in ("word", "quoted") and words:
            return Expansion("word", " ".join(words))
        self._position -= 1
        closes = token.kind == "end" or token.text in CLOSING.values()
        needed = f"'{CLOSING[inner.sign]}'" if closes else "a word or a rule"
        raise self._error(f"has '{token.text}' where {needed} should be")

    @property
    def _token(self) -> Token:
        return self._tokens[self._position]

    def _accept(self, text: str) -> bool:
        found = self._token.text == text and self._token.kind in ("sign", "word")
        self._position += found
        return found

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._error(f"has '{self._token.text}' where '{text}' should be")

    def _take(self, kind: str, what: str) -> Token:
        token = self._token
        if token.kind != kind:
            raise self._error(f"has '{token.text}' where {what} should be")
        self._position += 1
        return token

    def _split(self, text: str) -> Iterator[Token]:
        """Yield the tokens of a text, then one of kind "end"."""
        position, line = 0, 1
        while position < len(text):
            match = TOKEN.match(text, position)
            if not match or not match.lastgroup:
                raise DecodeError(
                    f"{self._path}, line {line}: cannot read '{text[position]}' here; close what "
                    "is open, and put words with such signs in quotes"
                )
            if match.lastgroup not in ("space", "comment"):
                yield Token(match.lastgroup, match[match.lastgroup], line)
            line += match[0].count("\n")
            position = match.end()
        yield Token("end", "the end of the file", line)

    def _error(self, problem: str) -> DecodeError:
        return DecodeError(f"{self._path}, line {self._token.line}: {problem}")


def _one_of(alternatives: list[Expansion]) -> Expansion:
    if len(alternatives) == 1:
        return alternatives[0]
    return Expansion("any", parts=tuple(alternatives))
