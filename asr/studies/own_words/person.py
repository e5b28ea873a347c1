"""What a model is adapted with: recordings of a person, and of others, lest these be forgotten."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.card import ModelCard
from asr.evaluation.trials import expected, labelled_recordings
from asr.studies.own_words.materials import source_of, trimmed
from asr.studies.own_words.survey import Take
from asr.training.config import SourceConfig
from asr.training.data.labels import SILENCE, UNKNOWN
from asr.training.data.sources import DataError, manifest_of, read_source
from asr.training.negatives import bundled_negatives
from asr.training.voices import VoiceError, draw_readings, installed_voices, read_all
from features.audio import AudioError, find_audio
from features.duration import duration
from features.paths import shown

logger = logging.getLogger(__name__)

FEWEST, FOLDS = 5, 3
OWN_SHARE = 0.5  # of the sound that is learned from, the person's
READINGS = 6  # of each label by synthetic voices, to learn from; as many to measure by
MOST_OTHERS = 240  # recordings of others, to learn from; as many to measure by
TAKE_NUMBER = re.compile(r"[\W_]*\d*$")  # at the end of a file name
OTHERS, MEASURED = "others", "old"


@dataclass(frozen=True)
class People:
    """Sources of a training: takes of a person, whose speakers are the parts that they are measured
    in by turns; others to learn from and, held out, to measure by; noise."""

    sources: tuple[SourceConfig, ...]
    folds: tuple[str, ...]
    own: int


def gather_people(card: ModelCard, data: Path, old: Path | None, folder: Path) -> People:
    """Write the manifests of a person's recordings and of others' into a folder.

    data: a folder of words, a manifest, or files named after what is said in them (`hey
    lamp_3.wav`); old: recordings of others, or None: those that come with the package, and
    synthetic voices. Raises EarshotError, DataError if there is too little.
    """
    own = _person(card, data, folder)
    others = _old(card, old, folder) if old else _bundled(card, folder)
    _check_labels(card, [*own, *others])
    learned, measured = others[::2][:MOST_OTHERS], others[1::2][:MOST_OTHERS]
    seconds = sum(take.seconds for take in own), sum(take.seconds for take in learned)
    weight = max(1.0, OWN_SHARE / (1.0 - OWN_SHARE) * seconds[1] / max(seconds[0], 0.1))
    speakers = tuple(sorted({take.speaker for take in measured}))
    _, noise = bundled_negatives(folder / "negatives", 0.0)
    sources = (
        source_of(folder, "person", own, validation=0.0, weight=weight),
        source_of(folder, OTHERS, learned, validation=0.0),
        source_of(folder, MEASURED, measured, validation_speakers=speakers),
        noise,
    )
    return People(sources, tuple(sorted({take.speaker for take in own})), len(own))


def _person(card: ModelCard, data: Path, folder: Path) -> list[Take]:
    """The takes of a person, dealt into FOLDS parts."""
    takes = _fitting(card, data, _texts(data), folder / "own")
    if len(takes) < FEWEST:
        raise DataError(
            f"{shown(data)}: {len(takes)} recordings can be learned from, {FEWEST} are the fewest; "
            "record more ('asr record')"
        )
    takes.sort(key=lambda take: (take.word, take.path))
    return [
        Take(take.path, take.word, f"part {k % FOLDS}", take.seconds)
        for k, take in enumerate(takes)
    ]


def _texts(data: Path) -> list[tuple[Path, str, str]]:
    """Path, text and speaker of each recording; of files in no folder of words, by their names."""
    if data.is_dir() and manifest_of(data) is None:
        files = list(find_audio(data))
        if files and all(path.parent == data for path in files):
            return [(p, TAKE_NUMBER.sub("", p.stem).replace("_", " "), "") for p in files]
    return [(r.path, r.text, r.speaker) for r in labelled_recordings(data)[0]]


def _old(card: ModelCard, old: Path, folder: Path) -> list[Take]:
    takes = _fitting(card, old, _texts(old), folder / "old_takes")
    if len(takes) < 2 * FEWEST:
        raise DataError(
            f"{shown(old)}: {len(takes)} recordings fit the model, too few to say that nothing is "
            "forgotten; give more of them"
        )
    order = np.random.default_rng(0).permutation(len(takes))
    return [takes[k] for k in order]


def _bundled(card: ModelCard, folder: Path) -> list[Take]:
    """Sentences of the bundled negatives whose texts the model can give; for a classifier these are
    unknown words, and its labels are read by synthetic voices."""
    speech, _ = bundled_negatives(folder / "negatives", 1.0)
    listed = [(r.path, r.text, r.speaker) for r in read_source(0, speech) if r.text]
    order = np.random.default_rng(0).permutation(len(listed))
    listed = [listed[k] for k in order[: 2 * MOST_OTHERS]]
    if card.task == "ctc":
        return _fitting(card, Path(speech.path), listed, folder / "old_takes")
    words = [label for label in card.labels if label not in card.background]
    unknown = listed[: 2 * READINGS * len(words)] if UNKNOWN in card.labels else []
    read = [(take.path, take.word, take.speaker) for take in _read(words, folder / "read")]
    everything = _fitting(card, Path(speech.path), [*read, *unknown], folder / "old_takes")
    return [everything[k] for k in np.random.default_rng(0).permutation(len(everything))]


def _read(words: Sequence[str], folder: Path) -> list[Take]:
    try:
        voices = installed_voices("en")
    except VoiceError as error:
        raise DataError(
            f"nothing to see by what is forgotten: give --old recordings of others ({error})"
        ) from None
    count = 2 * READINGS * len(words)
    readings = list(draw_readings(words, voices, count, np.random.default_rng(0)))
    paths = [folder / f"{k:05d}.flac" for k in range(count)]
    seconds = read_all(readings, paths)
    return [
        Take(path, words[k % len(words)], readings[k].voice.speaker, length)
        for k, (path, length) in enumerate(zip(paths, seconds, strict=True))
        if length
    ]


def _fitting(
    card: ModelCard, data: Path, listed: Iterable[tuple[Path, str, str]], folder: Path
) -> list[Take]:
    """The recordings that can be read and whose texts the model can give, as it gives them; those
    longer than the window of a classifier trimmed. What is left out is counted in a warning."""
    takes, problems = [], {}
    for number, (path, text, speaker) in enumerate(listed):
        reference, problem = expected(card, text)
        if not problem:
            try:
                seconds = duration(path)
            except AudioError as error:
                problem = f"that cannot be read ({error})"
        if problem or not reference:
            problem = problem or "without a text"
            problems[problem] = problems.get(problem, 0) + 1
            continue
        take = Take(path, reference, speaker or path.stem, seconds)
        if card.window_length and reference not in card.background:
            take = trimmed(take, folder, card.window_length / card.sample_rate, number)
        takes.append(take)
    if problems:
        counted = ", ".join(f"{count} {why}" for why, count in problems.items())
        logger.warning("%s: left out %s", shown(data), counted)
    return takes


def _check_labels(card: ModelCard, takes: Sequence[Take]) -> None:
    """Raise DataError if nobody says a label of a classifier."""
    said = {take.word for take in takes}
    missing = [name for name in card.labels if name not in (*said, UNKNOWN, SILENCE)]
    if card.task == "classify" and missing:
        raise DataError(
            f"no recording of others says '{missing[0]}', so nothing would keep it from being "
            "forgotten; give --old recordings of all words"
        )
