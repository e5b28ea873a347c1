"""N-gram language models in the ARPA format: reading them, and what they say about a next word.

Source of the format and of backing off: Katz, "Estimation of probabilities from sparse data"
(IEEE ASSP 1987); the ARPA file is described in the ngram-format manual page of SRILM.
"""

import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Iterator

from asr.decode.base import DecodeError
from asr.files import decode_text, read_bytes

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
MARKS = (START, END, UNKNOWN)
SPACES = ("<space>", "|")  # how models of characters write the space, ours first
GZIP_MAGIC, KENLM_MAGIC = b"\x1f\x8b", b"mmap lm "
LN_10 = math.log(10.0)
BLANKS = " \t\r"  # what stands between fields; all other characters are parts of words
LARGEST = 1000.0  # of a log10 probability or weight; where there should be zero, files have -99
COUNT = re.compile(r"ngram[ \t]+([0-9]{1,3})[ \t]*=[ \t]*([0-9]{1,15})")
KIND = "an ARPA file"
SHOWN = 60  # characters of a line in a message

Context = tuple[str, ...]
Table = dict[tuple[str, ...], tuple[float, float]]


class NgramModel:
    """p(word | the words before it), backing off to shorter contexts.

    table: n-gram -> (log p of its last word, log backoff weight), natural logarithms.
    vocabulary: the words that it knows, without the marks of sentences and of unknown words.
    """

    def __init__(self, table: Table, path: str) -> None:
        self.path = path
        self.vocabulary = [n[0] for n in table if len(n) == 1 and n[0] not in MARKS]
        if not self.vocabulary:
            raise DecodeError(f"{path}: has no word; build it from a text with words in it")
        self.order = max(len(ngram) for ngram in table)
        self._table = table
        rarest = min(table[word,][0] for word in self.vocabulary)
        self._unknown = table.get((UNKNOWN,), (rarest, 0.0))[0]

    @property
    def of_characters(self) -> bool:
        """Whether all of its words are single characters."""
        return all(len(word) == 1 or word in SPACES for word in self.vocabulary)

    @property
    def start(self) -> Context:
        """The context at the beginning of a sentence."""
        return self._shorten((START,))

    def knows(self, word: str) -> bool:
        """Whether a word is in the vocabulary."""
        return (word,) in self._table and word != UNKNOWN

    def score(self, context: Context, word: str | None) -> tuple[float, Context]:
        """Return log p(word | context) and the context of the word after it.

        None is a word that the model does not know: it has the probability of <unk>, or of the
        rarest word if the model has no <unk>.
        """
        name = UNKNOWN if word is None else word
        following = self._shorten((*context, name))
        backoff = 0.0
        while (*context, name) not in self._table:
            if not context:
                return backoff + self._unknown, following
            backoff += self._table[context][1] if context in self._table else 0.0
            context = context[1:]
        return backoff + self._table[*context, name][0], following

    def lowered(self) -> "NgramModel | None":
        """The same model with its words in lower case; None if some differ in case only."""
        table = {tuple(map(str.lower, ngram)): values for ngram, values in self._table.items()}
        return NgramModel(table, self.path) if len(table) == len(self._table) else None

    def _shorten(self, context: Context) -> Context:
        """The longest end of a context that makes a difference."""
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        while context and context not in self._table:
            context = context[1:]
        return context


def read_arpa(path: str | os.PathLike[str]) -> NgramModel:
    """Read an ARPA file, plain or gzip. Raises DecodeError if it is not whole, or ReadError."""
    content = read_bytes(path, KIND)
    if content.startswith(KENLM_MAGIC):
        raise DecodeError(f"{path}: is a binary KenLM model; give the ARPA file it was made from")
    if content.startswith(GZIP_MAGIC):
        content = _decompressed(content, path)
    return NgramModel(_Parser(str(path), decode_text(content, path, KIND)).table(), str(path))


def _decompressed(content: bytes, path: str | os.PathLike[str]) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error):
        raise DecodeError(f"{path}: is a truncated or damaged gzip file; copy it again") from None


class _Parser:
    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._lines = self._numbered(text)
        self._number = 0

    def table(self) -> Table:
        """Read the whole file."""
        if not any(line == "\\data\\" for line in self._lines):
            raise DecodeError(f"{self._path}: has no \\data\\ line, so it is no ARPA file")
        counts, line = self._counts()
        table: Table = {}
        for order, count in enumerate(counts, start=1):
            if line != f"\\{order}-grams:":
                raise self._error(f"has {_shown(line)} where \\{order}-grams: should be")
            line = self._section(order, count, table)
        if line != "\\end\\":
            raise self._error(f"has {_shown(line)} where \\end\\ should be")
        return table

    def _numbered(self, text: str) -> Iterator[str]:
        """Yield what is on the lines that are not empty."""
        for self._number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
            if stripped := line.strip(BLANKS + "\n"):
                yield stripped

    def _next(self) -> str:
        line = next(self._lines, None)
        if line is None:
            raise self._error("ends before its \\end\\ line: it is truncated")
        return line

    def _counts(self) -> tuple[list[int], str]:
        counts: list[int] = []
        while (line := self._next()).startswith("ngram"):
            match = COUNT.fullmatch(line)
            if not match or int(match[1]) != len(counts) + 1:
                raise self._error(f"does not count {len(counts) + 1}-grams in {_shown(line)}")
            counts.append(int(match[2]))
        if not counts:
            raise self._error("has no 'ngram 1=' line after \\data\\")
        return counts, line

    def _section(self, order: int, count: int, table: Table) -> str:
        """Read the n-grams of one order into `table` and return the line after them."""
        before = len(table)
        while not (line := self._next()).startswith("\\"):
            fields = [field for field in line.replace("\t", " ").split(" ") if field]
            if len(fields) not in (order + 1, order + 2):
                raise self._error(f"has {len(fields)} fields in a line of {order}-grams")
            score = self._value(fields[0], most=0.0)
            backoff = self._value(fields[order + 1]) if len(fields) > order + 1 else 0.0
            words = (UNKNOWN if word == "<UNK>" else word for word in fields[1 : order + 1])
            table[tuple(words)] = (score * LN_10, backoff * LN_10)
        if len(table) - before != count:
            found = len(table) - before
            raise self._error(f"has {found} different {order}-grams, and its head says {count}")
        return line

    def _value(self, field: str, most: float = LARGEST) -> float:
        """A log10 probability or weight."""
        try:
            value = float(field)
        except ValueError:
            raise self._error(f"has {_shown(field)} where a number should be") from None
        if not -LARGEST <= value <= most:  # false for nan
            raise self._error(f"has {_shown(field)} where a log10 up to {most:g} should be")
        return value

    def _error(self, problem: str) -> DecodeError:
        return DecodeError(f"{self._path}, line {self._number}: {problem}; get a whole ARPA file")


def _shown(text: str) -> str:
    """A line of a file in quotes, as much of it as fits a message."""
    return f"'{text[:SHOWN]}'"
