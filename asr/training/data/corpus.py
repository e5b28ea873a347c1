"""All examples of a training, split by speaker, decoded once."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from asr.training.config import Config, ConfigError, SourceConfig, expand
from asr.training.data.cache import PcmCache
from asr.training.data.labels import SILENCE, UNKNOWN, Labels
from asr.training.data.shards import TarPcm
from asr.training.data.sources import DataError, Recording, read_source
from asr.training.data.texts import plain_label
from features.audio import AudioError, read_audio

LISTED = 30  # texts that an error lists
EXAMPLES = 4  # texts that a warning quotes
NOISE_HELD_OUT = 0.2  # the last part of every noise recording is for validation
logger = logging.getLogger(__name__)


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
    pcm: PcmCache | TarPcm | Texts
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
                validation_noises += _windows(noise[split:], config.window)
            continue
        examples = _examples(config, source, recordings, labels)
        train += [e for e in examples if not e.recording.validation]
        held_out = [e for e in examples if e.recording.validation]
        validation += _thin(source, held_out, config.data.validation_limit)
    if not train:
        raise DataError("no recording is left to train on; check labels, speakers and validation")
    if not validation:
        raise DataError(
            "no speaker is held out to validate on; name some in validation_speakers of a source, "
            "or raise its validation"
        )
    if SILENCE in labels.background and not noises:
        raise DataError(f"no noise can be read to learn {SILENCE} from; check the noise sources")
    if config.classifies:
        _check_classes(labels, train, [_as_spelled(r) for r in speech])
    return Corpus(labels, train, validation, noises, validation_noises)


def _as_spelled(recording: Recording) -> str:
    """What a recording says: as its folder is named, if that is where it comes from."""
    folder = recording.path.parent.name
    return folder if plain_label(folder) == recording.text else recording.text


def _check_classes(labels: Labels, train: list[Example], texts: list[str]) -> None:
    """Raise DataError for a label without recordings."""
    taught = {example.targets[0] for example in train}
    for number, label in enumerate(labels.names):
        if label not in labels.background and number not in taught:
            raise DataError(
                f"no recording to train on says '{label}'; there are folders or texts "
                f"{_some(texts)}; check the spelling in head.labels"
            )


def warn_of_untaught(config: Config, corpus: Corpus) -> None:
    """Warn if nothing stands against the words of a classifier that is to be trained."""
    names, taught = corpus.labels.names, {example.targets[0] for example in corpus.train}
    if UNKNOWN not in names or names.index(UNKNOWN) not in taught:
        logger.warning(
            "%s: nothing teaches what is none of the words, so the model will report them in any "
            "speech; add a source with other words (folders that are no labels)",
            config.name,
        )
    if SILENCE not in names:
        logger.warning(
            "%s: nothing teaches silence and noise, so the model will report words in them; add a "
            'source of kind = "noise"',
            config.name,
        )


def _some(texts: list[str]) -> str:
    """Different texts, the first LISTED of them."""
    different = list(dict.fromkeys(texts))
    rest = len(different) - LISTED
    return ", ".join(different[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


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
        if len(noise) * NOISE_HELD_OUT < 1.0:
            logger.warning("%s: left out: it has no sound", recording.path)
            continue
        yield noise


def _examples(
    config: Config, source: SourceConfig, recordings: list[Recording], labels: Labels
) -> list[Example]:
    plain = [replace(r, text=labels.plain(r.text)) for r in recordings]
    encoded = [(recording, labels.encode(recording.text)) for recording in plain]
    usable = [(recording, targets) for recording, targets in encoded if targets]
    dropped = [recording.text for recording, targets in encoded if not targets]
    _left_out(source, len(dropped), f"their texts are none of the labels'{_examples_of(dropped)}")
    if not usable:
        return []
    if config.model.head.kind == "lm":
        cache = Texts([targets for _, targets in usable])
    elif source.kind == "shards":
        cache = TarPcm.build(
            expand(source.path),
            [recording for recording, _ in usable],
            config.model.mfcc.sample_rate,
        )
    else:
        cache = PcmCache.build(
            [recording.path for recording, _ in usable],
            config.model.mfcc.sample_rate,
            expand(config.data.cache),
            source.name,
        )
    examples = [
        Example(recording, cache, number, tuple(targets))
        for number, (recording, targets) in enumerate(usable)
        if cache.length(number) > 0
    ]
    _left_out(source, len(usable) - len(examples), "they have no sound that can be read")
    return _transcribable(config, source, examples) if config.transcribes else examples


def _transcribable(config: Config, source: SourceConfig, examples: list[Example]) -> list[Example]:
    """The examples that CTC can learn from: not too long, and with a frame for each label."""
    limit = config.data.max_seconds * config.rate
    short = [example for example in examples if example.samples <= limit]
    _left_out(
        source,
        len(examples) - len(short),
        f"they are longer than data.max_seconds = {config.data.max_seconds:g}",
    )
    fitting = [e for e in short if _frames_needed(e.targets) <= e.samples // config.label_length]
    _left_out(
        source,
        len(short) - len(fitting),
        "their texts are longer than their sound can carry; check that the texts are theirs",
    )
    return fitting


def _frames_needed(targets: Sequence[int]) -> int:
    """The frames of the shortest CTC path: one a label, and a blank between two equal ones."""
    return len(targets) + sum(a == b for a, b in pairwise(targets))


def _left_out(source: SourceConfig, count: int, reason: str) -> None:
    if count:
        logger.warning("%s: left out %d recordings: %s", source.name, count, reason)


def _examples_of(texts: Sequence[str]) -> str:
    some = [f"'{text}'" for text in list(dict.fromkeys(texts))[:EXAMPLES]]
    return f" ({', '.join(some)}{', ...' if len(set(texts)) > EXAMPLES else ''})" if some else ""


def _flatten(lists: list[list[Recording]]) -> list[Recording]:
    return [item for items in lists for item in items]


def _thin(source: SourceConfig, examples: list[Example], limit: int) -> list[Example]:
    """At most `limit` examples, evenly from the whole list."""
    if len(examples) <= limit:
        return examples
    logger.warning(
        "%s: validates on %d of the %d recordings that are held out (data.validation_limit)",
        source.name,
        limit,
        len(examples),
    )
    return [examples[k] for k in np.linspace(0, len(examples) - 1, limit).astype(int)]
