"""From recordings of words to a model file that can be relied on: train, export, set thresholds,
measure, and say what is missing most."""

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.card import Alarms
from asr.evaluation.alarms import listen, stream_figures
from asr.evaluation.figures import summarise
from asr.evaluation.outcomes import run_trials
from asr.evaluation.streams import Watcher
from asr.evaluation.trials import read_trials
from asr.model import Model
from asr.studies.budget import settle
from asr.studies.own_words.hard import mine
from asr.studies.own_words.materials import Materials, unknown_source
from asr.studies.own_words.recipe import recipe, with_sources
from asr.studies.own_words.schedule import Schedule
from asr.studies.own_words.survey import Take
from asr.training.checkpoint import BEST, LAST, load_checkpoint
from asr.training.config import Config, apply_override, parse_config
from asr.training.data.sources import read_source
from asr.training.negatives import SPEECH_SOURCE as BUNDLED_SPEECH
from asr.training.run import TrainingError
from asr.training.train import train_model
from export.export import export_run, rewrite_card

AUTO = "auto"
STARTS = ("english", "commands")  # bundled models that AUTO tries
TRIAL_SHARE = 0.08  # of the time, for each of them
FIRST_SHARE = 0.6  # of the time of training, before hard negatives are looked for
MINING_SHARE = 0.1  # of the time, in which hard negatives are looked for
REFINEMENT = 0.5  # of the learning rate, with hard negatives
RESERVE_SHARE, RESERVE_SECONDS = 0.12, 20.0  # of the time, for all that follows the training
MOST_POSITIVES = 300  # held-out recordings that thresholds are set by
SPARE = 0.1  # of what is recognised, the most that is given up to keep the budget


@dataclass(frozen=True)
class Order:
    """What is wanted.

    folder: where everything is written but the model; start: a bundled model or an .onnx file whose
    weights it begins with, NOTHING, or AUTO; budget: false alarms an hour; overrides: as for
    `read_config`.
    """

    name: str
    out: Path
    folder: Path
    minutes: float = 20.0
    start: str = AUTO
    budget: float = 0.5
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A model that was built: its figures on held-out recordings and on streams, and what its
    hours prove."""

    model: Model
    accuracy: dict[str, Any]
    streams: dict[str, Any]
    alarms: Alarms


def build(order: Order, takes: Sequence[Take], materials: Materials, resume: bool) -> Result:
    """Train, export, set thresholds and measure within `order.minutes`. Raises EarshotError.

    resume: go on with the training that is in `order.folder`, if there is one.
    """
    began = time.monotonic()
    seconds = 60.0 * order.minutes
    end = began + seconds - RESERVE_SECONDS - RESERVE_SHARE * seconds
    if not resume and (holding := list(order.folder.glob(f"*/*/{LAST}"))):
        raise TrainingError(
            f"{holding[0].parent}: holds a training already; continue it with --resume, or give "
            "this one another name with --name"
        )
    first_end = began + FIRST_SHARE * (end - began) if materials.negatives else end
    config = _first_round(order, takes, materials, end, first_end)
    if materials.negatives:
        config = _second_round(order, config, materials, end)
    return measure_model(order, export_run(config.run, order.out), config, materials)


def configure(
    order: Order, takes: Sequence[Take], materials: Materials, start: str, stage: str
) -> Config:
    """The configuration of a stage of the training, with the overrides."""
    words = tuple(dict.fromkeys(take.word for take in takes))
    seconds = sum(take.seconds for take in takes)
    config = recipe(order.name, words, materials, order.folder / stage, start, seconds)
    tree = dataclasses.asdict(config)
    for override in order.overrides:
        apply_override(tree, override)
    return parse_config(tree, order.name)


def _first_round(
    order: Order, takes: Sequence[Take], materials: Materials, end: float, until: float
) -> Config:
    """Train from the start that is best after a short trial, up to `until` of a plan to `end`."""
    starts = STARTS if order.start == AUTO else (order.start,)
    configs = {
        start: configure(order, takes, materials, start, f"from_{Path(start).stem}")
        for start in starts
    }
    if len(configs) > 1:
        trial = TRIAL_SHARE * 60.0 * order.minutes
        found = {}
        for start, config in configs.items():
            print(f"trying to start from {start}")
            _train(config, Schedule(end, end, trial))
            metrics = json.loads(load_checkpoint(config.run / BEST)["metrics"])
            found[start] = metrics["error"], metrics["validation_loss"]
        start = min(found, key=found.__getitem__)
        listed = ", ".join(f"{error:.1%} from {name}" for name, (error, _) in found.items())
        print(f"error after the trials: {listed}; going on with {start}")
        configs = {start: configs[start]}
    (config,) = configs.values()
    _train(config, Schedule(end, until))
    return config


def _second_round(order: Order, config: Config, materials: Materials, end: float) -> Config:
    """Go on with what the model took for words in the negatives, if there is something."""
    first = export_run(config.run, order.folder / "first.onnx")
    until = time.monotonic() + MINING_SHARE * 60.0 * order.minutes
    hard = mine(Watcher(first), materials.negatives, order.folder, until)
    if not hard:
        _train(config, Schedule(end, end))
        return config
    options = config.optimisation
    second = replace(
        with_sources(config, unknown_source(order.folder, "hard", hard)),
        out=str(order.folder / "second"),
        optimisation=replace(
            options, start=str(config.run), learning_rate=REFINEMENT * options.learning_rate
        ),
    )
    _train(second, Schedule(end, end))
    return second


def _train(config: Config, schedule: Schedule) -> None:
    """Train, or go on where a training in the same folder stopped."""
    train_model(config, resume=(config.run / LAST).exists(), planner=schedule)


def measure_model(order: Order, model: Model, config: Config, materials: Materials) -> Result:
    """Set the thresholds of a model by its held-out recordings and negatives, write them into its
    card, and measure it."""
    watcher = Watcher(model)
    trials = read_trials(model, materials.measured, "{speaker}").trials
    some = trials[:: 1 + len(trials) // MOST_POSITIVES]
    listening = listen(watcher, some, [*materials.held_out, *_bundled(config)])
    thresholds, alarms = settle(watcher, listening, order.budget, SPARE)
    accuracy = summarise(model.card, list(run_trials(model, trials)))
    own = {"accuracy": accuracy["accuracy"], "accuracy_n": accuracy["n"]}
    metrics = model.card.metrics | own
    card = replace(model.card, alarms=alarms, metrics=metrics)
    model = rewrite_card(order.out, card, order.out)
    return Result(model, accuracy, stream_figures(watcher, listening, thresholds), alarms)


def _bundled(config: Config) -> list[Path]:
    """The clips of the bundled speech that were held out."""
    sources = [source for source in config.data.sources if source.name == BUNDLED_SPEECH]
    recordings = [recording for source in sources for recording in read_source(0, source)]
    return [recording.path for recording in recordings if recording.validation]
