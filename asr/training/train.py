"""The training loop: straight down, resumable, the same result however it is interrupted."""

import gc
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from asr.files import whole_file
from asr.training.checkpoint import (
    BEST,
    LAST,
    RESUME,
    Progress,
    best_checkpoint,
    build_model,
    load_checkpoint,
    save_checkpoint,
)
from asr.training.config import Config, OptimisationConfig, expand, parse_config, read_config
from asr.training.data.batches import Batch, Batches, TextBatches, loader
from asr.training.data.corpus import Corpus, load_corpus
from asr.training.data.labels import Labels
from asr.training.data.plan import plan_epoch, plan_validation
from asr.training.network.acoustic import AcousticModel
from asr.training.network.encoders import EncoderConfig, Latency
from asr.training.network.language import LanguageModel
from asr.training.plots import plot_curves
from features.augment import AugmentConfig, Augmenter
from features.errors import EarshotError

logger = logging.getLogger(__name__)

STATISTICS_BATCHES = 80
METRICS = {"ctc": "cer", "classify": "error", "lm": "perplexity"}


class TrainingError(EarshotError, RuntimeError):
    """A training that cannot start or go on."""


@dataclass
class Run:
    """Everything that changes while a model trains."""

    config: Config
    corpus: Corpus
    model: AcousticModel | LanguageModel
    averaged: AveragedModel
    optimiser: torch.optim.Optimizer
    progress: Progress
    history: list[dict[str, Any]]
    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def metric(self) -> str:
        """The validation figure that decides which weights are best; lower is better."""
        return METRICS[self.corpus.labels.task]


def train(config_path: Path, overrides: list[str], resume: bool) -> None:
    """Train by a configuration; `<out>/<name>/best.pt` is the result. Raises EarshotError."""
    train_model(read_config(config_path, overrides), resume)


def train_model(config: Config, resume: bool) -> None:
    """As `train`, by a configuration that has been read."""
    last = config.run / LAST
    if last.exists() and not resume:
        raise TrainingError(
            f"{config.run}: holds a training already; continue it with --resume, or give this one "
            "another name (name=...)"
        )
    config.run.mkdir(parents=True, exist_ok=True)
    with _processes() as (device, rank, world):
        run = start_run(config, device, rank, world)
        if resume and last.exists():
            _restore(run, load_checkpoint(last))
        _loop(run)


@contextmanager
def _processes() -> Iterator[tuple[torch.device, int, int]]:
    """Join the other processes if `torchrun` started this one; yield device, rank and count."""
    cuda = torch.cuda.is_available()
    if "RANK" not in os.environ:
        yield torch.device("cuda" if cuda else "cpu"), 0, 1
        return
    distributed.init_process_group("nccl" if cuda else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    try:
        yield device, distributed.get_rank(), distributed.get_world_size()
    finally:
        # The group's threads end with its last owner: DistributedDataParallel, which is in cycles.
        # One that outlives the interpreter's end aborts the process.
        gc.collect()
        distributed.destroy_process_group()


def start_run(config: Config, device: torch.device, rank: int, world: int) -> Run:
    """Build everything as it is before the first step, the same in every process."""
    options = config.optimisation
    corpus = load_corpus(config)
    torch.manual_seed(options.seed)
    model = build_model(config, len(corpus.labels.names))
    model.encoder.truncate = options.truncate
    if options.start:
        _take_weights(model, expand(options.start))
    elif isinstance(model, AcousticModel):
        _fit_normalisation(model, config, corpus)
    model.to(device)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        fused=True,
    )
    averaged = AveragedModel(model, multi_avg_fn=partial(_average, options.ema))
    run = Run(config, corpus, model, averaged, optimiser, Progress(), [], device, rank, world)
    if rank == 0:
        parameters = sum(p.numel() for p in model.parameters())
        print(
            f"{config.name}: {len(corpus.train)} examples to train on, {len(corpus.validation)} "
            f"of other speakers to validate, {len(corpus.labels.names)} labels, "
            f"{parameters / 1e6:.2f} M parameters, on {device}"
        )
    return run


