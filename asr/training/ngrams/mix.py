"""Several models of the same words as one, whose probabilities are the weighted means of theirs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from asr.training.ngrams.grams import Grams, Model, place_type


def mix(models: Sequence[Model], shares: Sequence[float]) -> Model:
    """Return the model of p = sum of share * p of each; the shares add up to one.

    It has the n-grams of all of them. The models have the same vocabulary and order, and the end of
    each n-gram is one of theirs too, as long as nothing is pruned.
    """
    union, places = _union(models)
    for n, level in enumerate(union.levels):
        nothing = np.zeros(len(level), np.float32)
        union.levels[n] = replace(level, log_p=np.full(len(level), -np.inf), share=nothing)
    for model, own, share in zip(models, places, shares, strict=True):
        _add(union, model, own, share)
    union.normalise()
    return union


def _union(models: Sequence[Model]) -> tuple[Model, list[list[np.ndarray]]]:
    """The n-grams of all models, and for each model and level where its own are among them."""
    size, single = models[0].size, models[0].levels[0]
    levels = [single]
    places = [[np.arange(size)] for _ in models]
    for n in range(1, len(models[0].levels)):
        keys = [
            own[-1][model.levels[n].contexts].astype(np.int64) * size + model.levels[n].words
            for model, own in zip(models, places, strict=True)
        ]
        distinct = np.unique(np.concatenate(keys))
        for own, found in zip(places, keys, strict=True):
            own.append(np.searchsorted(distinct, found).astype(place_type(len(distinct))))
        contexts, words = np.divmod(distinct, size)
        contexts, words = contexts.astype(place_type(len(distinct))), words.astype(np.int32)
        nothing = np.zeros(len(distinct), np.float32)
        levels.append(Grams(contexts, words, nothing, nothing, nothing))
    return Model(models[0].vocabulary, levels), places


def _add(union: Model, model: Model, places: Sequence[np.ndarray], share: float) -> None:
    """Add a model with its share to a union, where its n-grams have these places."""
    shorter = np.zeros(0)
    for n, level in enumerate(union.levels):
        if n == 0:
            log_p = model.levels[0].log_p.copy()
        else:
            weights = np.zeros(len(union.levels[n - 1]))
            weights[places[n - 1]] = model.levels[n - 1].backoff
            log_p = shorter[union.ends[n][-1]]
            log_p += weights[level.contexts]
            log_p[places[n]] = model.levels[n].log_p
        shorter = log_p
        np.logaddexp(level.log_p, log_p + np.log(share), out=level.log_p)
        level.share[places[n]] += np.float32(share) * model.levels[n].share
