"""The training loop: straight down, resumable, the same result however it is interrupted."""

import json
import math
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from asr.files import whole_file
from asr.training.checkpoint import BEST, LAST, RESUMABLE, RESUME, load_checkpoint, save_checkpoint
from asr.training.config import Config, read_config
from asr.training.data.batches import Batch, epoch_batches, loader
from asr.training.interrupts import Interrupted, interrupts
from asr.training.losses import batch_loss
from asr.training.network.encoders import EncoderConfig, Latency
from asr.training.plots import plot_curves
from asr.training.processes import processes
from asr.training.reporting import reporting
from asr.training.run import Run, TrainingError, restore, start_run
from asr.training.validation import validate


def train(config_path: Path, overrides: list[str], resume: bool) -> None:
    """Train by a configuration; `<out>/<name>/best.pt` is the result. Raises EarshotError.

    Ctrl-C or SIGTERM ends the step that runs, saves and raises Interrupted.
    """
    try:
        train_model(read_config(config_path, overrides), resume)
    except Interrupted as stop:
        command = shlex.join(["asr", "train", str(config_path), *overrides, "--resume"])
        print(f"{stop}; go on with: {command}", flush=True)
        raise


def train_model(config: Config, resume: bool) -> None:
    """As `train`, by a configuration that has been read."""
    last = config.run / LAST
    if last.exists() and not resume:
        raise TrainingError(
            f"{config.run}: holds a training already; continue it with --resume, or give this one "
            "another name (name=...)"
        )
    try:
        config.run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"{config.run}: cannot be the folder of a training ({error.strerror}); name another "
            "with out=..."
        ) from None
    with processes() as (device, rank, world):
        if resume and not last.exists() and rank == 0:
            print(f"{config.run}: holds no training to resume; this one starts at the beginning")
        run = start_run(config, device, rank, world)
        if last.exists():
            restore(run, load_checkpoint(last, RESUMABLE))
        _loop(run)


def _loop(run: Run) -> None:
    network: nn.Module = run.model
    if run.world > 1:
        network = nn.parallel.DistributedDataParallel(run.model)
    options, progress = run.config.optimisation, run.progress
    losses: list[Tensor] = []
    with reporting(run) as report, interrupts() as interrupted:
        mark = time.monotonic()
        for batch, done in _batches(run):
            losses.append(train_step(run, network, batch, done))
            progress.step += 1
            progress.batch += 1
            progress.seconds += time.monotonic() - mark
            mark = time.monotonic()
            report(done, losses[-1].item() * run.world)
            if _anybody(run, interrupted()):
                _save_interrupted(run)
            if progress.step % options.evaluate_every == 0:
                _evaluate_and_save(run, losses)
                losses, mark = [], time.monotonic()
        if losses:
            _evaluate_and_save(run, losses)


def _batches(run: Run) -> Iterator[tuple[Batch, float]]:
    """Yield batches, and the share of the training before each, until its epochs, its minutes or
    its patience end."""
    options, progress = run.config.optimisation, run.progress
    while progress.epoch < options.epochs:
        batches = epoch_batches(run.config, run.corpus, progress.epoch, run.rank, run.world)
        for batch in loader(batches, options.workers, progress.batch):
            done = _share_done(run, len(batches))
            if progress.stale >= options.patience:  # a resumed run stops here, too
                return
            if done >= 1.0 and progress.step:  # however little time: one step gives a model
                return
            yield batch, done
        progress.epoch, progress.batch = progress.epoch + 1, 0


def _anybody(run: Run, here: bool) -> bool:
    """Whether this is so in any of the processes, which must stop at the same step."""
    if run.world == 1:
        return here
    flag = torch.tensor(float(here), device=run.device)
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag.item())


def _save_interrupted(run: Run) -> None:
    """Save for --resume, without a validation, and raise Interrupted."""
    if run.rank == 0:
        save_last(run, run.history[-1] if run.history else {})
    raise Interrupted(f"stopped at step {run.progress.step} and saved")


def _share_done(run: Run, batches: int) -> float:
    """The share of a training that is behind it, before a batch of an epoch of so many."""
    options, progress = run.config.optimisation, run.progress
    done = (progress.epoch + progress.batch / batches) / options.epochs
    if not options.minutes:
        return done
    shared = [max(done, progress.seconds / (60.0 * options.minutes))]
    if run.world > 1:  # processes must stop at the same step
        distributed.broadcast_object_list(shared)
    return shared[0]


