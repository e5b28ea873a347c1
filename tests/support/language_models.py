"""Small n-gram models: from a table of their n-grams, or built from sentences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.decode.lm.arpa import write_arpa
from asr.decode.lm.lexicon import Pronunciations
from asr.decode.lm.ngrams import MARKS, Context, NgramModel, assemble
from asr.phonemes import parse_pronunciation
from asr.training.ngrams.build import Plan, build

Table = Mapping[tuple[str, ...], tuple[float, float]]

ARPA = """
\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-99\t<s>\t-0.5
-0.7\t</s>
-2.0\t<unk>
-0.4\tyes\t-0.3
-0.9\tno\t-0.2

\\2-grams:
-0.1\t<s> yes
-0.6\tyes no
-0.3\tno </s>

\\end\\
"""


def model_of(table: Table, path: str = "table") -> NgramModel:
    """The model of n-gram -> (log p, log backoff weight)."""
    words = [ngram[0] for ngram in table if len(ngram) == 1 and ngram[0] not in MARKS]
    numbers = {word: k for k, word in enumerate([*MARKS, *words])}
    sections = []
    for length in range(1, max(map(len, table)) + 1):
        own = {ngram: values for ngram, values in table.items() if len(ngram) == length}
        ids = np.array([[numbers[word] for word in ngram] for ngram in own]).reshape(-1, length)
        log_p, backoff = np.array([*own.values()], float).reshape(-1, 2).T
        sections.append((ids, log_p, backoff))
    return assemble(words, sections, path)


def built(
    sentences: Sequence[Sequence[str]], order: int, path: str = "built", **plan: Any
) -> NgramModel:
    """The model of sentences."""
    return build([(sentences, 1.0)], Plan(order=order, **plan)).finished(path)


def write_built(sentences: Sequence[Sequence[str]], order: int, path: Path) -> None:
    """Write the model of sentences as an ARPA file."""
    write_arpa(built(sentences, order), path)


def context_after(model: NgramModel, words: Sequence[str]) -> Context:
    """The context after words or marks, at the beginning of nothing."""
    context: Context = ()
    for word in words:
        context = model.score(context, word)[1]
    return context


def pronounced(model: NgramModel, said: Mapping[str, str]) -> NgramModel:
    """The model with how some of its words are said, in the notation of CMUdict."""
    numbers: dict[str, list[int]] = {}
    for word, names in said.items():
        number = model.number(word)
        assert number is not None
        numbers.setdefault(parse_pronunciation(names), []).append(number)
    found = Pronunciations.build(numbers, model.levels[0].log_p[:], len(MARKS))
    return NgramModel(model.lexicon, model.levels, model.path, pronunciations=found)
