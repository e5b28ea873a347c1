"""How good the weights are on what is held out, while a model trains."""

import math

import jiwer
import torch
from torch import Tensor, nn

from asr.training.config import Config
from asr.training.data.batches import batches_of, loader
from asr.training.data.corpus import Corpus
from asr.training.data.labels import Labels
from asr.training.data.plan import plan_validation
from asr.training.losses import batch_loss, precision

METRICS = {"ctc": "cer", "classify": "error", "lm": "perplexity"}


@torch.no_grad()
def validate(
    model: nn.Module, config: Config, corpus: Corpus, device: torch.device
) -> dict[str, float]:
    """Loss per target and, for classify, the error (share of wrong labels, and its mean over the
    labels); for ctc, the character error rate, overall and per source; for lm, the perplexity of a
    label."""
    model.eval()
    plan = plan_validation(config, corpus)
    batches = batches_of(config)(plan, corpus.validation_noises, None)
    total, weight = 0.0, 0
    guesses: list[list[int]] = []
    for batch in loader(batches, workers=0):
        batch = batch.to(device)
        total += batch_loss(model, batch, config).item() * batch.weight
        weight += batch.weight
        with precision(config.optimisation, device):
            log_probs, lengths = model(batch.inputs, batch.input_lengths)
        guesses += best_paths(log_probs, lengths, corpus.labels)
    model.train()
    items = [item for batch in plan for item in batch]
    figures = {"validation_loss": total / max(1, weight)}
    if corpus.labels.task == "lm":
        return figures | {"perplexity": math.exp(figures["validation_loss"])}
    if corpus.labels.task == "classify":
        truths = [item.targets[0] for item in items]
        return figures | _errors(truths, [guess[0] for guess in guesses])
    recordings = [item.example.recording for item in items if item.example]
    sources = [config.data.sources[recording.source].name for recording in recordings]
    truths = [recording.text for recording in recordings]
    return figures | _character_errors(truths, guesses, sources, corpus.labels)


def best_paths(log_probs: Tensor, lengths: Tensor | None, labels: Labels) -> list[list[int]]:
    """The most likely label numbers of each row, repeats and blanks taken out for ctc."""
    best = log_probs.argmax(dim=-1).cpu()
    if labels.task == "classify" or lengths is None:
        return best.tolist()
    rows = zip(best, lengths.cpu(), strict=True)
    return [[n for n in row[:k].unique_consecutive().tolist() if n] for row, k in rows]


def _errors(truths: list[int], guesses: list[int]) -> dict[str, float]:
    right: dict[int, list[bool]] = {}
    for truth, guess in zip(truths, guesses, strict=True):
        right.setdefault(truth, []).append(truth == guess)
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
