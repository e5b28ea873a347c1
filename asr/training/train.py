"""The training loop: straight down, resumable, the same result however it is interrupted."""

import json
import math
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from asr.files import whole_file
from asr.training.checkpoint import (
    BEST,
    LAST,
    RESUMABLE,
    RESUME,
    Progress,
    load_checkpoint,
    save_checkpoint,
)
from asr.training.config import Config, read_config
from asr.training.data.batches import Batch, epoch_batches, loader
from asr.training.interrupts import Interrupted, interrupts
from asr.training.losses import batch_loss
from asr.training.network.encoders import EncoderConfig, Latency
from asr.training.plots import plot_curves
from asr.training.processes import in_any, processes, restarted
from asr.training.reporting import Waits, reporting
from asr.training.run import Observer, Planner, Run, TrainingError, restore, start_run
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


def train_model(
    config: Config,
    resume: bool,
    observers: Sequence[Observer] = (),
    planner: Planner | None = None,
) -> Progress:
    """As `train`, by a configuration that has been read. Returns how far it came.

    observers: what the first process calls after each validation, once it is saved; planner: what
    a single process calls before the first step.
    """
    last = config.run / LAST
    with processes() as (device, rank, world):
        again = restarted(device)
        _check_folder(config, resume or again)
        if resume and not last.exists() and rank == 0 and not again:
            print(f"{config.run}: holds no training to resume; this one starts at the beginning")
        run = start_run(config, device, rank, world)
        run.observers = observers if rank == 0 else ()
        if last.exists():
            restore(run, load_checkpoint(last, RESUMABLE))
        if planner is not None:
            planner(run)
        _loop(run)
        return run.progress


def _check_folder(config: Config, resume: bool) -> None:
    """Make the folder of a training; refuse one that holds another already."""
    if (config.run / LAST).exists() and not resume:
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


def _loop(run: Run) -> None:
    network: nn.Module = run.model
    if run.world > 1:
        network = nn.parallel.DistributedDataParallel(run.model)
    options, progress, before = run.config.optimisation, run.progress, run.progress.step
    losses: list[Tensor] = []
    waits = Waits()
    with reporting(run) as report, interrupts() as interrupted:
        mark = time.monotonic()
        for parts, done in _steps(run, waits):
            losses.append(train_step(run, network, parts, done))
            progress.step += 1
            progress.batch += len(parts)
            progress.seconds += time.monotonic() - mark
            mark = time.monotonic()
            report(done, losses[-1].item())
            if in_any(interrupted(), run.device):  # all must stop at the same step
                _save_interrupted(run)
            if progress.step % options.evaluate_every == 0:
                _evaluate_and_save(run, losses, waits)
                losses, mark = [], time.monotonic()
        if losses:
            _evaluate_and_save(run, losses, waits)
    if progress.step == before and run.rank == 0:
        print(
            f"{run.config.run}: was at its end already, after {before} steps; raise "
            "optimisation.epochs, minutes or patience to go on"
        )


def _steps(run: Run, waits: Waits) -> Iterator[tuple[list[Batch], float]]:
    """Yield the batches of each step, and the share of the training before it, until its epochs,
    its minutes, its patience or its time end."""
    options, progress = run.config.optimisation, run.progress
    while progress.epoch < options.epochs:
        batches = epoch_batches(run.config, run.corpus, progress.epoch, run.rank, run.world)
        coming = waits.timed(loader(batches, options.workers, progress.batch))
        while parts := list(islice(coming, options.accumulate)):
            done = _share_done(run, len(batches))
            if progress.stale >= options.patience:  # a resumed run stops here, too
                return
            if time.monotonic() >= run.until:
                return
            if done >= 1.0 and progress.step:  # however little time: one step gives a model
                return
            yield parts, done
        progress.epoch, progress.batch = progress.epoch + 1, 0


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


def train_step(run: Run, network: nn.Module, parts: Sequence[Batch], done: float) -> Tensor:
    """One update from one batch or several, which count as one: the gradients of their targets are
    averaged. `done` is the share of the training behind it. Returns the loss over all processes,
    detached. Raises TrainingError, in all processes, if it is not finite."""
    options, progress = run.config.optimisation, run.progress
    # Seeded by the step, so that a resumed run drops and masks what an uninterrupted one does.
    torch.manual_seed(options.seed + 7919 * progress.step + run.rank)
    rate = options.learning_rate * learning_rate_factor(done, options.warmup)
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    augment = None if run.config.warm(run.progress.epoch) else run.config.augment
    run.model.encoder.latency = draw_latency(run.config.model.encoder, options.seed, progress.step)
    run.optimiser.zero_grad(set_to_none=True)
    weight = sum(part.weight for part in parts)
    total = torch.zeros((), device=run.device)
    for number, part in enumerate(parts, start=1):
        with _in_step(network, last=number == len(parts)):
            loss = batch_loss(network, part.to(run.device), run.config, augment, run.guides)
            loss = loss * (part.weight / weight)
            total += _checked(run, loss.detach())
            # Processes average their gradients; the loss is a share of a sum.
            (loss * run.world).backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), options.clip)
    run.optimiser.step()
    run.averaged.update_parameters(run.model)
    return total


def _in_step(network: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Have processes exchange the gradients of a step once, with its last part."""
    if last or not isinstance(network, nn.parallel.DistributedDataParallel):
        return nullcontext()
    return network.no_sync()


def _checked(run: Run, loss: Tensor) -> Tensor:
    """Return the sum of a loss over all processes.

    If it is not finite in one of them, all of them stop before any waits for the gradients of
    another: the first with a TrainingError, the others without a word.
    """
    if run.world > 1:
        distributed.all_reduce(loss := loss.clone())
    if math.isfinite(loss.item()):
        return loss
    if run.rank:
        raise SystemExit(1)
    raise TrainingError(
        f"the loss is {loss.item()} at step {run.progress.step}; continue with --resume and a "
        "smaller optimisation.learning_rate or clip"
    )


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


def _evaluate_and_save(run: Run, losses: list[Tensor], waits: Waits) -> None:
    """Validate the averaged weights, each process its share of the recordings; rank 0 writes
    checkpoints, metrics and curves."""
    entry = _entry(run, torch.stack(losses).mean().item())
    if run.rank == 0:
        improved = all(_rank(run, entry) < _rank(run, earlier) for earlier in run.history)
        run.history.append(entry)
        run.progress.best = min(run.progress.best, entry[run.metric])
        run.progress.stale = 0 if improved else run.progress.stale + 1
        _write(run, entry, improved)
        print(f"waited for the loaders {waits.share():.0%} of the time", flush=True)
        for observe in run.observers:
            observe(run)
    if run.world > 1:
        shared = [run.progress.best, run.progress.stale]
        distributed.broadcast_object_list(shared)
        run.progress.best, run.progress.stale = shared


def _rank(run: Run, entry: dict[str, Any]) -> tuple[float, float]:
    """What makes weights better than others: the figure of the task, and where it is the same, as
    it often is of few recordings, the loss."""
    return entry[run.metric], entry["validation_loss"]


def _entry(run: Run, train_loss: float) -> dict[str, Any]:
    figures = validate(run.averaged.module, run.config, run.corpus, run.device, run.rank, run.world)
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
