"""N-gram language models from texts: interpolated, modified Kneser-Ney smoothing.

Source: Chen & Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (Harvard
TR-10-98, 1998), section 3. Needs nothing but the standard library for plain texts.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from asr.decode.lm.arpa import END, LN_10, SPACES, START, UNKNOWN, Table
from asr.decode.lm.language_model import LanguageModel, sentence_scores
from asr.files import read_lines, whole_file
from features.errors import EarshotError

NEVER = -99.0  # log10 of the probability of <s>, which is given and never predicted
# Chen & Goodman's estimate divides by how many n-grams occur once to four times. Where a small
# text leaves it undefined or not positive, n-grams seen once, twice and more often lose these.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)

Sentence = Sequence[str]
Ngram = tuple[str, ...]
Counts = dict[Ngram, int]


class TextError(EarshotError, ValueError):
    """Texts that no language model can be made of."""


def read_sentences(path: Path, characters: bool = False) -> Iterator[list[str]]:
    """Yield the words (or characters) of each line of a text, lower-cased.

    path: a text, one sentence a line, or a training recipe (.toml): then the texts of the speakers
    that it trains on, none of those that it holds out, as its labels say them. Raises TextError,
    ReadError, or what the recipe does.
    """
    for number, text in enumerate(_texts(path), start=1):
        words = text.lower().split()
        if marks := {START, END, UNKNOWN, *SPACES} & set(words):
            raise TextError(f"{path}, text {number}: has {marks.pop()} as a word; take it out")
        if words and characters:
            yield [SPACES[0] if letter == " " else letter for letter in " ".join(words)]
        elif words:
            yield words


def _texts(path: Path) -> Iterable[str]:
    if path.suffix == ".toml":
        return _recipe_texts(path)
    return read_lines(path, "text, one sentence a line")


def _recipe_texts(recipe: Path) -> list[str]:
    from asr.training.config import read_config
    from asr.training.data.labels import Labels
    from asr.training.data.sources import read_source

    config = read_config(recipe, [])
    spoken = [source for source in enumerate(config.data.sources) if source[1].kind != "noise"]
    recordings = [recording for source in spoken for recording in read_source(*source)]
    labels = Labels.build(config, recordings)
    return [labels.plain(recording.text) for recording in recordings if not recording.validation]


def build(sentences: Iterable[Sentence], order: int) -> Table:
    """Estimate an n-gram model: n-gram -> (log p, log backoff weight), natural logarithms.

    For every context seen, the probabilities of all words, of the end and of <unk> sum to one.
    Raises TextError if there is no sentence.
    """
    raw = _count(sentences, order)
    if not raw[0]:
        raise TextError("the texts have no word in them; give at least one sentence")
    counts = [_continuations(raw[k], raw[k + 1]) for k in range(order - 1)] + [raw[-1]]
    # Below the unigrams lies the uniform distribution, over <unk> too.
    probabilities: dict[Ngram, float] = {(): 1.0 / (len(counts[0]) + 1)}
    weights: dict[Ngram, float] = {}
    for own in counts:
        found, found_weights = _interpolate(own, probabilities)
        probabilities |= found
        weights |= found_weights
    probabilities[UNKNOWN,] = weights[()] * probabilities.pop(())
    table = {
        ngram: (math.log(probability), math.log(weights.get(ngram, 1.0)))
        for ngram, probability in probabilities.items()
    }
    return table | {(START,): (NEVER * LN_10, math.log(weights.get((START,), 1.0)))}


def _count(sentences: Iterable[Sentence], order: int) -> list[Counts]:
    """How often each n-gram of each length occurs in <s> w1 ... wn </s>; <s> alone does not."""
    counts: list[Counts] = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = (START, *sentence, END)
        for end in range(2, len(words) + 1):
            for length in range(1, min(order, end) + 1):
                counts[length - 1][words[end - length : end]] += 1
    return counts


def _continuations(raw: Counts, longer: Counts) -> Counts:
    """In how many contexts each n-gram occurs; what begins a sentence has its plain count."""
    counts: Counts = Counter(ngram[1:] for ngram in longer)
    return counts | {ngram: count for ngram, count in raw.items() if ngram[0] == START}


def _discounts(counts: Counts) -> tuple[float, float, float]:
    """What n-grams seen once, twice, and three times or more lose (equation 26 of the report)."""
    having = Counter(counts.values())
    n1, n2, n3, n4 = (having[k] for k in range(1, 5))
    if not (n1 and n2 and n3 and n4):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if min(found) > 0.0 else FALLBACK_DISCOUNTS


def _interpolate(
    counts: Counts, lower: Mapping[Ngram, float]
) -> tuple[dict[Ngram, float], dict[Ngram, float]]:
    """p(w | h) = (c(hw) - D(c(hw))) / c(h) + weight(h) p(w | shorter h), and weight(h)."""
    discounts = _discounts(counts)
    totals: dict[Ngram, int] = defaultdict(int)
    lost: dict[Ngram, float] = defaultdict(float)
    for ngram, count in counts.items():
        totals[ngram[:-1]] += count
        lost[ngram[:-1]] += discounts[min(count, 3) - 1]
    weights = {context: lost[context] / total for context, total in totals.items()}
    probabilities = {
        ngram: (count - discounts[min(count, 3) - 1]) / totals[ngram[:-1]]
        + weights[ngram[:-1]] * lower[ngram[1:]]
        for ngram, count in counts.items()
    }
    return probabilities, weights


def write_arpa(table: Table, path: Path) -> None:
    """Write a model as an ARPA file. Raises WriteError."""
    orders: dict[int, list[Ngram]] = defaultdict(list)
    for ngram in sorted(table):
        orders[len(ngram)].append(ngram)
    lines = ["\\data\\", *(f"ngram {n}={len(orders[n])}" for n in sorted(orders))]
    for n in sorted(orders):
        lines += ["", f"\\{n}-grams:"]
        for ngram in orders[n]:
            score, backoff = (f"{value / LN_10:.7f}" for value in table[ngram])
            line = f"{score}\t{' '.join(ngram)}"
            lines.append(line if n == max(orders) else f"{line}\t{backoff}")
    with whole_file(path) as part:
        part.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")


def perplexity(model: LanguageModel, sentences: Iterable[Sentence]) -> tuple[float, int, int]:
    """Return the perplexity of texts, how many words were scored (ends too), how many unknown.

    Unknown words are left out of the perplexity. Raises TextError if nothing is left.
    """
    total, scored, unknown = 0.0, 0, 0
    for sentence in sentences:
        for score, known in sentence_scores(model, sentence):
            total += score * known
            scored += known
            unknown += not known
    if not scored:
        raise TextError("the texts have no word that the language model knows")
    return math.exp(-total / scored), scored, unknown