def _take_weights(model: AcousticModel | LanguageModel, start: Path) -> None:
    """Begin with the averaged weights of another training, wherever name and shape agree."""
    content = load_checkpoint(best_checkpoint(start))
    own = model.state_dict()
    fitting = {
        name: weights
        for name, weights in content["averaged"].items()
        if name in own and own[name].shape == weights.shape
    }
    if not fitting.keys() >= set(model.foundation):
        raise TrainingError(
            f"optimisation.start: {start} has other features or another stem than this model (or "
            "other labels to read); give both the same [model.mfcc] and [model.encoder]"
        )
    model.load_state_dict(own | fitting)
    print(f"starting with {len(fitting)} of {len(own)} tensors from {start}")


@torch.no_grad()
def _average(
    ema: float, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int
) -> None:
    """Exponential moving average whose memory grows with the steps behind it, until `ema` holds:
    the weights that a short training starts from must not weigh in to its end."""
    decay = min(ema, (1.0 + int(count)) / (10.0 + int(count)))
    for mean, weights in zip(averaged, current, strict=True):
        mean.lerp_(weights, 1.0 - decay)


@torch.no_grad()
def _fit_normalisation(model: AcousticModel, config: Config, corpus: Corpus) -> None:
    """Mean and scale of every coefficient over augmented recordings."""
    batches = epoch_batches(config, corpus, config.data.warm_epochs)
    features = []
    for index in range(min(STATISTICS_BATCHES, len(batches))):
        batch = batches[index]
        hop_length = config.model.mfcc.hop_length
        for row, frames in zip(
            model.mfcc(batch.inputs), batch.input_lengths // hop_length, strict=True
        ):
            features.append(row[: int(frames)])
    every = torch.cat(features)
    model.mean.copy_(every.mean(dim=0))
    model.scale.copy_(1.0 / every.std(dim=0).clamp(min=1e-3))


def epoch_batches(
    config: Config, corpus: Corpus, epoch: int, rank: int = 0, world: int = 1
) -> Batches:
    """One process's part of the batches of an epoch, augmented. Raises TrainingError."""
    augmenter = None
    if not config.warm(epoch):
        augmenter = Augmenter(config.augment, corpus.noises, config.model.mfcc.sample_rate)
    plan = [batch for batch in plan_epoch(config, corpus, epoch) if len(batch) >= world]
    if not plan:
        raise TrainingError(
            f"no batch has a recording for each of {world} processes; raise "
            "optimisation.batch_seconds"
        )
    return _kind(config)(plan, corpus.noises, augmenter, rank, world)


def _kind(config: Config) -> type[Batches]:
    return TextBatches if config.model.head.kind == "lm" else Batches


def _loop(run: Run) -> None:
    options, progress = run.config.optimisation, run.progress
    network: nn.Module = run.model
    if run.world > 1:
        network = nn.parallel.DistributedDataParallel(run.model)
    losses: list[Tensor] = []
    with _bar(run) as advance:
        while progress.epoch < options.epochs and progress.stale < options.patience:
            batches = epoch_batches(run.config, run.corpus, progress.epoch, run.rank, run.world)
            started = time.monotonic()
            for batch in loader(batches, options.workers, progress.batch):
                seconds = progress.seconds + time.monotonic() - started
                done = _share_done(run, len(batches), seconds)
                if done >= 1.0 and progress.step:  # however little time: one step gives a model
                    progress.seconds = seconds
                    if losses:
                        _evaluate_and_save(run, losses)
                    return
                losses.append(train_step(run, network, batch, done))
                progress.step += 1
                progress.batch += 1
                advance(progress.epoch, progress.batch, len(batches))
                if progress.step % options.evaluate_every == 0:
                    progress.seconds += time.monotonic() - started
                    _evaluate_and_save(run, losses)
                    losses, started = [], time.monotonic()
                    if progress.stale >= options.patience:  # a resumed run would stop here, too
                        return
            progress.seconds += time.monotonic() - started
            progress.epoch, progress.batch = progress.epoch + 1, 0
            if losses and progress.epoch == options.epochs:
                _evaluate_and_save(run, losses)


def _share_done(run: Run, batches: int, seconds: float) -> float:
    """The share of a training that is behind it, before a batch of an epoch of so many."""
    options, progress = run.config.optimisation, run.progress
    done = (progress.epoch + progress.batch / batches) / options.epochs
    if not options.minutes:
        return done
    shared = [max(done, seconds / (60.0 * options.minutes))]
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


