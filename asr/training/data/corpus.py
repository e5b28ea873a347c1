"""Training data: folders of words, manifests and texts to padded batches, speakers kept apart.

The order of everything is a function of the seed and the epoch alone: a resumed run, or one spread
over several processes, sees the same batches.
"""

import hashlib
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from asr.batch.workers import cores
from asr.decode.lm.arpa import END
from asr.training.config import Config, ConfigError, SourceConfig, expand
from asr.training.data.cache import PcmCache
from features.audio import AudioError, find_audio, read_audio
from features.augment import Augmenter
from features.errors import EarshotError

logger = logging.getLogger(__name__)

BLANK = "<blank>"
UNKNOWN = "_unknown_"
SILENCE = "_silence_"
NOISE_HELD_OUT = 0.2  # the last part of every noise recording is for validation
POOL_BATCHES = 40  # batches whose recordings are sorted by length together
CROP_TRIES = 4
JOINED_SECONDS = 4.0  # short recordings are joined up to about this length
LEAD_ITEMS = 2  # the most that a classifier's example follows
LEAD_SECONDS = (0.2, 10.0)  # of silence before a text, evenly on a scale of octaves
AFTER_SECONDS = (0.05, 0.35)  # of other sound when a classifier is asked
SEARCH_SECONDS = 4.0  # of an unknown recording, in which a stream's windows are searched
CHARACTERS_PER_SECOND = 15  # of speech: what a second in the settings is to texts alone
WARM_SHARE = 0.05  # of the recordings must be short enough for warm epochs to make sense


class DataError(EarshotError, ValueError):
    """Recordings or labels that a training cannot work with."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file with its text (or its label), before any audio is read.

    marked: from when to when, in seconds, a keyword is said in it, if a manifest knows.
    """

    path: Path
    text: str
    speaker: str
    source: int
    validation: bool
    marked: tuple[float, float] | None = None


def is_validation_speaker(speaker: str, percent: float) -> bool:
    """Whether a speaker is held out: the hash rule of the Speech Commands data set (Warden, 2018).

    The same speaker falls on the same side in every run and on every machine.
    """
    buckets = 2**27
    value = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % buckets
    return value * (100.0 / (buckets - 1)) < percent


def read_source(index: int, source: SourceConfig) -> list[Recording]:
    """List the recordings of one source. Raises DataError, ConfigError or AudioError."""
    path = expand(source.path)
    if source.kind == "text":
        source = replace(source, speaker=source.speaker or "{text}")  # equal texts on one side
        entries = _text_entries(path)
    elif path.suffix == ".jsonl":
        entries = _manifest_entries(path)
    elif path.is_dir():
        entries = _folder_entries(path, source)
    else:
        raise DataError(f"{path}: no such folder of words or .jsonl manifest; check data.sources")
    recordings = [_recording(index, source, *entry) for entry in entries]
    if absent := set(source.validation_speakers) - {r.speaker for r in recordings}:
        raise DataError(f"{path}: has no speaker {', '.join(sorted(absent))} to hold out")
    return recordings


def _folder_entries(root: Path, source: SourceConfig) -> Iterator[tuple[Path, str, dict]]:
    for path in find_audio(root):
        word = path.parent.name
        if not word.startswith("_"):  # the names of background labels stay as they are
            word = word.replace("_", " ")
        yield path, "" if source.kind == "noise" else word, {}


def _text_entries(path: Path) -> Iterator[tuple[Path, str, dict]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text, one a line ({error})") from None
    for line in lines:
        if text := line.strip():
            yield path, text, {"text": text}


def _manifest_entries(manifest: Path) -> Iterator[tuple[Path, str, dict]]:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{manifest}: cannot be read as a manifest ({error})") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            path, text = manifest.parent / fields["audio_filepath"], fields.get("text", "") + ""
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{manifest}, line {number}: needs a JSON object with audio_filepath and text "
                f"({error!r})"
            ) from None
        yield path, text, fields


def _recording(index: int, source: SourceConfig, path: Path, text: str, fields: dict) -> Recording:
    speaker = _speaker(source, path, fields)
    if source.validation_speakers:
        held_out = speaker in source.validation_speakers
    else:
        held_out = is_validation_speaker(speaker, source.validation)
    return Recording(
        path=path,
        text=" ".join(text.lower().split()),
        speaker=speaker,
        source=index,
        validation=held_out,
        marked=_marked(path, fields),
    )


