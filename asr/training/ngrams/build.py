"""From texts to a language model."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.decode.lm.ngrams import MARKS
from asr.training.ngrams.counts import count_ngrams
from asr.training.ngrams.grams import Model
from asr.training.ngrams.kneser_ney import estimate
from asr.training.ngrams.mix import mix
from asr.training.ngrams.prune import prune
from asr.training.ngrams.texts import (
    Report,
    Sentence,
    Text,
    keep_most_frequent,
    new_vocabulary,
    number_words,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a model is made.

    order: words that are looked at together. vocabulary: at most so many words, the most frequent;
    all others are <unk>; None for all words. least: how often an n-gram of two words or more must
    occur. threshold: the share by which the perplexity may grow for each n-gram that is left out.
    """

    order: int = 3
    vocabulary: int | None = None
    least: int = 1
    threshold: float = 0.0


def build(
    texts: Sequence[tuple[Iterable[Sentence], float]],
    plan: Plan,
    report: Report = lambda line: None,
) -> Model:
    """Estimate an n-gram model of texts, each with its share of the probability.

    A text is counted and smoothed by itself; the shares must add up to one. What does not fit into
    memory is in temporary files. Raises TextError if a text has no sentence.
    """
    with tempfile.TemporaryDirectory(prefix="asr-lm-") as scratch:
        folder = Path(scratch)
        known = new_vocabulary()
        read: list[tuple[Text, float]] = []
        for k, (sentences, share) in enumerate(texts):
            read.append((number_words(sentences, known, folder / f"text{k}", report), share))
            report(f"{read[-1][0].size:,} words and ends of sentences")
        words, numbers = keep_most_frequent(read, list(known), plan.vocabulary)
        report(f"{len(words):,} of {len(known) - len(MARKS):,} different words")
        models = [_estimated(text, words, numbers, plan, folder, report) for text, _ in read]
    model = models[0] if len(models) == 1 else mix(models, [share for _, share in read])
    if len(models) > 1:
        report(f"mixed {len(models)} models: {_described(model)}")
    if plan.threshold > 0.0:
        model = prune(model, plan.threshold)
        report(f"pruned to {_described(model)}")
    return model


def _estimated(
    text: Text, words: list[str], numbers: np.ndarray, plan: Plan, folder: Path, report: Report
) -> Model:
    size = len(words) + len(MARKS)
    counted = count_ngrams(text.words, numbers, size, plan.order, folder, report)
    return estimate(words, counted, plan.least)


def _described(model: Model) -> str:
    return ", ".join(f"{len(level):,} {n}-grams" for n, level in enumerate(model.levels, start=1))
