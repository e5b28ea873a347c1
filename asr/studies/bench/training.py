"""How fast a recipe trains on this machine, beside the bare recurrences of its network.

The floor is torch's own LSTM of the same sizes, over as many frames, forward and backward and
nothing else. What a step takes beyond it goes to the augmentation, the features, the stem, the
head, the loss and the optimiser, and to the look-ahead: where blocks overlap, the backward
direction runs over frames more than once. A second figure is for the same LSTMs over these blocks,
at the latency of each step. The best of ROUNDS counts, because whatever else the machine does can
only add to it.
"""

import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from asr.files import write_figures
from asr.studies.bench.report import figure_table
from asr.training.config import Config
from asr.training.data.batches import Batch, Batches, epoch_batches, loader
from asr.training.losses import in_bf16, precision
from asr.training.network.acoustic import AcousticModel
from asr.training.network.encoders import EncoderConfig, Latency
from asr.training.run import Run, start_run
from asr.training.train import draw_latency, train_step

STEPS = 20
ROUNDS = 3


def benchmark_training(
    config: Config, *, threads: int = 1, json_file: Path | None = None
) -> dict[str, Any]:
    """Print how long a step of a training takes and how long its bare LSTMs, and return that.

    The steps are those of the first epoch with augmentation, the waiting for their batches
    included. Nothing is saved but the cache of decoded audio. Raises EarshotError.
    """
    torch.set_num_threads(threads)
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    progress.print(f"{config.name}: reading the recordings")
    run = start_run(config, torch.device("cpu"), rank=0, world=1)
    batches = epoch_batches(config, run.corpus, config.data.warm_epochs)
    epoch = len(batches)
    batches.plan = list(islice(cycle(batches.plan), STEPS + 1))
    progress.print(f"preparing {STEPS} of the {epoch} batches of an epoch")
    prepared = [batches[k] for k in range(STEPS)]
    rounds = []
    for number in range(1, ROUNDS + 1):
        progress.print(f"training {STEPS} steps, round {number} of {ROUNDS}")
        rounds.append(_round(run, batches, prepared))
    best = {name: min(figures[name] for figures in rounds) for name in rounds[0]}
    figures = {
        "recipe": config.name,
        "threads": threads,
        "precision": "bf16" if in_bf16(config.optimisation, run.device) else "fp32",
        "workers": config.optimisation.workers,
        **best,
        "floor_share": best["floor_seconds"] / best["step_seconds"],
        "epoch_steps": epoch,
        "epoch_seconds": epoch * best["step_seconds"],
    }
    Console(markup=False, highlight=False).print(
        figure_table(("figure", "value"), _summary(figures), config.name)
    )
    if json_file is not None:
        write_figures(json_file, figures)
    return figures


def _round(run: Run, batches: Batches, prepared: list[Batch]) -> dict[str, float]:
    """Seconds of a step and of its parts, as a mean over STEPS."""
    options = run.config.optimisation
    latencies = [draw_latency(run.config.model.encoder, options.seed, k) for k in range(STEPS)]
    bare_lstms = _bare_lstms(run)
    figures = {
        "step_seconds": _steps(run, batches),
        "floor_seconds": _each(lambda batch: bare_lstms(batch, Latency(0, 0)), prepared),
        "blocks_seconds": _each(lambda k: bare_lstms(prepared[k], latencies[k]), range(STEPS)),
        "batch_seconds": _each(batches.__getitem__, range(STEPS)),
    }
    if isinstance(run.model, AcousticModel):
        features = run.model.features
        figures["feature_seconds"] = _each(lambda batch: features(batch.inputs), prepared)
    return figures


def _each(measured: Callable[[Any], object], inputs: Any) -> float:
    started = time.perf_counter()
    for one in inputs:
        measured(one)
    return (time.perf_counter() - started) / STEPS


def _steps(run: Run, batches: Batches) -> float:
    coming = loader(batches, run.config.optimisation.workers)
    batch = next(coming)  # by now the processes that prepare batches have started
    started = time.perf_counter()
    for run.progress.step in range(STEPS):
        train_step(run, run.model, [batch], done=0.0)
        batch = next(coming)
    return (time.perf_counter() - started) / STEPS


def _bare_lstms(run: Run) -> Callable[[Batch, Latency], None]:
    """A function that runs the LSTMs over as many frames as the encoder has of a batch."""
    encoder = run.config.model.encoder
    frame_length = run.model.frame_length if isinstance(run.model, AcousticModel) else 1
    directions = range(1 + encoder.parts.bidirectional)
    layers = [
        [nn.LSTM(width, encoder.hidden, batch_first=True) for _ in directions]
        for width in run.model.encoder.widths
    ]

    def forward_and_backward(batch: Batch, latency: Latency) -> None:
        frames = -(-batch.inputs.shape[1] // frame_length)
        shapes = _shapes(encoder, latency, len(batch.inputs), frames)
        for layer in layers:
            for lstm, shape in zip(layer, shapes, strict=False):  # some have one direction
                inputs = torch.zeros(*shape, lstm.input_size, requires_grad=True)
                with precision(run.config.optimisation, inputs.device):
                    output, _ = lstm(inputs)
                output.backward(torch.ones_like(output))
                lstm.zero_grad(set_to_none=True)

    return forward_and_backward


def _shapes(
    encoder: EncoderConfig, latency: Latency, rows: int, frames: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and frames that a layer runs over, forwards and backwards; whole utterances if block is
    0."""
    if not latency.block:
        return (rows, frames), (rows, frames)
    blocks = -(-(frames + latency.look_ahead * encoder.layers) // latency.block)
    overlapping = (rows * blocks, latency.block + latency.look_ahead)
    return (rows, blocks * latency.block), overlapping


def _summary(figures: dict[str, Any]) -> list[tuple[str, str]]:
    workers = figures["workers"]
    where = f"in {workers} other processes" if workers else "in between"
    rows = [
        ("threads, precision", f"{figures['threads']}, {figures['precision']}"),
        ("an epoch", f"{figures['epoch_seconds']:.0f} s, {figures['epoch_steps']} steps"),
        ("a step", f"{figures['step_seconds']:.3f} s"),
        ("bare LSTMs over whole utterances", f"{figures['floor_seconds']:.3f} s"),
        ("their share", f"{figures['floor_share']:.2f}"),
        ("bare LSTMs over its blocks", f"{figures['blocks_seconds']:.3f} s"),
        ("reading and augmenting a batch", f"{figures['batch_seconds']:.3f} s, {where}"),
    ]
    if "feature_seconds" in figures:
        rows.append(("its features", f"{figures['feature_seconds']:.3f} s"))
    return rows