def _marked(path: Path, fields: dict) -> tuple[float, float] | None:
    """`keyword_start` and `keyword_end` of a manifest entry, if they can be those of a word."""
    start, end = fields.get("keyword_start", 0.0), fields.get("keyword_end", 0.0)
    if not all(isinstance(time, int | float) for time in (start, end)):
        raise DataError(f"{path}: its manifest entry has no times in keyword_start, keyword_end")
    return (start, end) if 0.0 <= start < end else None


def _speaker(source: SourceConfig, path: Path, fields: dict) -> str:
    if not source.speaker:
        return str(Path(path.parent.name, path.name))
    if source.speaker.startswith("{"):
        name = source.speaker.strip("{}")
        if name not in fields:
            raise DataError(f"{path}: its manifest entry has no field '{name}' for the speaker")
        return str(fields[name])
    match = re.search(source.speaker, path.as_posix())
    if not match:
        raise DataError(f"{path}: the pattern '{source.speaker}' finds no speaker in this path")
    return match[1]


class Labels:
    """The ordered labels of a model, and texts to label numbers.

    alike: words that sound like a label: a classifier learns nothing from texts with them.
    """

    def __init__(self, names: Sequence[str], *, task: str, alike: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self.task = task
        self._alike = frozenset(alike)
        self._index = {name: k for k, name in enumerate(self.names)}
        self.characters = all(len(name) == 1 for name in self.names if name not in (BLANK, END))

    @classmethod
    def build(cls, config: Config, recordings: Sequence[Recording]) -> "Labels":
        """The labels that the head asks for: given ones, or the characters of the texts."""
        head = config.model.head
        if head.kind == "classify":
            has_noise = any(source.kind == "noise" for source in config.data.sources)
            extra = [UNKNOWN] * (config.data.unknown > 0)
            extra += [SILENCE] * (config.data.silence > 0 and has_noise)
            return cls([*head.labels, *extra], task="classify", alike=head.alike)
        first = END if head.kind == "lm" else BLANK
        names = head.labels or sorted(set("".join(r.text for r in recordings)))
        return cls([first, *names], task=head.kind)

    @property
    def spaces(self) -> list[int]:
        """What stands between two words: the space of characters, nothing between whole words."""
        return [self._index[" "]] if self.characters and " " in self._index else []

    @property
    def background(self) -> tuple[str, ...]:
        """Labels that are scored but never reported."""
        return tuple(name for name in (UNKNOWN, SILENCE) if name in self._index)

    def encode(self, text: str) -> list[int] | None:
        """Label numbers of a text; None if it cannot be said with these labels."""
        if self.task == "classify":
            return self._encode_word(text)
        units = list(text) if self.characters else text.split()
        if not units or any(unit not in self._index for unit in units):
            return None
        return [self._index[unit] for unit in units]

    def _encode_word(self, text: str) -> list[int] | None:
        if text in self._index:
            return [self._index[text]]
        says_a_label = any(word in self._index or word in self._alike for word in text.split())
        if says_a_label or UNKNOWN not in self._index:
            return None
        return [self._index[UNKNOWN]]

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of label numbers without blanks and repeats (for evaluation while training)."""
        separator = "" if self.characters else " "
        return " ".join(separator.join(self.names[n] for n in numbers).split())


class Texts:
    """What a `PcmCache` is to recordings, to texts alone: the labels take the place of samples."""

    def __init__(self, targets: Sequence[Sequence[int]]) -> None:
        self._targets = targets

    def length(self, number: int) -> int:
        """Labels of text `number`."""
        return len(self._targets[number])

    def read(self, number: int) -> np.ndarray:
        """int64 (labels,) of text `number`."""
        return np.array(self._targets[number])


@dataclass(frozen=True)
class Example:
    """A recording as the trainer sees it: where its samples are, and its label numbers."""

    recording: Recording
    pcm: PcmCache | Texts
    number: int
    targets: tuple[int, ...]

    @property
    def samples(self) -> int:
        """Length at the model's rate."""
        return self.pcm.length(self.number)

    def waveform(self) -> np.ndarray:
        """float32 (samples,) in [-1, 1]."""
        return self.pcm.read(self.number)


@dataclass(frozen=True)
class Corpus:
    """All examples of a training, split by speaker, and the noises to mix in; those of the
    validation in windows of a classifier's length."""

    labels: Labels
    train: list[Example]
    validation: list[Example]
    noises: list[np.ndarray]
    validation_noises: list[np.ndarray]


def load_corpus(config: Config) -> Corpus:
    """Read all sources, decode what is not in the cache yet. Raises DataError and ConfigError."""
    if not config.data.sources:
        raise ConfigError("data.sources is empty; name at least one folder or manifest")
    listed = [read_source(k, source) for k, source in enumerate(config.data.sources)]
    speech = [r for r in _flatten(listed) if config.data.sources[r.source].kind != "noise"]
    labels = Labels.build(config, speech)
    train: list[Example] = []
    validation: list[Example] = []
    noises: list[np.ndarray] = []
    validation_noises: list[np.ndarray] = []
    sample_rate = config.model.mfcc.sample_rate
    for source, recordings in zip(config.data.sources, listed, strict=True):
        if source.kind == "noise":
            if config.model.head.kind == "lm":
                continue
            for noise in _noises(recordings, sample_rate):
                split = round(len(noise) * (1.0 - NOISE_HELD_OUT))
                noises.append(noise[:split])
                validation_noises += _windows(noise[split:], _window(config))
            continue
        examples = _examples(config, source, recordings, labels)
        train += [e for e in examples if not e.recording.validation]
        held_out = [e for e in examples if e.recording.validation]
        validation += _thin(held_out, config.data.validation_limit)
    if not train:
        raise DataError("no recording is left to train on; check labels, speakers and validation")
    if not validation:
        raise DataError(
            "no speaker is held out to validate on; name some in validation_speakers of a source, "
            "or raise its validation"
        )
    if SILENCE in labels.background and not noises:
        raise DataError(f"no noise can be read to learn {SILENCE} from; check the noise sources")
    return Corpus(labels, train, validation, noises, validation_noises)


def _windows(noise: np.ndarray, window: int) -> list[np.ndarray]:
    """Cut (samples,) into as many whole windows as it has, or leave it if it has none."""
    count = max(1, len(noise) // window)
    return np.array_split(noise[: count * window], count)


def _noises(recordings: list[Recording], sample_rate: int) -> Iterator[np.ndarray]:
    for recording in recordings:
        try:
            noise = read_audio(recording.path, sample_rate)
        except AudioError as error:
            logger.warning("%s: left out", error)
            continue
        if len(noise) * NOISE_HELD_OUT >= 1.0:
            yield noise


def _examples(
    config: Config, source: SourceConfig, recordings: list[Recording], labels: Labels
) -> list[Example]:
    encoded = [(recording, labels.encode(recording.text)) for recording in recordings]
    usable = [(recording, targets) for recording, targets in encoded if targets]
    if dropped := len(recordings) - len(usable):
        logger.warning("%s: left out %d recordings without a label here", source.name, dropped)
    if not usable:
        return []
    if config.model.head.kind == "lm":
        cache = Texts([targets for _, targets in usable])
    else:
        cache = PcmCache.build(
            [recording.path for recording, _ in usable],
            config.model.mfcc.sample_rate,
            expand(config.data.cache),
            source.name,
        )
    limit = config.data.max_seconds * _rate(config)
    cuts = config.model.head.kind != "ctc"
    return [
        Example(recording, cache, number, tuple(targets))
        for number, (recording, targets) in enumerate(usable)
        if cache.length(number) > 0 and (cuts or cache.length(number) <= limit)
    ]


def _flatten(lists: list[list[Recording]]) -> list[Recording]:
    return [item for items in lists for item in items]


def _thin(examples: list[Example], limit: int) -> list[Example]:
    """At most `limit` examples, evenly from the whole list."""
    if len(examples) <= limit:
        return examples
    return [examples[k] for k in np.linspace(0, len(examples) - 1, limit).astype(int)]


@dataclass(frozen=True)
class Item:
    """One draw of an epoch: an example (None: noise alone), and the seed of its augmentation.

    samples: length of the example in it; before, after: what else is heard, as in a stream.
    lead: samples of silence in front of the example, in which augmentation may put noise.
    targets: of everything heard; a classifier is only asked for the example.
    search: the example is longer than the window of a classifier, which is asked about the window
        that it takes most for something else.
    """

    example: Example | None
    targets: tuple[int, ...]
    samples: int
    seed: int
    lead: int = 0
    search: bool = False
    before: "tuple[Item, ...]" = ()
    after: "tuple[Item, ...]" = ()

    @property
    def heard(self) -> "tuple[Item, ...]":
        """Everything in the order of hearing."""
        return (*self.before, replace(self, before=(), after=()), *self.after)

    @property
    def length(self) -> int:
        """Samples in all, before augmentation."""
        return sum(item.lead + item.samples for item in self.heard)

    def waveform(self, noises: list[np.ndarray], augmenter: Augmenter | None = None) -> np.ndarray:
        """float32 (length,), a little else if augmented: all recordings one after the other."""
        return np.concatenate([item._own_waveform(noises, augmenter) for item in self.heard])

    def _own_waveform(self, noises: list[np.ndarray], augmenter: Augmenter | None) -> np.ndarray:
        """The recording, a lively part of it, or a part of a noise."""
        rng = np.random.default_rng(self.seed)
        if self.example is None:
            waveform = _crop(noises[self.seed % len(noises)], self.samples, rng)
        else:
            waveform = self.example.waveform()
            if len(waveform) > self.samples:
                waveform = _lively_crop(waveform, self.samples, rng)
        waveform = np.pad(waveform, (self.lead, 0))
        return waveform if augmenter is None else augmenter(waveform, rng)


@dataclass(frozen=True)
class Batch:
    """Padded inputs [batch, samples] with lengths, and targets one after the other.

    inputs: waveforms or, for a language model, the label before each target.
    search: [batch] whether a classifier looks for its worst window (see `Item`).
    weight: the number of targets over all processes: losses are summed, then divided by it.
    """

    inputs: Tensor
    input_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    search: Tensor
    weight: int

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return replace(
            self,
            inputs=self.inputs.to(device, non_blocking=True),
            input_lengths=self.input_lengths.to(device),
            targets=self.targets.to(device),
            target_lengths=self.target_lengths.to(device),
            search=self.search.to(device),
        )


def plan_epoch(config: Config, corpus: Corpus, epoch: int) -> list[list[Item]]:
    """The batches of an epoch: which recordings, in which order, with which seeds.

    Raises DataError if the epoch is empty.
    """
    rng = np.random.default_rng([config.optimisation.seed, epoch])
    draw = _draw_classes if _classifies(config) else _draw_texts
    items = draw(config, corpus, rng)
    if not items:
        raise DataError("no recording was drawn for an epoch; raise the weight of a source")
    wanted = config.data.epoch_seconds * _rate(config)
    repeats = math.ceil(wanted / sum(item.samples for item in items))
    for _ in range(repeats - 1):
        items += draw(config, corpus, rng)
    if config.warm(epoch):
        items = _short(config, items) or items
    elif _classifies(config):
        items = [_surround(config, items, item, rng) for item in items]
    else:
        if config.model.head.kind == "ctc":
            items = [_wait(config, item, rng) for item in items]
        items = _join(config, corpus.labels, items, rng)
    order = rng.permutation(len(items))
    batches = []
    pool_size = POOL_BATCHES * _typical_batch(config, items)
    for start in range(0, len(items), pool_size):
        pool = sorted(
            (items[k] for k in order[start : start + pool_size]), key=attrgetter("length")
        )
        batches += _pack(pool, config.optimisation.batch_seconds * _rate(config))
    return [batches[k] for k in rng.permutation(len(batches))]


def plan_validation(config: Config, corpus: Corpus) -> list[list[Item]]:
    """The validation batches: every held-out example as it is, and as silence windows of held-out
    noise, none of them twice."""
    window = _window(config)
    items = []
    for example in corpus.validation:
        samples = min(example.samples, window) if _classifies(config) else example.samples
        items.append(Item(example, example.targets, samples, 0))
    if SILENCE in corpus.labels.background and items:
        silence = (corpus.labels.names.index(SILENCE),)
        noises = corpus.validation_noises
        count = min(len(noises), round(len(items) / len(corpus.labels.names)))
        chosen = np.linspace(0, len(noises) - 1, count).astype(int).tolist()
        items += [Item(None, silence, min(window, len(noises[k])), k) for k in chosen]
    return _pack(
        sorted(items, key=attrgetter("length")), config.optimisation.batch_seconds * _rate(config)
    )


def _classifies(config: Config) -> bool:
    return config.model.head.kind == "classify"


def _rate(config: Config) -> int:
    """Samples a second; for a language model, characters."""
    if config.model.head.kind == "lm":
        return CHARACTERS_PER_SECOND
    return config.model.mfcc.sample_rate


def _window(config: Config) -> int:
    return round(config.model.head.window * _rate(config))


def _typical_batch(config: Config, items: list[Item]) -> int:
    mean = sum(item.length for item in items) / max(1, len(items))
    return max(1, round(config.optimisation.batch_seconds * _rate(config) / mean))


def _pack(items: list[Item], limit: float) -> list[list[Item]]:
    """Cut a list sorted by length into batches of at most `limit` padded samples."""
    batches: list[list[Item]] = []
    for item in items:
        if not batches or (len(batches[-1]) + 1) * item.length > limit:
            batches.append([])
        batches[-1].append(item)
    return batches


def _short(config: Config, items: list[Item]) -> list[Item]:
    """The items for a warm epoch; none if they are too few to learn from."""
    short = [item for item in items if item.samples <= config.data.warm_seconds * _rate(config)]
    return short if len(short) >= WARM_SHARE * len(items) else []


def _draw_texts(config: Config, corpus: Corpus, rng: np.random.Generator) -> list[Item]:
    """Every recording `weight` times; fractions by chance."""
    weights = np.array([_source_of(config, e).weight for e in corpus.train])
    times = np.floor(weights + rng.random(len(weights))).astype(int)
    chosen = np.repeat(np.arange(len(weights)), times)
    return [_item(corpus.train[k], rng, corpus.train[k].samples) for k in chosen]


def _wait(config: Config, item: Item, rng: np.random.Generator) -> Item:
    """Let silence go before a text, by chance: briefly mostly, for as long as 10 s at times."""
    if rng.random() >= config.data.lead:
        return item
    low, high = np.log(LEAD_SECONDS)
    return replace(item, lead=int(np.exp(rng.uniform(low, high)) * _rate(config)))


def _join(
    config: Config, labels: Labels, items: list[Item], rng: np.random.Generator
) -> list[Item]:
    """Put a share of the short recordings one after the other, as words come in a stream."""
    longest = JOINED_SECONDS / 2 * _rate(config)
    chosen = rng.random(len(items)) < config.data.join
    joined: list[Item] = []
    waiting: list[Item] = []
    for k in rng.permutation(len(items)):
        item = items[k]
        if not chosen[k] or item.samples > longest:
            joined.append(item)
            continue
        waiting.append(item)
        if sum(one.samples for one in waiting) > longest:
            joined.append(_follow(waiting, labels))
            waiting = []
    return joined + waiting


def _follow(items: list[Item], labels: Labels) -> Item:
    """One item of several, their texts with spaces between them."""
    space = labels.spaces
    targets = list(items[0].targets)
    for item in items[1:]:
        targets += [*space, *item.targets]
    return replace(items[-1], targets=tuple(targets), before=tuple(items[:-1]))


def _surround(config: Config, items: list[Item], item: Item, rng: np.random.Generator) -> Item:
    """Put a classifier's example, by chance, amid other sound, as its window is in a stream."""
    if rng.random() >= config.data.join or item.search:
        return item
    count = 1 + rng.integers(1 + LEAD_ITEMS)
    numbers, seeds = rng.integers(len(items), size=count), rng.integers(2**31, size=count)
    *before, last = (replace(items[k], seed=int(s)) for k, s in zip(numbers, seeds, strict=True))
    samples = min(last.samples, int(rng.uniform(*AFTER_SECONDS) * _rate(config)))
    return replace(item, before=tuple(before), after=(replace(last, samples=samples),))


def _draw_classes(config: Config, corpus: Corpus, rng: np.random.Generator) -> list[Item]:
    """Words by their balance, then the wanted shares of unknown words and of silence."""
    data, labels = config.data, corpus.labels
    unknown = labels.names.index(UNKNOWN) if UNKNOWN in labels.background else -1
    drawn = [e for e in corpus.train if _source_of(config, e).weight > 0.0]
    words = [e for e in drawn if e.targets[0] != unknown]
    others = [e for e in drawn if e.targets[0] == unknown]
    if not words:
        raise DataError("none of head.labels occurs in the recordings; check the spelling")
    has_silence = SILENCE in labels.background
    rest = 1.0 - (data.unknown if others else 0.0) - (data.silence if has_silence else 0.0)
    total = sum(_source_of(config, e).weight for e in words) / rest
    window = _window(config)
    # A whole-utterance model pools all that it is given: it has no windows to search.
    searched = round(SEARCH_SECONDS * _rate(config)) if config.model.encoder.block else 0
    longest = max(window, searched)
    items = []
    for group, share, limit in ((words, rest, window), (others, data.unknown, longest)):
        for k in _weighted_choice(config, group, round(total * share), rng):
            samples = min(group[k].samples, limit)
            items.append(replace(_item(group[k], rng, samples), search=samples > window))
    if has_silence:
        silence = (labels.names.index(SILENCE),)
        seeds = rng.integers(2**31, size=round(total * data.silence))
        items += [Item(None, silence, window, int(seed)) for seed in seeds]
    return items


def _weighted_choice(
    config: Config, group: list[Example], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw so that a text said n times counts n^(1 - balance) times: rare words are not lost."""
    if not group:
        return np.zeros(0, int)
    said = Counter(e.recording.text for e in group)
    balance = config.data.balance
    weights = np.array(
        [_source_of(config, e).weight * said[e.recording.text] ** -balance for e in group]
    )
    return rng.choice(len(group), size=count, p=weights / weights.sum())


def _source_of(config: Config, example: Example) -> SourceConfig:
    return config.data.sources[example.recording.source]


def _item(example: Example, rng: np.random.Generator, samples: int) -> Item:
    return Item(example, example.targets, samples, int(rng.integers(2**31)))


class Batches(Dataset):
    """The planned batches as padded tensors; augmented if an augmenter is given."""

    def __init__(
        self,
        plan: list[list[Item]],
        noises: list[np.ndarray],
        augmenter: Augmenter | None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.plan = plan
        self.noises = noises
        self.augmenter = augmenter
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Batch:
        items = self.plan[index]
        mine = items[self.rank :: self.world]
        inputs = [self._input(item) for item in mine]
        targets = [self._targets(item) for item in mine]
        return Batch(
            inputs=pad_sequence(inputs, batch_first=True),
            input_lengths=torch.tensor([len(row) for row in inputs]),
            targets=torch.tensor([target for row in targets for target in row]),
            target_lengths=torch.tensor([len(row) for row in targets]),
            search=torch.tensor([item.search for item in mine]),
            weight=sum(len(self._targets(item)) for item in items),
        )

    def _input(self, item: Item) -> Tensor:
        return torch.from_numpy(item.waveform(self.noises, self.augmenter))

    def _targets(self, item: Item) -> tuple[int, ...]:
        return item.targets


class TextBatches(Batches):
    """Batches of texts for a language model, which foretells each label from those before.

    Label 0 marks both ends: it is the input in front of the first label and the last target.
    """

    def _input(self, item: Item) -> Tensor:
        return torch.tensor([0, *item.targets])

    def _targets(self, item: Item) -> tuple[int, ...]:
        return (*item.targets, 0)


def _crop(waveform: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    start = int(rng.integers(max(1, len(waveform) - samples + 1)))
    return waveform[start : start + samples]


def _lively_crop(waveform: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A random crop that is not mostly a pause: an unknown word, not silence."""
    crops = [_crop(waveform, samples, rng) for _ in range(CROP_TRIES)]
    level = 0.25 * float(np.mean(np.square(waveform)))
    lively = (crop for crop in crops if float(np.mean(np.square(crop))) >= level)
    return next(lively, crops[0])


def loader(batches: Batches, workers: int, first: int = 0) -> Iterator[Batch]:
    """Iterate over the batches from number `first`, prepared by up to `workers` processes."""
    workers = min(workers, cores())
    yield from DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, len(batches)),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
