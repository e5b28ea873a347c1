"""How long a training may take: planned from what a step and a validation take on this machine."""

import copy
import math
import time
from dataclasses import dataclass, replace

from torch.optim import AdamW

from asr.cores import cores
from asr.training.data.batches import epoch_batches, loader
from asr.training.run import Run
from asr.training.train import train_step
from asr.training.validation import validate

MEASURED_STEPS = 3
EVALUATIONS = 20  # of a training, if they take no more than VALIDATION_SHARE of its time
FEWEST_EVALUATIONS = 4
VALIDATION_SHARE = 0.1
PATIENCE = 8


@dataclass(frozen=True)
class Schedule:
    """Plans a training that must end at `until`, at the latest, of one that would end at `end`
    (both by `time.monotonic`), so that a first part can be followed by the rest.

    at_most: seconds that it has from the first step on, however long it took to read what it
    learns from: trials of several starts are equally long.
    """

    end: float
    until: float
    at_most: float = math.inf

    def __call__(self, run: Run) -> None:
        """Settle `minutes`, `evaluate_every` and `until` of a run; see `Planner`."""
        step, validation = measure(run)
        left = max(step, self.end - time.monotonic())
        evaluations = max(
            FEWEST_EVALUATIONS, min(EVALUATIONS, int(VALIDATION_SHARE * left / validation))
        )
        training = max(step, left - evaluations * validation)
        options = run.config.optimisation
        epoch = len(epoch_batches(run.config, run.corpus, 0))
        steps = min(round(training / step), options.epochs * epoch)
        run.config = replace(
            run.config,
            optimisation=replace(
                options,
                minutes=(run.progress.seconds + training) / 60.0,
                evaluate_every=max(1, steps // evaluations),
                patience=PATIENCE,
            ),
        )
        run.until = min(self.until, time.monotonic() + self.at_most)
        print(
            f"a step takes {step:.2f} s and a validation {validation:.1f} s here: about {steps} "
            f"steps in {steps * step / 60:.1f} minutes",
            flush=True,
        )


def measure(run: Run) -> tuple[float, float]:
    """Seconds of a step, its share of preparing batches included, and of a validation.

    The run stays as it is.
    """
    before = copy.deepcopy((run.model.state_dict(), run.averaged.state_dict()))
    batches = loader(epoch_batches(run.config, run.corpus, 0), workers=0)
    optimiser, run.optimiser = run.optimiser, AdamW(run.model.parameters())
    times, started = [], time.monotonic()
    for _, batch in zip(range(1 + MEASURED_STEPS), batches, strict=False):
        prepared = time.monotonic()
        train_step(run, run.model, [batch], done=0.0)
        ended = time.monotonic()
        times.append(ended - prepared + (prepared - started) / cores())
        started = ended
    run.optimiser = optimiser
    started = time.monotonic()
    validate(run.averaged.module, run.config, run.corpus, run.device)
    validation = time.monotonic() - started
    run.model.load_state_dict(before[0])
    run.averaged.load_state_dict(before[1])
    return min(times), validation