def batch_loss(
    network: nn.Module, batch: Batch, config: Config, augment: AugmentConfig | None = None
) -> Tensor:
    """Loss summed over this process's part of a batch, divided by the targets of the whole."""
    options = config.optimisation
    with precision(options, batch.inputs.device):
        sought = {}
        if batch.search.any():
            sought["sought"] = torch.where(batch.search, batch.targets, -1)
        log_probs, frame_lengths = network(batch.inputs, batch.input_lengths, augment, **sought)
    if config.model.head.kind == "classify":
        smoothing = options.label_smoothing if augment else 0.0
        total = functional.cross_entropy(
            log_probs.squeeze(1), batch.targets, reduction="sum", label_smoothing=smoothing
        )
    elif config.model.head.kind == "lm":
        time = torch.arange(log_probs.shape[1], device=log_probs.device)
        rows = log_probs[time < frame_lengths[:, None]]
        total = functional.nll_loss(rows, batch.targets, reduction="sum")
    else:
        total = functional.ctc_loss(
            log_probs.transpose(0, 1),
            batch.targets,
            frame_lengths,
            batch.target_lengths,
            reduction="sum",
            zero_infinity=True,
        )
    return total / batch.weight


def precision(options: OptimisationConfig, device: torch.device) -> torch.autocast:
    """What the network runs in."""
    return torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16")


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
    folder, labels = run.config.run, run.corpus.labels.names
    best = (run.config, labels, run.averaged.module, run.progress, entry)
    if improved:
        save_checkpoint(folder / BEST, *best)
    save_checkpoint(
        folder / LAST,
        *best,
        model=run.model.state_dict(),
        optimiser=run.optimiser.state_dict(),
        averages=int(run.averaged.n_averaged),
        history=json.dumps(run.history),
    )
    with whole_file(folder / "metrics.jsonl", RESUME) as part:
        part.write_text("".join(json.dumps(line) + "\n" for line in run.history))
    plot_curves(run.history, run.metric, folder / "curves.png", RESUME)
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in entry.items()}
    print("  ".join(f"{k} {v}" for k, v in shown.items()), flush=True)


def _restore(run: Run, content: dict[str, Any]) -> None:
    """Put a run back to where its last checkpoint was written."""
    if tuple(content["labels"]) != run.corpus.labels.names:
        raise TrainingError(
            f"{run.config.run}: its checkpoint has other labels than the data gives now; restore "
            "the data, or start a new run under another name"
        )
    if parse_config(json.loads(content["config"]), LAST).model != run.config.model:
        raise TrainingError(
            f"{run.config.run}: its checkpoint was trained with other settings under [model]; "
            "restore them, or start a new run under another name"
        )
    run.model.load_state_dict(content["model"])
    run.averaged.module.load_state_dict(content["averaged"])
    run.averaged.n_averaged.fill_(content["averages"])
    run.optimiser.load_state_dict(content["optimiser"])
    run.progress = Progress(**content["progress"])
    run.history = json.loads(content["history"])


@torch.no_grad()
def validate(
    model: nn.Module, config: Config, corpus: Corpus, device: torch.device
) -> dict[str, float]:
    """Loss per target and, for classify, the error (share of wrong labels, and its mean over the
    labels); for ctc, the character error rate, overall and per source; for lm, the perplexity of a
    label."""
    model.eval()
    plan = plan_validation(config, corpus)
    batches = _kind(config)(plan, corpus.validation_noises, None)
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
    import jiwer

    texts = [labels.decode(guess) for guess in guesses]
    figures = {"cer": float(jiwer.cer(truths, texts)), "wer": float(jiwer.wer(truths, texts))}
    for name in dict.fromkeys(sources):
        chosen = [k for k, source in enumerate(sources) if source == name]
        said, heard = [truths[k] for k in chosen], [texts[k] for k in chosen]
        figures[f"cer {name}"] = float(jiwer.cer(said, heard))
    return figures


@contextmanager
def _bar(run: Run) -> Iterator[Any]:
    """A progress bar over the epoch, drawn by the first process only, and only on a terminal."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"best {run.metric} " + "{task.fields[best]:.4f}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, disable=run.rank != 0, transient=True) as bar:
        task = bar.add_task("", epoch=0, best=math.inf)

        def advance(epoch: int, batch: int, count: int) -> None:
            bar.update(task, completed=batch, total=count, epoch=epoch + 1, best=run.progress.best)

        yield advance
