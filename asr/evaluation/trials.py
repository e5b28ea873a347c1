"""What a model is measured on: recordings with their references, and what had to be left out."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.card import ModelCard
from asr.model import Model
from asr.training.config import Config, SourceConfig, read_config
from asr.training.data.corpus import Corpus, load_corpus
from asr.training.data.labels import SILENCE, UNKNOWN
from asr.training.data.plan import plan_validation
from asr.training.data.sources import DataError, Recording, manifest_of, read_source
from asr.training.data.texts import plain_label, plain_text
from features.audio import read_audio
from features.errors import EarshotError

logger = logging.getLogger(__name__)

NO_LABEL = "of words that the model has no label for"
AMONG_OTHERS = "with a keyword among other words"
NO_CHARACTERS = "whose texts have characters that the model has no label for"
NO_FOLDER = "beside the folders of words, without a text"
UNREADABLE = "that cannot be read as audio"
NOISE = "noise"  # the group of trials that are windows of noise


class EvaluationError(EarshotError, ValueError):
    """There is nothing to measure, or it does not fit the model."""


@dataclass(frozen=True)
class Trial:
    """One recording: where it belongs, who speaks, its reference, and how to get its samples.

    reference: a label for a classifier, a text for a ctc model, empty if nothing is said.
    marked: from when to when, in seconds, a keyword is said in it, if that is known.
    traits: what is known of the speaker and the line, as gender or accent.
    """

    group: str
    speaker: str
    reference: str
    waveform: Callable[[], np.ndarray]
    marked: tuple[float, float] | None = None
    traits: Mapping[str, str] = field(default_factory=dict)


class Selection(NamedTuple):
    """The recordings that a model can be measured on; of the others, how many and why."""

    trials: list[Trial]
    left_out: dict[str, int]


def read_trials(model: Model, data: Path, speaker: str = "") -> Selection:
    """List the recordings of a folder of words, of a JSON-lines manifest, or of a recipe (.toml):
    then those of the speakers that it holds out.

    speaker: as in a recipe, how a folder or manifest names the speakers. What is left out is
    counted, and said in a warning. Raises EarshotError; EvaluationError if nothing is left.
    """
    if data.suffix == ".toml":
        return held_out_trials(model, read_config(data, []), data)
    recordings, unlabelled = labelled_recordings(data, speaker)
    rate = model.card.sample_rate
    trials = (
        Trial(
            data.stem,
            r.speaker,
            r.text,
            lambda path=r.path: read_audio(path, rate),
            r.marked,
            r.traits,
        )
        for r in recordings
    )
    return _fitting(model.card, data, trials, unlabelled)


def labelled_recordings(data: Path, speaker: str = "") -> tuple[list[Recording], int]:
    """List the recordings of a folder of words or of a manifest, and count those without a label.

    In a folder, a recording outside the folders of words has none. Raises EvaluationError if that
    is all of them, since a reference would be made up.
    """
    source = SourceConfig(
        path=str(data), name=data.stem, licence="", attribution="", speaker=speaker, validation=0.0
    )
    recordings = _read(source)
    folder = data.is_dir() and manifest_of(data) is None
    labelled = [r for r in recordings if not (folder and r.path.parent == data)]
    if recordings and not labelled:
        raise EvaluationError(
            f"{data}: its {len(recordings)} recordings have no labels; sort them into folders "
            "named after what is said (<word>/<recording>), or write a manifest.jsonl of "
            "audio_filepath and text"
        )
    return labelled, len(recordings) - len(labelled)


def _read(source: SourceConfig) -> list[Recording]:
    """The recordings of a source; if a manifest says who speaks in `speaker`, with that."""
    if source.speaker or manifest_of(Path(source.path)) is None:
        return read_source(0, source)
    try:
        return read_source(0, replace(source, speaker="{speaker}"))
    except DataError:  # some entry has no speaker, or there is more amiss: that is raised below
        return read_source(0, source)


def held_out_trials(model: Model, config: Config, recipe: Path) -> Selection:
    """List what a training recipe holds out: the recordings and the noises that it validates on.

    Recordings are whole, as a user would give them, also where validation crops them to the window
    of a classifier. recipe: where `config` comes from, for errors. What is left out is counted, and
    said in a warning. Raises EarshotError; EvaluationError if nothing is left.
    """
    if config.model.head.kind != model.card.task:
        raise EvaluationError(
            f"{recipe}: trains a {config.model.head.kind} model, {model.card.name} is for "
            f"{model.card.task}; name the recipe that it was trained by"
        )
    # Sources that hold nobody out have nothing to measure on and need not be at hand.
    sources = tuple(
        source
        for source in config.data.sources
        if source.kind == "noise" or source.validation_speakers or source.validation > 0.0
    )
    config = replace(config, data=replace(config.data, sources=sources))
    return _fitting(model.card, recipe, _held_out(config, load_corpus(config)))


def _held_out(config: Config, corpus: Corpus) -> Iterator[Trial]:
    noises = corpus.validation_noises
    for item in (item for batch in plan_validation(config, corpus) for item in batch):
        if item.example is None:
            waveform = lambda item=item: item.waveform(noises)  # noqa: E731
            yield Trial(NOISE, f"noise {item.seed}", SILENCE, waveform)
        else:
            r = item.example.recording
            source = config.data.sources[r.source].name
            yield Trial(source, r.speaker, r.text, item.example.waveform, r.marked, r.traits)


def _fitting(
    card: ModelCard, data: Path, trials: Iterable[Trial], unlabelled: int = 0
) -> Selection:
    """The trials whose reference the model can give, with that; `data` is named in messages."""
    kept: list[Trial] = []
    left_out: Counter[str] = Counter({NO_FOLDER: unlabelled} if unlabelled else {})
    examples: dict[str, str] = {}
    for trial in trials:
        reference, problem = expected(card, trial.reference)
        if problem:
            left_out[problem] += 1
            examples.setdefault(problem, f" ('{trial.reference}')")
        else:
            kept.append(replace(trial, reference=reference))
    counted = ", ".join(
        f"{count} {why}{examples.get(why, '')}" for why, count in left_out.most_common()
    )
    if not kept:
        raise EvaluationError(
            f"{data}: no recording fits the labels of {card.name} ({counted or 'there is none'}); "
            "check the texts, or name recordings of what the model was trained on"
        )
    if card.task == "ctc" and not any(trial.reference for trial in kept):
        raise EvaluationError(f"{data}: its texts are empty; write what is said into text")
    if left_out:
        logger.warning("%s: left out %s; %d are measured", data, counted, len(kept))
    return Selection(kept, dict(left_out))


def expected(card: ModelCard, text: str) -> tuple[str, str]:
    """What the model should answer to a text, or an empty string and why it cannot.

    Texts and labels meet as in training: see `plain_text` and, for a classifier, `plain_label`.
    """
    if card.task == "ctc":
        labels = set(card.labels)
        characters = {name for name in labels if len(name) == 1}
        text = plain_text(text, labels)
        fits = set(text) <= characters or set(text.split()) <= labels
        return (text, "") if fits else ("", NO_CHARACTERS)
    names = {plain_label(name): name for name in card.labels}
    text = plain_label(text)
    if text in names:
        return names[text], ""
    if not names.keys().isdisjoint(text.split()):
        return "", AMONG_OTHERS
    return (UNKNOWN, "") if UNKNOWN in names else ("", NO_LABEL)


def speaker_halves(
    data: Path, trials: Sequence[Trial], otherwise: str = ""
) -> tuple[list[Trial], list[Trial]]:
    """Every other speaker's trials, and those of the rest: nobody is in both.

    data: where they come from, for errors; otherwise: what can be done but to add recordings.
    """
    speakers = sorted({trial.speaker for trial in trials})
    if len(speakers) < 2:
        raise EvaluationError(
            f"{data}: has one speaker only, too few to learn from some and report on others; "
            f"add recordings{otherwise}"
        )
    first = set(speakers[::2])
    chosen = [trial for trial in trials if trial.speaker in first]
    return chosen, [trial for trial in trials if trial.speaker not in first]
