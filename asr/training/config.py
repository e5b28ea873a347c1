"""Training settings: one TOML file, every field overridable on the command line, nothing else.

Every field has one home, a frozen dataclass that checks itself; this module only fills them in.
An unknown field or a wrong type is an error that names it.
"""

import dataclasses
import os
import re
import sys
import tomllib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from asr.card import DataSource, Trigger
from asr.files import read_text
from asr.model import bundled_models
from asr.training.network.acoustic import ModelConfig
from features.augment import AugmentConfig
from features.errors import EarshotError

CHARACTERS_PER_SECOND = 15  # of speech: what a second in the settings is to texts alone


class ConfigError(EarshotError, ValueError):
    """A configuration that cannot be read or makes no sense."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One set of recordings: a folder of words (<word>/*.wav) or a JSON-lines manifest.

    kind "noise": the recordings hold no speech; they are mixed into speech and, for a classifier
    with a `_silence_` label, given on their own. "text": a text file, one text a line, for language
    models, which also learn from the texts of recordings. "shards": a folder of `asr shard`; it
    knows its speakers, and its sound is neither decoded into the cache nor held in memory.
    speaker: regular expression whose group 1 names the speaker in a file's path, or `{field}` for a
    field of the manifest; empty: every file, or text of a text file, is a speaker of its own.
    validation: share of the speakers (in percent) held out, the nearest number of them and at least
        one; of a single speaker, that share of the recordings. validation_speakers: exactly these.
    validation_rule: "nearest" holds out that many; "hash" whoever the rule of the Speech Commands
        data set names, for a split that others use too.
    weight: how often a recording is used per epoch (0.3: every third; 2: twice).
    texts: a table of what is said, a line `<file name without extension><tab><text>` for each
        recording, instead of what the folder or manifest says; recordings without a line are left
        out, and counted.
    """

    path: str
    name: str
    licence: str
    attribution: str
    kind: Literal["speech", "noise", "text", "shards"] = "speech"
    speaker: str = ""
    validation: float = 10.0
    validation_speakers: tuple[str, ...] = ()
    validation_rule: Literal["nearest", "hash"] = "nearest"
    weight: float = 1.0
    texts: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.validation <= 100.0 or self.weight < 0.0:
            raise ConfigError(f"source {self.name}: validation must be in 0..100, weight 0 or more")
        try:
            groups = re.compile(self.speaker).groups
        except re.error as error:
            raise ConfigError(f"source {self.name}: speaker is no pattern ({error})") from None
        if self.speaker and not self.speaker.startswith("{") and groups != 1:
            raise ConfigError(f"source {self.name}: speaker needs exactly one group in brackets")

    @property
    def credit(self) -> DataSource:
        """What the model card says of this source."""
        return DataSource(name=self.name, licence=self.licence, attribution=self.attribution)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the recordings are and how an epoch is drawn from them.

    For a language model, which has no sound, a second is 15 characters.

    cache: folder for decoded audio, so that each file is decoded once.
    balance: 0 draws classifier labels as often as they occur, 1 equally often.
    unknown, silence: share of an epoch's examples with these labels (classifier).
    join: share of the examples put among others without a break, as words are in a stream:
        short texts one after the other (ctc), or other sound before and after (classifier).
    lead: share of the texts that silence goes before (ctc), with or without noise in it: a model
        trained on speech that starts at once recognises it worse after a pause.
    epoch_seconds: an epoch has at least so much audio; a smaller set is drawn several times, with
        other augmentation each time.
    max_seconds: longer recordings are left out of CTC training, and cut for classifiers.
    warm_epochs, warm_seconds: CTC training starts with so many epochs of recordings that are not
        augmented and, where there are enough, no longer than this: plain words get aligned within
        minutes, augmented sentences perhaps never.
    """

    sources: tuple[SourceConfig, ...]
    cache: str = "runs/cache"
    balance: float = 0.5
    unknown: float = 0.15
    silence: float = 0.06
    join: float = 0.0
    lead: float = 0.3
    epoch_seconds: float = 6400.0
    max_seconds: float = 16.0
    warm_epochs: int = 3
    warm_seconds: float = 1.5
    validation_limit: int = 3000

    def __post_init__(self) -> None:
        if min(self.unknown, self.silence) < 0.0 or not self.unknown + self.silence < 1.0:
            raise ConfigError(
                f"data.unknown {self.unknown:g} and data.silence {self.silence:g} are shares of an "
                "epoch; together they must leave some of it for the words"
            )
        for name in ("balance", "join", "lead"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"data.{name} {getattr(self, name):g} must be in 0..1")
        if self.max_seconds <= 0.0 or self.validation_limit < 1:
            raise ConfigError("data.max_seconds must be above 0, data.validation_limit 1 or more")


@dataclass(frozen=True, kw_only=True)
class OptimisationConfig:
    """How the weights are fitted.

    batch_seconds: padded audio per batch, over all processes; epochs: passes over the data;
    accumulate: batches whose gradients make one step, as one batch so many times as large would,
        in the memory of one;
    warmup: share of all steps over which the rate rises to `learning_rate`, before it falls to zero
    along a cosine; ema: decay of the averaged weights that are evaluated and exported;
    patience: evaluations without improvement before training stops; workers: loader processes;
    minutes: of training, validation not counted, after which it stops, before all epochs are done;
        `warmup` and the cosine are then shares of these; 0: no limit;
    precision: of the network's sums: bf16, fp32, or auto: bf16 where the processor computes in it,
        else fp32;
    consistency: weight of the difference between what two views of the same utterance, masked
        apart, give at each frame of a transcription (0.2 is usual; then each utterance is computed
        twice, and `augment.time_masks` should be many), or 0 for one view;
    mmi: share of the loss of phonemes (`head.phonemes`) that sets the right ones against all others
        that might be said (see asr.training.mmi); the rest is CTC alone. For weights that CTC
        has trained; 0.9 is usual;
    truncate: encoder frames after which the gradient of a stream is cut, for long recordings: the
        state goes on, and memory holds the activations of one piece at a time; 0: never;
    start: a run, checkpoint, exported .onnx file or bundled model whose weights a new training
        begins with, all that have the same name and shape; to refine a model on other recordings,
        or to give it other words;
    teacher: a run, checkpoint, exported .onnx file or bundled model, usually larger, whose answers
        a classifier learns, too; it has the same labels, and takes in the same sound;
    taught: share of the loss that is the difference from the teacher.
    """

    epochs: int = 30
    batch_seconds: float = 128.0
    accumulate: int = 1
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.998
    patience: int = 12
    minutes: float = 0.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    label_smoothing: float = 0.0
    consistency: float = 0.0
    mmi: float = 0.0
    workers: int = 2
    evaluate_every: int = 250
    truncate: int = 0
    start: str = ""
    teacher: str = ""
    taught: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.epochs, self.patience, self.evaluate_every, self.accumulate)
        if min(counts) < 1 or self.workers < 0:
            raise ConfigError(
                "optimisation: epochs, patience, evaluate_every and accumulate start at 1"
            )
        if self.truncate < 0:
            raise ConfigError("optimisation.truncate must not be negative")
        if self.consistency < 0.0:
            raise ConfigError("optimisation.consistency must not be negative; 0 takes one view")
        if not 0.0 <= self.mmi <= 1.0:
            raise ConfigError("optimisation.mmi is a share of the loss, in 0..1")
        if not 0.0 <= self.taught <= 1.0:
            raise ConfigError("optimisation.taught is a share of the loss, in 0..1")
        if self.minutes < 0.0:
            raise ConfigError("optimisation.minutes must not be negative; 0 sets no limit")
        if min(self.batch_seconds, self.learning_rate, self.clip) <= 0:
            raise ConfigError(
                "optimisation: batch_seconds, learning_rate and clip must be above zero"
            )
        if not 0.0 <= self.ema < 1.0 or not 0.0 <= self.warmup <= 1.0:
            raise ConfigError("optimisation: ema must be in [0, 1) and warmup in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a training run needs; saved inside its checkpoints."""

    name: str
    model: ModelConfig
    data: DataConfig
    out: str = "runs"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    trigger: Trigger = field(
        default_factory=lambda: Trigger(threshold=0.6, smoothing=0.3, refractory=0.7)
    )

    def __post_init__(self) -> None:
        latencies = (self.model.encoder.latency, *self.model.encoder.also)
        if self.optimisation.truncate and not all(block for block, _ in latencies):
            raise ConfigError(
                "optimisation.truncate cuts the gradient of streams; it needs an encoder.block of "
                "at least 1, in encoder.also, too"
            )
        if self.optimisation.mmi and not self.model.head.phonemes:
            raise ConfigError("optimisation.mmi is of phonemes; it needs head.phonemes")
        if self.optimisation.teacher and not self.classifies:
            raise ConfigError("optimisation.teacher is for classifiers (head.kind = 'classify')")
        silent = [source.name for source in self.data.sources if source.kind == "text"]
        if silent and self.model.head.kind != "lm":
            raise ConfigError(
                f"source {silent[0]}: a text has no sound to learn from; it is for language models "
                "(head.kind = 'lm')"
            )

    def warm(self, epoch: int) -> bool:
        """Whether this epoch is for finding the alignment: plain and short recordings only."""
        return self.model.head.kind == "ctc" and epoch < self.data.warm_epochs

    @property
    def classifies(self) -> bool:
        """Whether the model gives one label to a recording."""
        return self.model.head.kind == "classify"

    @property
    def transcribes(self) -> bool:
        """Whether the model gives labels to frames."""
        return self.model.head.kind == "ctc"

    @property
    def label_length(self) -> int:
        """Samples of a frame that may hold a label."""
        encoder_frame = self.model.mfcc.hop_length * self.model.encoder.subsample
        return encoder_frame // self.model.head.upsample

    @property
    def rate(self) -> int:
        """Samples a second; for a language model, characters."""
        if self.model.head.kind == "lm":
            return CHARACTERS_PER_SECOND
        return self.model.mfcc.sample_rate

    @property
    def window(self) -> int:
        """Samples that a classifier decides over."""
        return round(self.model.head.window * self.rate)

    @property
    def run(self) -> Path:
        """Folder of this run: checkpoints, metrics, curves."""
        return Path(self.out) / self.name


