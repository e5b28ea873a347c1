"""Outcomes to figures: shares and error rates with their intervals, by group and by speaker."""

from collections.abc import Callable, Sequence
from typing import Any

import jiwer
import numpy as np

from asr.card import ModelCard
from asr.evaluation.intervals import interval_over, rate_interval, share_interval
from asr.evaluation.outcomes import SWEEP, Outcome
from asr.evaluation.trials import NOISE
from asr.evaluation.words import judge, word_figures


def summarise(card: ModelCard, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of an evaluation; shares, not percent. Rates of other tasks are None.

    interval_over: what the 95 % intervals draw, "speakers" or "recordings"; speakers: a row for
    each, the worst first, none if recordings are drawn.
    """
    speakers = [outcome.speaker for outcome in outcomes]
    drawn = interval_over(speakers)
    figures: dict[str, Any] = {
        "model": card.name,
        "wer": None,
        "cer": None,
        **_rates(card, outcomes),
        "interval_over": drawn,
        "n_speakers": len(set(speakers)),
        "real_time_factor": sum(o.seconds for o in outcomes) / sum(o.duration for o in outcomes),
        "groups": {
            group: _rates(card, [o for o in outcomes if o.group == group])
            for group in sorted({outcome.group for outcome in outcomes})
        },
        "speakers": _speaker_rows(card, outcomes) if drawn == "speakers" else [],
    }
    if card.task == "classify":
        return figures | _classification(card.labels, outcomes) | _detection(card, outcomes)
    return figures | {"words": word_figures(judge(outcomes))}


def _rates(card: ModelCard, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    right = np.array([outcome.right for outcome in outcomes])
    speakers = [outcome.speaker for outcome in outcomes]
    figures: dict[str, Any] = {
        "n": len(right),
        "accuracy": float(right.mean()),
        "accuracy_interval": share_interval(right, np.ones(len(right)), speakers),
    }
    if card.task == "ctc":
        texts = [outcome.reference for outcome in outcomes]
        figures |= error_rates(texts, [outcome.hypothesis for outcome in outcomes], speakers)
    return figures


def _speaker_rows(card: ModelCard, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The rates of each speaker, the worst first; their intervals are over recordings."""
    speakers: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.group != NOISE:
            speakers.setdefault(outcome.speaker, []).append(outcome)
    rows = [{"speaker": name} | _rates(card, own) for name, own in speakers.items()]
    if card.task == "classify":
        return sorted(rows, key=lambda row: row["accuracy"])
    return sorted(rows, key=lambda row: -1.0 if row["wer"] is None else row["wer"], reverse=True)


def _classification(labels: tuple[str, ...], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    index = {name: k for k, name in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    for outcome in outcomes:
        counts[index[outcome.reference], index[outcome.hypothesis]] += 1
    totals = counts.sum(axis=1)
    recalls = {name: counts[k, k] / totals[k] for name, k in index.items() if totals[k]}
    return {
        "macro_accuracy": float(np.mean(list(recalls.values()))),
        "recall": {name: float(recall) for name, recall in recalls.items()},
        "labels": list(labels),
        "confusion": counts.tolist(),
    }


def _detection(card: ModelCard, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How the trigger does: the share of keywords that fired, and what fired without reason."""
    keywords = [o for o in outcomes if o.reference not in card.background]
    other = [o for o in outcomes if o.reference in card.background]
    hours = sum(o.duration for o in other) / 3600.0

    def rates(fired: Callable[[Outcome], tuple[str, ...]]) -> dict[str, Any]:
        hits = sum(o.reference in fired(o) for o in keywords)
        false = sum(len(fired(o)) for o in other)
        return {
            "hit_rate": hits / len(keywords) if keywords else None,
            "false_accepts": false,
            "false_accepts_per_hour": false / hours if hours else None,
        }

    swept = [
        {"threshold": threshold} | rates(lambda o, k=k: o.swept[k])
        for k, threshold in enumerate(SWEEP)
    ]
    return rates(lambda o: o.fired) | {"background_hours": hours, "thresholds": swept}


def error_rates(
    references: Sequence[str], hypotheses: Sequence[str], speakers: Sequence[str]
) -> dict[str, Any]:
    """`cer` and `wer` of texts, as shares, with their 95 % intervals over the speakers.

    Where a reference is empty, every character and word of the hypothesis is an insertion. A rate
    is None if all references are empty.
    """
    figures: dict[str, Any] = {}
    pairs = list(zip(references, hypotheses, strict=True))
    for name, process in (("cer", jiwer.process_characters), ("wer", jiwer.process_words)):
        results = [process(reference, hypothesis) for reference, hypothesis in pairs]
        errors = np.array([r.substitutions + r.deletions + r.insertions for r in results])
        lengths = np.array([r.hits + r.substitutions + r.deletions for r in results])
        known = lengths.sum() > 0
        figures[name] = float(errors.sum() / lengths.sum()) if known else None
        figures[f"{name}_interval"] = rate_interval(errors, lengths, speakers) if known else None
    return figures
