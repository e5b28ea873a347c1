"""How good the weights are on what is held out, while a model trains."""

import math
from itertools import zip_longest
from typing import Any

import jiwer
import torch
from torch import Tensor, distributed, nn

from asr.phonemes import SOUNDS
from asr.training.config import Config
from asr.training.data.batches import Batch, batches_of, loader, sounds_of
from asr.training.data.corpus import Corpus
from asr.training.data.labels import Labels
from asr.training.data.plan import plan_validation
from asr.training.losses import batch_loss, precision

METRICS = {"ctc": "cer", "classify": "error", "lm": "perplexity"}


@torch.no_grad()
def validate(
    model: nn.Module,
    config: Config,
    corpus: Corpus,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
) -> dict[str, float]:
    """Loss per target and, for classify, the error (share of wrong labels, and its mean over the
    labels); for ctc, the character error rate, overall and per source; for lm, the perplexity of a
    label.

    Every process takes its share of the batches, and has the figures of all of them."""
    model.eval()
    plan = plan_validation(config, corpus)
    sounds = sounds_of(config, corpus.labels)
    mine = batches_of(config)(plan[rank::world], corpus.validation_noises, None, sounds=sounds)
    more = {"sounds": True} if sounds else {}
    results = []
    for batch in loader(mine, workers=0):
        batch = batch.to(device)
        loss = batch_loss(model, batch, config).item() * batch.weight
        with precision(config.optimisation, device):
            log_probs, lengths = model(batch.inputs, batch.input_lengths, **more)
        letters = log_probs[..., : len(corpus.labels.names)]
        said = _sound_errors(log_probs, lengths, batch) if sounds else (0, 0)
        results.append((loss, batch.weight, best_paths(letters, lengths, corpus.labels), *said))
    model.train()
    results = _of_all(results, world)
    total, weight = (sum(result[k] for result in results) for k in (0, 1))
    guesses = [guess for _, _, paths, *_ in results for guess in paths]
    items = [item for batch in plan for item in batch]
    figures = {"validation_loss": total / max(1, weight)}
    if corpus.labels.task == "lm":
        return figures | {"perplexity": math.exp(figures["validation_loss"])}
    if corpus.labels.task == "classify":
        truths = [item.targets[0] for item in items]
        return figures | _errors(truths, [guess[0] for guess in guesses], corpus.labels)
    recordings = [item.example.recording for item in items if item.example]
    sources = [config.data.sources[recording.source].name for recording in recordings]
    truths = [recording.text for recording in recordings]
    if sounds:
        figures["per"] = sum(r[3] for r in results) / max(1, sum(r[4] for r in results))
    return figures | _character_errors(truths, guesses, sources, corpus.labels)


def _sound_errors(log_probs: Tensor, lengths: Tensor, batch: Batch) -> tuple[int, int]:
    """Wrong phonemes of a batch, boundaries among them, and how many there are."""
    best = log_probs[..., -len(SOUNDS) :].argmax(dim=-1).cpu()
    rows = zip(best, lengths.tolist(), strict=True)
    guesses = [[n for n in row[:k].unique_consecutive().tolist() if n] for row, k in rows]
    truths = [row.tolist() for row in batch.sounds.cpu().split(batch.sound_lengths.tolist())]
    pairs = [
        (" ".join(map(str, t)), " ".join(map(str, g)))
        for t, g in zip(truths, guesses, strict=True)
        if t
    ]
    if not pairs:
        return 0, 0
    measured = jiwer.process_words([t for t, _ in pairs], [g for _, g in pairs])
    wrong = measured.substitutions + measured.deletions + measured.insertions
    return wrong, sum(len(t.split()) for t, _ in pairs)


def _of_all(results: list[Any], world: int) -> list[Any]:
    """The results of the batches of all processes, in the order of the batches."""
    if world == 1:
        return results
    shares: list[list[Any]] = [[] for _ in range(world)]
    distributed.all_gather_object(shares, results)
    return [result for turn in zip_longest(*shares) for result in turn if result is not None]


def best_paths(log_probs: Tensor, lengths: Tensor | None, labels: Labels) -> list[list[int]]:
    """The most likely label numbers of each row, repeats and blanks taken out for ctc."""
    best = log_probs.argmax(dim=-1).cpu()
    if labels.task == "classify" or lengths is None:
        return best.tolist()
    rows = zip(best, lengths.cpu(), strict=True)
    return [[n for n in row[:k].unique_consecutive().tolist() if n] for row, k in rows]


def _errors(truths: list[int], guesses: list[int], labels: Labels) -> dict[str, float]:
    """Shares of wrong labels. Labels that are never reported count as one: an unknown word taken
    for silence does no harm."""
    silent = [labels.names.index(name) for name in labels.background]
    right: dict[int, list[bool]] = {}
    for truth, guess in zip(truths, guesses, strict=True):
        same = truth == guess or (truth in silent and guess in silent)
        right.setdefault(truth, []).append(same)
    per_label = [sum(marks) / len(marks) for marks in right.values()]
    overall = sum(map(sum, right.values())) / max(1, len(truths))
    return {"error": 1.0 - overall, "macro_error": 1.0 - sum(per_label) / max(1, len(per_label))}


def _character_errors(
    truths: list[str], guesses: list[list[int]], sources: list[str], labels: Labels
) -> dict[str, float]:
    texts = [labels.decode(guess) for guess in guesses]
    figures = {"cer": float(jiwer.cer(truths, texts)), "wer": float(jiwer.wer(truths, texts))}
    for name in dict.fromkeys(sources):
        chosen = [k for k, source in enumerate(sources) if source == name]
        references, hypotheses = [truths[k] for k in chosen], [texts[k] for k in chosen]
        figures[f"cer {name}"] = float(jiwer.cer(references, hypotheses))
    return figures
