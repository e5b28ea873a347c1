"""What a training of own words reads: the takes, what is none of the words, and noise, as sources.

Everything is written into one folder: manifests of the user's files, and what is made of them.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.files import whole_file
from asr.studies.own_words.survey import Survey, Take
from asr.training.config import SourceConfig
from asr.training.negatives import MAKE_ROOM, bundled_negatives
from features.activity import spoken_span
from features.audio import AudioError, find_audio, read_audio, stream_audio
from features.duration import stated_duration
from features.paths import shown

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
MEASURED = 200  # takes whose spoken part is measured
SPAN_QUANTILE = 0.95
AROUND = 0.3  # seconds of a window beyond the longest words
WINDOW = (0.8, 3.0)  # seconds, the shortest and the longest
MARGIN = 0.1  # seconds kept around the spoken part of a take that is cut
PIECES = 300  # negatives made of the user's own takes
CUT_SECONDS = 6.0  # of a negative cut out of hours
CUTS = 600
BUNDLED = 600  # clips of speech in the bundled negatives, about
HELD_OUT = "held out"
OWN = "the user's own"
UNKNOWN_DRAWS = 1000.0  # the scale of the weights of what is unknown; their ratios matter
# Shares of what the model learns as unknown, by where it comes from.
SHARES = {
    "bundled": 0.5,
    "pieces": 0.2,
    "others": 0.3,
    "near misses": 0.5,
    "cuts": 0.4,
    "hard": 0.6,
    "false alarms": 0.6,
}
REVIEWED_SHARE = 0.1  # of what the words are learned from, at least: reviewed ones are few
OWN_SHARE = 0.5  # of what the words are learned from, own recordings beside synthetic ones


@dataclass(frozen=True)
class Materials:
    """What a training reads and what it is measured by.

    window: in seconds, what the words need; measured: the manifest of the held-out recordings;
    negatives: files of sound without the words that are trained on; held_out: others, to set
    thresholds by, each a stream of its own.
    """

    sources: tuple[SourceConfig, ...]
    window: float
    measured: Path
    negatives: tuple[Path, ...]
    held_out: tuple[Path, ...]


def gather(
    found: Survey,
    folder: Path,
    negatives: Sequence[Path] = (),
    *,
    synthetic: Sequence[Take] = (),
    near_misses: Sequence[Take] = (),
    reviewed: Sequence[Take] = (),
) -> Materials:
    """Write the manifests of a survey, and sounds made of it, into a folder.

    negatives: folders or files of sound that holds none of the words; a fifth of the files is not
    trained on. synthetic: more takes of the words, all to train on; near_misses: takes of what
    sounds nearly like them; reviewed: takes of either from where a model listened. Raises
    AudioError, WriteError.
    """
    window = window_of(found.takes)
    takes = [trimmed(take, folder, window, k) for k, take in enumerate(found.takes)]
    others = [Take(path, "", str(path), 0.0) for path in found.others]
    training, held_out = _split(negatives)
    groups = {
        "pieces": list(_pieces(takes, folder)),
        "others": others,
        "near misses": list(near_misses),
        "cuts": list(_cuts(training, folder / "cuts")) if training else [],
        "false alarms": [take for take in reviewed if not take.word],
    }
    said = [take for take in reviewed if take.word]
    own = [take for take in takes if not take.held_out]
    measured = _held_out(folder, [t for t in takes if t.held_out])
    sources = [
        *_words(folder, own, synthetic),
        *_reviewed(folder, said, len(own) + len(synthetic)),
        measured,
        *(unknown_source(folder, name, own) for name, own in groups.items() if own),
        *bundled_negatives(folder / "negatives", SHARES["bundled"] * UNKNOWN_DRAWS / BUNDLED),
        *(_noise(path) for path in sorted({path.parent for path in found.noises})),
    ]
    return Materials(tuple(sources), window, Path(measured.path), tuple(training), tuple(held_out))


def window_of(takes: Sequence[Take]) -> float:
    """Seconds of sound that hold nearly every word whole, by some of the takes.

    Raises AudioError if none of these can be read.
    """
    some = takes[:: 1 + len(takes) // MEASURED]
    spans, problem = [], None
    for take in some:
        try:
            samples = read_audio(take.path, SAMPLE_RATE)
        except AudioError as error:
            problem = error
            continue
        first, last = spoken_span(samples, SAMPLE_RATE)
        spans.append((last - first) / SAMPLE_RATE)
    if not spans and problem is not None:
        raise problem
    return round(float(np.clip(np.quantile(spans, SPAN_QUANTILE) + AROUND, *WINDOW)), 1)


def trimmed(take: Take, folder: Path, window: float, number: int) -> Take:
    """The take, or a copy of its spoken part if it is longer than the window."""
    if take.seconds <= window:
        return take
    try:
        samples = read_audio(take.path, SAMPLE_RATE)
    except AudioError as error:
        logger.warning("%s: left out", error)
        return take
    first, last = spoken_span(samples, SAMPLE_RATE)
    margin = round(MARGIN * SAMPLE_RATE)
    path = folder / "trimmed" / f"{number:05d}.flac"
    write_flac(path, samples[max(0, first - margin) : last + margin])
    return Take(path, take.word, take.speaker, (last - first) / SAMPLE_RATE, take.held_out)


def _pieces(takes: Sequence[Take], folder: Path) -> Iterator[Take]:
    """Negatives in the voices and from the microphones of the words themselves: takes backwards,
    and with their halves exchanged, so that a model cannot tell words by how they were recorded."""
    training = [take for take in takes if not take.held_out]
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(training))[:PIECES]
    for number, take in enumerate(training[k] for k in sorted(chosen)):
        half = len(take.word) // 2
        backwards = number % 2 == 0
        changed = take.word[::-1] if backwards else take.word[half:] + take.word[:half]
        if changed.casefold() == take.word.casefold():  # as in "anna" and "bye bye"
            continue
        try:
            samples = read_audio(take.path, SAMPLE_RATE)
        except AudioError:  # training says so
            continue
        first, last = spoken_span(samples, SAMPLE_RATE)
        middle = (first + last) // 2
        parts = samples[::-1] if backwards else np.concatenate([samples[middle:], samples[:middle]])
        path = folder / "pieces" / f"{number:05d}.flac"
        write_flac(path, parts)
        yield Take(path, "", take.speaker, len(parts) / SAMPLE_RATE)


def _split(negatives: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The negative files to train on, and every fifth, which is held out. Of a single file
    everything is trained on."""
    files = sorted({path for given in negatives for path in find_audio(given)})
    held_out = files[4::5] if len(files) > 4 else files[1:2]
    return [path for path in files if path not in set(held_out)], held_out


