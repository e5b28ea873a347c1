"""Interpolated, modified Kneser-Ney smoothing.

Source: Chen & Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (Harvard
TR-10-98, 1998), section 3.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from asr.decode.lm.ngrams import LN_10, MARKS, START
from asr.training.ngrams.counts import Counted
from asr.training.ngrams.grams import Grams, Model, place_type

NEVER = -99.0 * LN_10  # log p of START, which is given and never predicted; an ARPA file has -99
# Chen & Goodman's estimate divides by how many n-grams occur once to four times. Where a small
# text leaves it undefined or not positive, n-grams seen once, twice and more often lose these.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
START_NUMBER = MARKS.index(START)


def estimate(vocabulary: list[str], counted: Sequence[Counted], least: int = 1) -> Model:
    """Estimate p(word | words before it) from how often n-grams of 1, 2 ... words occur.

    For every context seen, the probabilities of all words, of the end and of <unk> sum to one. Of
    two words or more, n-grams that occur less often than `least` are left out, and what they are
    worth goes to the shorter context.
    """
    model = _without_probabilities(vocabulary, counted)
    for n, (level, own) in enumerate(zip(model.levels, counted, strict=True)):
        kinds = _kinds(model, n, own.counts)
        discounts = np.array([0.0, *_discounts(kinds)])[np.minimum(kinds, 3)]
        contexts = len(model.levels[n - 1]) if n else 1
        lost = discounts if n == 0 else np.where(own.counts < least, kinds, discounts)
        total, lost = level.sums(kinds, contexts), level.sums(lost, contexts)
        weights = np.divide(lost, total, out=np.ones(contexts), where=total > 0)
        # Below the single words lies the uniform distribution, over <unk> too.
        lower = np.exp(model.levels[n - 1].log_p[model.ends[n][-1]]) if n else 1 / (model.size - 1)
        p = (kinds - discounts) / total[level.contexts] + weights[level.contexts] * lower
        level = replace(level, log_p=np.log(p))
        if n == 0:
            level.log_p[START_NUMBER] = NEVER
        else:
            model.levels[n - 1] = replace(model.levels[n - 1], backoff=np.log(weights))
        model.levels[n] = level
    if least == 1:
        return Model(vocabulary, model.levels)  # without what was kept to estimate it
    return model.where([np.ones(model.size, bool), *(own.counts >= least for own in counted[1:])])


def _without_probabilities(vocabulary: list[str], counted: Sequence[Counted]) -> Model:
    size = len(vocabulary) + len(MARKS)
    occurring = counted[0].counts.sum() - counted[0].counts[START_NUMBER]
    levels: list[Grams] = []
    for level in counted:
        contexts, words = np.divmod(level.keys, size)
        share = (level.counts / occurring).astype(np.float32)
        nothing = np.zeros(len(words), np.float32)
        contexts, words = contexts.astype(place_type(len(words))), words.astype(np.int32)
        levels.append(Grams(contexts, words, nothing, nothing, share))
    return Model(vocabulary, levels)


def _kinds(model: Model, n: int, counts: np.ndarray) -> np.ndarray:
    """In how many contexts each n-gram of level n occurs; what begins a sentence has its count."""
    if n == len(model.levels) - 1:
        kinds = np.array(counts)
    else:
        kinds = np.bincount(model.ends[n + 1][-1], minlength=len(counts))
        begins = _begins_sentence(model, n)
        kinds[begins] = counts[begins]
    if n == 0:
        kinds[START_NUMBER] = 0
    return kinds


def _begins_sentence(model: Model, n: int) -> np.ndarray:
    first = model.levels[0].words == START_NUMBER
    for level in model.levels[1 : n + 1]:
        first = first[level.contexts]
    return first


def _discounts(kinds: np.ndarray) -> tuple[float, float, float]:
    """What n-grams seen once, twice, and three times or more lose (equation 26 of the report)."""
    n1, n2, n3, n4 = (int(np.count_nonzero(kinds == k)) for k in range(1, 5))
    if not (n1 and n2 and n3 and n4):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if min(found) > 0.0 else FALLBACK_DISCOUNTS
