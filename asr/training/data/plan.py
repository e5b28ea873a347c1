"""Which examples an epoch draws, in which order and with which seeds.

The order of everything is a function of the seed and the epoch alone: a resumed run, or one spread
over several processes, sees the same batches.
"""

import math
from collections import Counter
from dataclasses import replace
from operator import attrgetter

import numpy as np

from asr.training.config import Config, SourceConfig
from asr.training.data.corpus import Corpus, Example
from asr.training.data.items import Item
from asr.training.data.labels import SILENCE, Labels
from asr.training.data.shards import TarPcm
from asr.training.data.sources import DataError

POOL_BATCHES = 40  # batches whose recordings are sorted by length together
JOINED_SECONDS = 4.0  # short recordings are joined up to about this length
SHARDS_AT_ONCE = 8  # that an epoch reads from, in turn
LEAD_ITEMS = 2  # the most that a classifier's example follows
LEAD_SECONDS = (0.2, 10.0)  # of silence before a text, evenly on a scale of octaves
AFTER_SECONDS = (0.05, 0.35)  # of other sound when a classifier is asked
SEARCH_SECONDS = 4.0  # of an unknown recording, in which a stream's windows are searched
WARM_SHARE = 0.05  # of the recordings must be short enough for warm epochs to make sense


def plan_epoch(config: Config, corpus: Corpus, epoch: int) -> list[list[Item]]:
    """The batches of an epoch: which recordings, in which order, with which seeds.

    Raises DataError if the epoch is empty.
    """
    rng = np.random.default_rng([config.optimisation.seed, epoch])
    draw = _draw_classes if config.classifies else _draw_texts
    items = draw(config, corpus, rng)
    if not items:
        raise DataError("no recording was drawn for an epoch; raise the weight of a source")
    wanted = config.data.epoch_seconds * config.rate
    repeats = math.ceil(wanted / sum(item.samples for item in items))
    for _ in range(repeats - 1):
        items += draw(config, corpus, rng)
    if config.warm(epoch):
        items = _short(config, items) or items
    elif config.classifies:
        items = [_surround(config, items, item, rng) for item in items]
    else:
        if config.model.head.kind == "ctc":
            items = [_wait(config, item, rng) for item in items]
        items = _join(config, corpus.labels, items, rng)
    order, sequential = _order(items, rng)
    batches: list[list[Item]] = []
    pool_size = POOL_BATCHES * _typical_batch(config, items)
    for start in range(0, len(items), pool_size):
        pool = sorted(
            (items[k] for k in order[start : start + pool_size]), key=attrgetter("length")
        )
        packed = _pack(pool, config.optimisation.batch_seconds * config.rate)
        batches += [packed[k] for k in rng.permutation(len(packed))]
    return batches if sequential else [batches[k] for k in rng.permutation(len(batches))]


def _order(items: list[Item], rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """The order of an epoch, by chance, and whether it goes through shards.

    Those come one after the other in an order of their own, SHARDS_AT_ONCE of them mixed, so that
    each is read at a stretch; what is not in shards is strewn among them.
    """
    shards = [_shard_of(item) for item in items]
    names = list(dict.fromkeys(shard for shard in shards if shard is not None))
    if not names:
        return rng.permutation(len(items)), False
    turns = dict(zip(names, rng.permutation(len(names)), strict=True))
    within = rng.random(len(items))
    everywhere = len(names) + SHARDS_AT_ONCE - 1
    places = [
        turns[shard] + SHARDS_AT_ONCE * chance if shard is not None else everywhere * chance
        for shard, chance in zip(shards, within, strict=True)
    ]
    return np.argsort(places, kind="stable"), True


def _shard_of(item: Item) -> tuple[int, int] | None:
    """The source and the number of the shard that an item's example is in."""
    if item.example is None or not isinstance(item.example.pcm, TarPcm):
        return None
    return item.example.recording.source, item.example.pcm.shard(item.example.number)


def plan_validation(config: Config, corpus: Corpus) -> list[list[Item]]:
    """The validation batches: every held-out example as it is, and as silence windows of held-out
    noise, none of them twice."""
    window = config.window
    items = []
    for example in corpus.validation:
        samples = min(example.samples, window) if config.classifies else example.samples
        items.append(Item(example, example.targets, samples, 0))
    if SILENCE in corpus.labels.background and items:
        silence = (corpus.labels.names.index(SILENCE),)
        noises = corpus.validation_noises
        count = min(len(noises), round(len(items) / len(corpus.labels.names)))
        chosen = np.linspace(0, len(noises) - 1, count).astype(int).tolist()
        items += [Item(None, silence, min(window, len(noises[k])), k) for k in chosen]
    return _pack(
        sorted(items, key=attrgetter("length")), config.optimisation.batch_seconds * config.rate
    )


def _typical_batch(config: Config, items: list[Item]) -> int:
    mean = sum(item.length for item in items) / max(1, len(items))
    return max(1, round(config.optimisation.batch_seconds * config.rate / mean))


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
    short = [item for item in items if item.samples <= config.data.warm_seconds * config.rate]
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
    return replace(item, lead=int(np.exp(rng.uniform(low, high)) * config.rate))


def _join(
    config: Config, labels: Labels, items: list[Item], rng: np.random.Generator
) -> list[Item]:
    """Put a share of the short recordings one after the other, as words come in a stream."""
    longest = JOINED_SECONDS / 2 * config.rate
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
    samples = min(last.samples, int(rng.uniform(*AFTER_SECONDS) * config.rate))
    return replace(item, before=tuple(before), after=(replace(last, samples=samples),))


def _draw_classes(config: Config, corpus: Corpus, rng: np.random.Generator) -> list[Item]:
    """Words by their balance, then the wanted shares of unknown words and of silence."""
    data, labels = config.data, corpus.labels
    drawn = [e for e in corpus.train if _source_of(config, e).weight > 0.0]
    words = [e for e in drawn if e.targets[0] != labels.unknown]
    others = [e for e in drawn if e.targets[0] == labels.unknown]
    if not words:
        raise DataError("none of head.labels occurs in the recordings; check the spelling")
    has_silence = SILENCE in labels.background
    rest = 1.0 - (data.unknown if others else 0.0) - (data.silence if has_silence else 0.0)
    total = sum(_source_of(config, e).weight for e in words) / rest
    window = config.window
    # A whole-utterance model pools all that it is given: it has no windows to search.
    searched = round(SEARCH_SECONDS * config.rate) if config.model.encoder.block else 0
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
    """Draw so that a text said n times counts n^(1 - balance) times: rare words are not lost.

    Where nothing is known of what is said, every recording says something else.
    """
    if not group:
        return np.zeros(0, int)
    said = Counter(e.recording.text for e in group)
    said[""] = 1
    balance = config.data.balance
    weights = np.array(
        [_source_of(config, e).weight * said[e.recording.text] ** -balance for e in group]
    )
    return rng.choice(len(group), size=count, p=weights / weights.sum())


def _source_of(config: Config, example: Example) -> SourceConfig:
    return config.data.sources[example.recording.source]


def _item(example: Example, rng: np.random.Generator, samples: int) -> Item:
    return Item(example, example.targets, samples, int(rng.integers(2**31)))