def _cuts(files: Sequence[Path], folder: Path) -> Iterator[Take]:
    """Cuts evenly out of all the sound."""
    count = -(-CUTS // len(files))
    for number, path in enumerate(files):
        try:
            blocks = list(_sampled(path, count))
        except AudioError as error:
            logger.warning("%s: left out", error)
            continue
        for k, samples in enumerate(blocks):
            out = folder / f"{number:04d}-{k:03d}.flac"
            write_flac(out, samples)
            yield Take(out, "", shown(path), len(samples) / SAMPLE_RATE)


def _sampled(path: Path, count: int) -> Iterator[np.ndarray]:
    """Up to `count` cuts of CUT_SECONDS from a file of any length, evenly spread."""
    size = round(CUT_SECONDS * SAMPLE_RATE)
    every = max(1, round((stated_duration(path) or 0.0) / CUT_SECONDS / count))
    for number, cut in enumerate(cut_up(stream_audio(path, SAMPLE_RATE), size)):
        if number % every == 0:
            yield cut


def cut_up(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Blocks (n,) of any length as cuts of `size` samples, the last one shorter."""
    waiting = np.zeros(0, np.float32)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if len(waiting):
        yield waiting


def write_flac(path: Path, samples: np.ndarray) -> None:
    """Write float32 (n,) at SAMPLE_RATE, whole or not at all."""
    with whole_file(path, MAKE_ROOM) as part:
        soundfile.write(part, samples, SAMPLE_RATE, format="FLAC")


def write_manifest(path: Path, takes: Iterable[Take]) -> None:
    """Write takes as a JSON-lines manifest of absolute paths."""
    entries = (
        {
            "audio_filepath": str(take.path.absolute()),
            "duration": round(take.seconds, 3),
            "text": take.word,
            "speaker": take.speaker,
        }
        for take in takes
    )
    with whole_file(path, MAKE_ROOM) as part:
        lines = (json.dumps(entry) + "\n" for entry in entries)
        part.write_text("".join(lines), encoding="utf-8")


def unknown_source(folder: Path, name: str, takes: Sequence[Take]) -> SourceConfig:
    """Takes of none of the words as a source that has its share of them (SHARES)."""
    weight = SHARES[name] * UNKNOWN_DRAWS / len(takes)
    return source_of(folder, name, takes, weight=weight, validation=0.0)


def _words(folder: Path, own: Sequence[Take], synthetic: Sequence[Take]) -> list[SourceConfig]:
    """Takes of the words; beside synthetic ones, a recording of people counts more."""
    if not synthetic:
        return [source_of(folder, "takes", own, validation=0.0)]
    weight = max(1.0, OWN_SHARE / (1.0 - OWN_SHARE) * len(synthetic) / len(own))
    return [
        source_of(folder, "takes", own, validation=0.0, weight=weight),
        source_of(folder, "synthetic", synthetic, validation=0.0),
    ]


def _reviewed(folder: Path, takes: Sequence[Take], others: int) -> list[SourceConfig]:
    """Reviewed takes of the words, beside so many others."""
    if not takes:
        return []
    weight = max(1.0, REVIEWED_SHARE / (1.0 - REVIEWED_SHARE) * others / len(takes))
    return [source_of(folder, "reviewed", takes, validation=0.0, weight=weight)]


def _held_out(folder: Path, takes: Sequence[Take]) -> SourceConfig:
    names = tuple(sorted({take.speaker for take in takes}))
    return source_of(folder, HELD_OUT, takes, validation_speakers=names)


def source_of(folder: Path, name: str, takes: Sequence[Take], **fields: Any) -> SourceConfig:
    """Takes as a source of a training, with a manifest of its name in a folder; fields: others of
    a SourceConfig."""
    path = folder / f"{name.replace(' ', '_')}.jsonl"
    write_manifest(path, takes)
    return SourceConfig(
        path=str(path.absolute()),
        name=name,
        licence=OWN,
        attribution=OWN,
        speaker="{speaker}",
        **fields,
    )


def _noise(path: Path) -> SourceConfig:
    return SourceConfig(
        path=str(path.absolute()), name=path.name, licence=OWN, attribution=OWN, kind="noise"
    )
