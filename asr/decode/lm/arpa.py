"""N-gram language models in the ARPA format: reading them, and what they say about a next word.

Source of the format and of backing off: Katz, "Estimation of probabilities from sparse data"
(IEEE ASSP 1987); the ARPA file is described in the ngram-format manual page of SRILM.
"""

import gzip
import io
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from asr.decode.base import DecodeError

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
SPACES = ("<space>", "|")  # how models of characters write the space, ours first
GZIP_MAGIC = b"\x1f\x8b"
LN_10 = math.log(10.0)

Context = tuple[str, ...]
Table = dict[tuple[str, ...], tuple[float, float]]


class NgramModel:
    """p(word | the words before it), backing off to shorter contexts.

    table: n-gram -> (log p of its last word, log backoff weight), natural logarithms.
    vocabulary: the words that it knows, without the marks of sentences and of unknown words.
    """

    def __init__(self, table: Table, path: str) -> None:
        self.path = path
        self.order = max(len(ngram) for ngram in table)
        marks = (START, END, UNKNOWN)
        self.vocabulary = [n[0] for n in table if len(n) == 1 and n[0] not in marks]
        if not self.vocabulary:
            raise DecodeError(f"{path}: has no word; build it from a text with words in it")
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

    def _shorten(self, context: Context) -> Context:
        """The longest end of a context that makes a difference."""
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        while context and context not in self._table:
            context = context[1:]
        return context


def read_arpa(path: str | os.PathLike[str]) -> NgramModel:
    """Read an ARPA file, plain or gzip. Raises DecodeError if it is not whole."""
    try:
        content = Path(path).read_bytes()
        if content.startswith(GZIP_MAGIC):
            content = gzip.decompress(content)
        text = content.decode("utf-8")
    except OSError as error:
        raise DecodeError(
            f"{path}: cannot be read ({error.strerror or error}); give a whole ARPA file"
        ) from None
    except (EOFError, zlib.error):
        raise DecodeError(f"{path}: this gzip file is truncated; copy it again") from None
    except UnicodeDecodeError:
        raise DecodeError(
            f"{path}: is no text; give the ARPA file that a binary model was made from"
        ) from None
    return NgramModel(_Parser(str(path), text).table(), str(path))


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
                raise self._error(f"has '{line}' where \\{order}-grams: should be")
            line = self._section(order, count, table)
        if line != "\\end\\":
            raise self._error(f"has '{line}' where \\end\\ should be")
        return table

    def _numbered(self, text: str) -> Iterator[str]:
        """Yield what is on the lines that are not empty."""
        for self._number, line in enumerate(io.StringIO(text), start=1):
            if stripped := line.strip():
                yield stripped

    def _next(self) -> str:
        line = next(self._lines, None)
        if line is None:
            raise self._error("ends before its \\end\\ line: it is truncated")
        return line

    def _counts(self) -> tuple[list[int], str]:
        counts: list[int] = []
        while (line := self._next()).startswith("ngram "):
            order, _, count = line.removeprefix("ngram ").partition("=")
            if order.strip() != str(len(counts) + 1) or not count.strip().isdigit():
                raise self._error(f"does not count {len(counts) + 1}-grams in '{line}'")
            counts.append(int(count))
        if not counts:
            raise self._error("has no 'ngram 1=' line after \\data\\")
        return counts, line

    def _section(self, order: int, count: int, table: Table) -> str:
        """Read the n-grams of one order into `table` and return the line after them."""
        before = len(table)
        while not (line := self._next()).startswith("\\"):
            fields = line.split()
            if len(fields) not in (order + 1, order + 2):
                raise self._error(f"has {len(fields)} fields in a line of {order}-grams")
            try:
                score = float(fields[0]) * LN_10
                backoff = float(fields[order + 1]) * LN_10 if len(fields) > order + 1 else 0.0
            except ValueError:
                raise self._error(f"has no number where one should be in '{line}'") from None
            words = (UNKNOWN if word == "<UNK>" else word for word in fields[1 : order + 1])
            table[tuple(words)] = (score, backoff)
        if len(table) - before != count:
            found = len(table) - before
            raise self._error(f"has {found} different {order}-grams, and its head says {count}")
        return line

    def _error(self, problem: str) -> DecodeError:
        return DecodeError(f"{self._path}, line {self._number}: {problem}; get a whole ARPA file")