def train_step(run: Run, network: nn.Module, batch: Batch, done: float) -> Tensor:
    """One update; `done` is the share of the training behind it. Returns the loss, detached."""
    options, progress = run.config.optimisation, run.progress
    # Seeded by the step, so that a resumed run drops and masks what an uninterrupted one does.
    torch.manual_seed(options.seed + 7919 * progress.step + run.rank)
    rate = options.learning_rate * learning_rate_factor(done, options.warmup)
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    augment = None if run.config.warm(run.progress.epoch) else run.config.augment
    run.model.encoder.latency = draw_latency(run.config.model.encoder, options.seed, progress.step)
    loss = batch_loss(network, batch.to(run.device), run.config, augment)
    if not math.isfinite(loss.item()):
        raise TrainingError(
            f"the loss is {loss.item()} at step {run.progress.step}; continue with --resume and a "
            "smaller optimisation.learning_rate or clip"
        )
    run.optimiser.zero_grad(set_to_none=True)
    (loss * run.world).backward()  # processes average their gradients; the loss is a sum's share
    nn.utils.clip_grad_norm_(run.model.parameters(), options.clip)
    run.optimiser.step()
    run.averaged.update_parameters(run.model)
    return loss.detach()


def draw_latency(encoder: EncoderConfig, seed: int, step: int) -> Latency:
    """The latency of a step, the same in every process: the model's own, or for half of the steps
    one of `also`, if there are any."""
    rng = np.random.default_rng([seed, step])
    if not encoder.also or rng.random() < 0.5:
        return encoder.latency
    return Latency(*encoder.also[rng.integers(len(encoder.also))])


def learning_rate_factor(done: float, warmup: float) -> float:
    """Linear rise over the share `warmup` of the training, then a cosine down to zero."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / (1.0 - warmup + 1e-9)))


def _evaluate_and_save(run: Run, losses: list[Tensor]) -> None:
    """Rank 0 validates the averaged weights and writes checkpoints, metrics and curves."""
    loss = torch.stack(losses).mean()
    if run.world > 1:
        distributed.all_reduce(loss)  # each process has its share of a sum
    if run.rank == 0:
        entry = _entry(run, loss.item())
        run.history.append(entry)
        improved = entry[run.metric] < run.progress.best
        run.progress.best = min(run.progress.best, entry[run.metric])
        run.progress.stale = 0 if improved else run.progress.stale + 1
        _write(run, entry, improved)
    if run.world > 1:
        shared = [run.progress.best, run.progress.stale]
        distributed.broadcast_object_list(shared)
        run.progress.best, run.progress.stale = shared


def _entry(run: Run, train_loss: float) -> dict[str, Any]:
    figures = validate(run.averaged.module, run.config, run.corpus, run.device)
    return {
        "step": run.progress.step,
        "epoch": run.progress.epoch,
        "learning_rate": run.optimiser.param_groups[0]["lr"],
        "train_loss": train_loss,
        "seconds": round(run.progress.seconds, 1),
        **figures,
    }


def _write(run: Run, entry: dict[str, Any], improved: bool) -> None:
    folder = run.config.run
    if improved:
        save_checkpoint(folder / BEST, *_averaged(run, entry))
    save_last(run, entry)
    with whole_file(folder / "metrics.jsonl", RESUME) as part:
        part.write_text("".join(json.dumps(line) + "\n" for line in run.history))
    plot_curves(run.history, run.metric, folder / "curves.png", RESUME)
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in entry.items()}
    print("  ".join(f"{k} {v}" for k, v in shown.items()), flush=True)


def save_last(run: Run, entry: dict[str, Any]) -> None:
    """Write all that --resume needs; `entry` is the newest validation."""
    save_checkpoint(
        run.config.run / LAST,
        *_averaged(run, entry),
        model=run.model.state_dict(),
        optimiser=run.optimiser.state_dict(),
        averages=int(run.averaged.n_averaged),
        history=json.dumps(run.history),
    )


def _averaged(run: Run, entry: dict[str, Any]) -> tuple[Any, ...]:
    """What every checkpoint holds, in the order of `save_checkpoint`."""
    return run.config, run.corpus.labels.names, run.averaged.module, run.progress, entry