def read_config(path: Path, overrides: Sequence[str]) -> Config:
    """Read a TOML file and apply `section.field=value` overrides. Raises ConfigError, ReadError.

    What the file reads from (sources, `optimisation.start`) is found from its own folder, unless
    the path is absolute or begins with `$NAME`, an environment variable. What training writes
    (`out`, `data.cache`), and paths in overrides, are found from where the command runs.
    """
    return parse_config(read_tree(path, overrides), str(path))


def parse_toml(text: str) -> dict[str, Any]:
    """Return what a TOML text says. Raises ValueError, whatever is wrong with it."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def settle_paths(tree: dict[str, Any], folder: Path) -> None:
    """Make the paths that a file reads from absolute; other types are refused when it is built."""
    tables: list[Any] = []
    if isinstance(data := tree.get("data"), dict) and isinstance(data.get("sources"), list):
        tables += [(source, name) for source in data["sources"] for name in ("path", "texts")]
    tables += [(tree.get("optimisation"), name) for name in ("start", "teacher")]
    for table, name in tables:
        path = table.get(name) if isinstance(table, dict) else None
        if name in ("start", "teacher") and path in bundled_models():
            continue
        if isinstance(path, str) and path and not path.startswith(("$", "~")):
            table[name] = str(folder / path)


def parse_config(tree: dict[str, Any], origin: str) -> Config:
    """Build a Config from nested dictionaries; `origin` names them in errors."""
    try:
        return _build(Config, tree, "")
    except EarshotError as error:
        raise ConfigError(f"{origin}: {error}") from None


def read_tree(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """As `read_config`, but the nested tables that a Config is built of: what is written there, and
    no defaults."""
    try:
        tree = parse_toml(read_text(path, "a training configuration"))
    except ValueError as error:
        raise ConfigError(f"{path}: is not valid TOML ({error})") from None
    settle_paths(tree, path.absolute().parent)
    for override in overrides:
        apply_override(tree, override)
    return tree


def parse_setting(key: str, text: str) -> Any:
    """Return the value that an override `key=text` gives a setting, checked by its type alone.

    Raises ConfigError, if there is no such setting, too.
    """
    hint: Any = Config
    for depth, name in enumerate(key.split(".")):
        section = ".".join(key.split(".")[:depth]) or "a configuration"
        hints = typing.get_type_hints(hint) if dataclasses.is_dataclass(hint) else {}
        if name not in hints:
            known = f"; {section} knows {', '.join(sorted(hints))}" if hints else ""
            raise ConfigError(f"{key} is not a setting{known}")
        hint = hints[name]
    return _convert(hint, _parse_value(text), key)


def expand(path: str) -> Path:
    """Replace `$NAME` by the environment variable; ConfigError if it is not set."""
    expanded = os.path.expandvars(path)
    if match := re.search(r"\$\{?(\w+)", expanded):
        raise ConfigError(
            f"'{path}' needs the environment variable {match[1]}; set it to the recordings' folder"
        )
    return Path(expanded).expanduser()


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Replace a field of nested tables: `section.field=value`. Raises ConfigError."""
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"'{override}': write overrides as section.field=value")
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"'{override}': {section} is not a section")
    tree[name] = _parse_value(text)


