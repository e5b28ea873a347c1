"""The trainings of a comparison: every kind of encoder at equal parameters and for equal times."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from asr.training.config import Config
from asr.training.data.corpus import load_corpus
from asr.training.network.acoustic import AcousticModel, ModelConfig
from asr.training.network.cells import KINDS
from asr.training.network.encoders import EncoderConfig
from features.errors import EarshotError

TOLERANCE = 0.02  # share of the parameters by which encoders may differ
BLOCK = 6  # of one direction where the recipe has whole utterances
FOREVER = 1_000_000_000  # epochs, and evaluations without improvement: the time alone ends it


class ComparisonError(EarshotError, ValueError):
    """Encoders that cannot be compared as asked."""


def family(
    config: Config, kinds: Sequence[str], parameters: int | None, minutes: float, seeds: int
) -> list[Config]:
    """The trainings: for each seed every kind, so that an interrupted comparison is a fair one.

    They differ in the encoder alone, and start from nothing. Raises ComparisonError.
    """
    labels = len(load_corpus(config).labels.names)
    wanted = parameters or count_parameters(config.model, labels)
    models = {kind: of_kind(config.model, kind, wanted, labels) for kind in kinds}
    home = config.optimisation
    clock = replace(home, minutes=minutes, epochs=FOREVER, patience=FOREVER, start="")
    out = str(Path(config.out, f"{config.name}-compare"))
    return [
        replace(
            config,
            name=f"{kind}-{seed}",
            out=out,
            model=model,
            optimisation=replace(clock, seed=home.seed + seed),
        )
        for seed in range(seeds)
        for kind, model in models.items()
    ]


def of_kind(model: ModelConfig, kind: str, parameters: int, labels: int) -> ModelConfig:
    """The same model with another encoder, its hidden size such that it has that many parameters.

    Raises ComparisonError if none comes near enough.
    """
    if kind not in KINDS:
        raise ComparisonError(f"'{kind}' is no encoder; known are {', '.join(sorted(KINDS))}")
    unit, projection = KINDS[kind].bands, model.encoder.projection
    if KINDS[kind].attention and not projection:
        unit = math.lcm(unit, model.encoder.heads // math.gcd(model.encoder.heads, 2))

    def at(size: int) -> ModelConfig:
        return replace(model, encoder=_encoder(model.encoder, kind, size * unit))

    @cache
    def count(size: int) -> int:
        return count_parameters(at(size), labels)

    least = most = -(-max(projection, 2) // unit)
    while count(most) < parameters:
        most *= 2
    size = bisect_left(range(most), parameters, lo=max(least, most // 2), key=count)
    size = min(max(least, size - 1), size, key=lambda size: abs(count(size) - parameters))
    if abs(count(size) - parameters) > TOLERANCE * parameters:
        raise ComparisonError(
            f"{kind} cannot have about {parameters:,} parameters, the nearest are "
            f"{count(size):,}; ask for more with --parameters, or leave it out with --kind"
        )
    return at(size)


def _encoder(encoder: EncoderConfig, kind: str, hidden: int) -> EncoderConfig:
    """One latency for all of the training; in one direction there is nothing to wait for."""
    parts = KINDS[kind]
    both = parts.bidirectional
    return replace(
        encoder,
        kind=kind,
        hidden=hidden,
        stem_channels=parts.bands * max(1, round(encoder.stem_channels / parts.bands)),
        projection=parts.bands * round(encoder.projection / parts.bands),
        block=encoder.block if both else encoder.block or BLOCK,
        look_ahead=encoder.look_ahead if both else 0,
        also=(),
    )


def count_parameters(model: ModelConfig, labels: int) -> int:
    """Parameters of a model, as its card counts them."""
    return sum(weights.numel() for weights in AcousticModel(model, labels).parameters())
