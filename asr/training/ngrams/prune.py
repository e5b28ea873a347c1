"""Leaving out the n-grams of a model that matter least.

Source: Stolcke, "Entropy-based Pruning of Backoff Language Models" (DARPA Broadcast News
Transcription and Understanding Workshop, 1998). How often a context occurs is counted and not
computed from the model, since Kneser-Ney smoothing does not keep the frequencies of shorter
n-grams (Chelba et al., "Study on Interaction between Entropy Pruning and Kneser-Ney Smoothing",
Interspeech 2010).
"""

import numpy as np

from asr.training.ngrams.grams import Model

CHUNK = 2**20  # n-grams that are judged at a time


def prune(model: Model, threshold: float) -> Model:
    """Leave out each n-gram without which the perplexity would grow by less than this share."""
    for n in range(len(model.levels) - 1, 0, -1):
        needed = np.zeros(len(model.levels[n]), bool)
        if n < len(model.levels) - 1:
            needed[model.levels[n + 1].contexts] = True
        keep = [np.ones(len(level), bool) for level in model.levels]
        keep[n] = needed | (np.expm1(_losses(model, n)) >= threshold)
        model = model.where(keep)
    model.normalise()
    return model


def _losses(model: Model, n: int) -> np.ndarray:
    """What the cross entropy would grow by without each n-gram of level n (equation 6)."""
    level, share = model.levels[n], model.levels[n - 1].share
    own_masses, lower_masses = model.masses(n)
    losses = model.lower(n)
    for begin in range(0, len(losses), CHUNK):
        part = slice(begin, begin + CHUNK)
        log_p, lower, contexts = level.log_p[part], losses[part], level.contexts[part]
        own, other = own_masses[contexts], lower_masses[contexts]
        weight = np.log((own + np.exp(log_p)) / (other + np.exp(lower)))
        kept = np.exp(log_p) * (lower + weight - log_p) + own * (weight - np.log(own / other))
        losses[part] = -share[contexts] * kept
    return losses