def _parse_value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def _build(kind: type, tree: Any, where: str) -> Any:
    section = where.rstrip(".") or "the file"
    if not isinstance(tree, dict):
        raise ConfigError(f"{section} must be a table of settings")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(tree.keys() - fields.keys()):
        raise ConfigError(
            f"{where}{unknown[0]} is not a setting; {section} knows {', '.join(sorted(fields))}"
        )
    required = {
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - tree.keys()):
        raise ConfigError(f"{where}{missing[0]} is missing")
    values = {name: _convert(hints[name], value, f"{where}{name}") for name, value in tree.items()}
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check one value against its type hint; ints pass as floats, lists as tuples."""
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, f"{where}.")
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise ConfigError(f"{where} is '{value}', it must be one of {choices}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list")
        args = get_args(hint)
        kinds = [args[0]] * len(value) if args[-1] is ... else args
        if len(kinds) != len(value):
            raise ConfigError(f"{where} must have {len(kinds)} entries")
        pairs = enumerate(zip(kinds, value, strict=True))
        return tuple(_convert(inner, item, f"{where}[{k}]") for k, (inner, item) in pairs)
    if isinstance(hint, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= sys.float_info.max:  # true for nan
            raise ConfigError(f"{where} must be a finite number")
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where} is {value!r}, it must be of type {hint.__name__}")
    return value
