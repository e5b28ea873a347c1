"""Grammars: the subset of the JSpeech Grammar Format (JSGF) that command grammars use.

    #JSGF V1.0;
    grammar lamp;
    public <command> = turn (on | off) [the] <what>+ ;
    <what> = lamp | radio ;

Alternatives, groups, optional parts, `*`, `+`, references to rules, comments and quotes. Weights
(`/0.5/`) and tags (`{...}`) are read and have no effect. What any public rule says may be heard.
Source: "JSpeech Grammar Format", W3C Note, 5 June 2000.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from asr.decode.base import DecodeError

HEADER = re.compile(r"\ufeff?\s*#JSGF\s+V1\.0[^;\n]*;")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
TOKEN = re.compile(
    r"""(?P<space>\s+) | (?P<tag>\{(?:\\.|[^}\\])*\}) | (?P<weight>/\s*[\d.]+\s*/)
    | (?P<rule><[^<>\s]+>) | "(?P<quoted>[^"]*)" | (?P<sign>[=;|()\[\]*+])
    | (?P<word>[^\s=;|()\[\]*+<>{}"/]+)""",
    re.VERBOSE,
)
CLOSING = {"(": ")", "[": "]"}


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


NOTHING = Expansion("all")


@dataclass(frozen=True, eq=False)
class Grammar:
    """A grammar file: its rules by name, and what its public rules say together."""

    path: str
    rules: Mapping[str, Expansion]
    start: Expansion


def read_grammar(path: str | os.PathLike[str]) -> Grammar:
    """Read a JSGF file; words are lower-cased. Raises DecodeError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DecodeError(f"{path}: cannot be read as a grammar ({error})") from None
    grammar = _Parser(str(path), text).grammar()
    _check_rules(grammar, grammar.start, ())
    return grammar


def _check_rules(grammar: Grammar, expansion: Expansion, above: tuple[str, ...]) -> None:
    """Every rule is there, and none needs itself."""
    for part in expansion.parts:
        _check_rules(grammar, part, above)
    if expansion.kind != "rule":
        return
    name = expansion.text
    if name in above:
        raise DecodeError(
            f"{grammar.path}: rule {name} refers to itself, which is not supported; "
            "repeat with * or + instead"
        )
    if name not in grammar.rules:
        raise DecodeError(f"{grammar.path}: rule {name} is not defined; write '{name} = ... ;'")
    _check_rules(grammar, grammar.rules[name], (*above, name))


class _Parser:
    """Recursive descent over the tokens of one file."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        text = COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), text)
        header = HEADER.match(text)
        if not header:
            raise DecodeError(f"{path}: does not begin with '#JSGF V1.0;', so it is no grammar")
        self._tokens = self._split(text, header.end())
        self._position = 0

    def grammar(self) -> Grammar:
        """Read the whole file."""
        self._declaration()
        rules: dict[str, Expansion] = {}
        public: list[Expansion] = []
        while self._token.kind != "end":
            is_public = self._accept("public")
            name = self._take("rule", "a rule like '<name> = ... ;'").text
            self._expect("=")
            if name in rules:
                raise self._error(f"rule {name} is defined twice")
            rules[name] = self._alternatives()
            self._expect(";")
            if is_public:
                public.append(Expansion("rule", name))
        if not public:
            raise DecodeError(f"{self._path}: has no rule that is public; write 'public <name> ='")
        return Grammar(self._path, rules, Expansion("any", parts=tuple(public)))

    def _declaration(self) -> None:
        if not self._accept("grammar"):
            raise self._error(f"has '{self._token.text}' where 'grammar NAME;' should be")
        self._take("word", "the name of the grammar")
        self._expect(";")
        if self._token.text == "import":
            raise self._error("imports another grammar, which is not supported; copy its rules")

    def _alternatives(self) -> Expansion:
        parts = [self._sequence()]
        while self._accept("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else Expansion("any", parts=tuple(parts))

    def _sequence(self) -> Expansion:
        parts: list[Expansion] = []
        while self._token.kind != "end" and self._token.text not in ("|", ")", "]", ";"):
            if self._token.kind in ("weight", "tag"):
                self._position += 1
            else:
                parts.append(self._repeated())
        if not parts:
            raise self._error("has an empty alternative; write <NULL> to allow nothing")
        return parts[0] if len(parts) == 1 else Expansion("all", parts=tuple(parts))

    def _repeated(self) -> Expansion:
        item = self._item()
        if self._accept("+"):
            return Expansion("many", parts=(item,))
        if self._accept("*"):
            return Expansion("any", parts=(Expansion("many", parts=(item,)), NOTHING))
        return item

    def _item(self) -> Expansion:
        token = self._token
        self._position += 1
        if token.text in CLOSING:
            inside = self._alternatives()
            self._expect(CLOSING[token.text])
            return inside if token.text == "(" else Expansion("any", parts=(inside, NOTHING))
        if token.text == "<NULL>":
            return NOTHING
        if token.text == "<VOID>":
            raise self._error("uses <VOID>, which is not supported; leave the alternative out")
        if token.kind == "rule":
            return Expansion("rule", token.text)
        if token.kind in ("word", "quoted"):
            return Expansion("word", " ".join(token.text.lower().split()))
        raise self._error(f"has '{token.text}' where a word or a rule should be")

    @property
    def _token(self) -> Token:
        return self._tokens[self._position]

    def _accept(self, text: str) -> bool:
        found = self._token.text == text and self._token.kind != "quoted"
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

    def _split(self, text: str, position: int) -> list[Token]:
        tokens: list[Token] = []
        while position < len(text):
            line = text.count("\n", 0, position) + 1
            match = TOKEN.match(text, position)
            if not match or not match.lastgroup:
                character = text[position]
                raise DecodeError(f"{self._path}, line {line}: cannot read '{character}' here")
            if match.lastgroup != "space":
                tokens.append(Token(match.lastgroup, match[match.lastgroup], line))
            position = match.end()
        return [*tokens, Token("end", "the end of the file", text.count("\n") + 1)]

    def _error(self, problem: str) -> DecodeError:
        return DecodeError(f"{self._path}, line {self._token.line}: {problem}")
