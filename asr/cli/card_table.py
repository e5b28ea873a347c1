"""A model card as people read it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from asr.card import Card, ModelCard

LENGTHS = {"hop_length", "block_length", "look_ahead", "window_length"}  # in samples
NOT_MEASURED = "none; 'asr evaluate' measures, 'asr export' writes what the training validated"


def card_table(path: Path, card: ModelCard) -> Table:
    """All fields of a card, lengths also in milliseconds, and what they mean for the latency."""
    table = Table(title=str(path), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in dataclasses.asdict(card).items():
        if name in LENGTHS and value is not None:
            shown = f"{value} samples, {1000 * value / card.sample_rate:g} ms"
        else:
            shown = _shown(name, value)
        table.add_row(name, Text(shown))
    table.add_row("latency", Text(latency_in_words(card)))
    return table


def _shown(name: str, value: Any) -> str:
    if name == "metrics" and not value:
        return NOT_MEASURED
    if name == "training_data":
        return "\n".join(" - ".join(source.values()) for source in value)
    if isinstance(value, dict):
        return "\n".join(f"{key} = {entry}" for key, entry in value.items())
    if isinstance(value, tuple):
        return "  ".join(json.dumps(entry, ensure_ascii=False) for entry in value)
    return "-" if value in (None, "") else str(value)


def latency_in_words(card: ModelCard) -> str:
    """How long after a sound its scores come, computing not counted, and what that is made of."""
    milliseconds = 1000 / card.sample_rate
    if card.block_length is not None:
        block, ahead = card.block_length * milliseconds, card.look_ahead * milliseconds
        return (
            f"scores come {ahead:.0f} to {ahead + block:.0f} ms after the sound: they wait until a "
            f"block of {block:.0f} ms is full, and for a look-ahead of {ahead:.0f} ms"
        )
    if card.window_length is not None:
        return (
            f"every {card.hop_length * milliseconds:.0f} ms a decision about the last "
            f"{card.window_length * milliseconds:.0f} ms"
        )
    return "not live: the model needs the whole utterance"


def written_lines(path: Path, card: Card, parity: float) -> list[str]:
    """What an export wrote: the size of the file, how near its scores are, latency, metrics."""
    lines = [
        f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB, {card.precision} weights; scores "
        f"differ from the trained model by at most {parity:.1g}"
    ]
    if isinstance(card, ModelCard):
        lines.append(f"latency: {latency_in_words(card)}")
    return lines + [f"{name}: {value}" for name, value in sorted(card.metrics.items())]
