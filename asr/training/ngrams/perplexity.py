"""How well a language model predicts texts."""

import math
from collections.abc import Iterable

from asr.decode.lm.language_model import LanguageModel, sentence_scores
from asr.training.ngrams.texts import Sentence, TextError


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
