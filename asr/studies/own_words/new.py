"""`asr new "hey lamp"`: a model from a phrase alone, read aloud by synthetic voices."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from asr.studies.own_words.build import AUTO, STARTS, Order, build
from asr.studies.own_words.materials import gather
from asr.studies.own_words.near_misses import near_misses
from asr.studies.own_words.reviewed import reviewed_takes
from asr.studies.own_words.survey import Survey, Take, hold_out, survey
from asr.studies.own_words.verdict import verdict
from asr.training.data.sources import DataError
from asr.training.data.texts import plain_label
from asr.training.voices import (
    Reading,
    Voice,
    draw_readings,
    installed_voices,
    read_all,
)

TAKES = 500  # readings of each phrase
NEAR_TAKES = 4  # of each near miss
MOST_NEAR = 400  # texts of near misses


def new_words(
    phrases: Sequence[str],
    order: Order,
    *,
    language: str = "en",
    recordings: Path | None = None,
    speaker: str = "",
    negatives: Sequence[Path] = (),
    more: Sequence[Path] = (),
    resume: bool = False,
) -> None:
    """Make a model of phrases and print what came of it.

    recordings: a folder of words that holds own recordings of some of them, which weigh more than
    synthetic ones; then these are what the model is measured by. language: of the voices. Others:
    see `train_folder`. Raises EarshotError.
    """
    phrases = [" ".join(phrase.split()) for phrase in phrases]
    if not phrases or not all(plain_label(phrase) for phrase in phrases):
        raise DataError("a phrase is empty; give one or more, as in: asr new 'hey lamp'")
    voices = installed_voices(language)
    engines = dict.fromkeys(voice.engine.name for voice in voices)
    listed = ", ".join(phrases)
    print(f"{len(voices)} synthetic voices of {', '.join(engines)} read: {listed}", flush=True)
    rng = np.random.default_rng(0)
    synthetic = _read_phrases(phrases, voices, order.folder / "synthetic", rng, resume)
    near = _read_near_misses(phrases, voices, language, order.folder / "near_misses", rng, resume)
    print(f"{len(synthetic)} readings, and {len(near)} of what sounds nearly the same", flush=True)
    own = _own(recordings, phrases, speaker)
    takes = own.takes if own else tuple(hold_out(synthetic, [])[0])
    found = own or Survey(takes, (), (), (), len({take.speaker for take in takes}), True)
    for line in found.notes:
        print(line)
    words = (*takes, *synthetic) if own else takes
    if own is None and order.start == AUTO:
        # A trial on synthetic voices says nothing of people, of whom the first start has met most.
        order = replace(order, start=STARTS[0])
    reviewed = reviewed_takes(more, found, order.folder / "materials" / "reviewed")
    materials = gather(
        found,
        order.folder / "materials",
        negatives,
        synthetic=synthetic if own else (),
        near_misses=near,
        reviewed=reviewed,
    )
    result = build(order, words, materials, resume)
    for line in verdict(order, found, result, synthetic=own is None):
        print(line, flush=True)


def _own(recordings: Path | None, phrases: Sequence[str], speaker: str) -> Survey | None:
    """The survey of own recordings of the phrases, all others of them being other words."""
    if recordings is None:
        return None
    found = survey(recordings, speaker)
    named = {plain_label(phrase): phrase for phrase in phrases}
    takes = tuple(
        replace(take, word=named[plain_label(take.word)])
        for take in found.takes
        if plain_label(take.word) in named
    )
    if not takes:
        raise DataError(
            f"{recordings}: none of its folders ({', '.join(found.words)}) is one of the phrases; "
            "name a folder as the phrase is spelled"
        )
    others = tuple(take.path for take in found.takes if plain_label(take.word) not in named)
    return replace(found, takes=takes, others=(*found.others, *others))


def _read_phrases(
    phrases: Sequence[str],
    voices: Sequence[Voice],
    folder: Path,
    rng: np.random.Generator,
    resume: bool,
) -> list[Take]:
    takes: list[Take] = []
    for phrase in phrases:
        takes += _read(phrase, list(draw_readings([phrase], voices, TAKES, rng)), folder, resume)
    return takes


def _read_near_misses(
    phrases: Sequence[str],
    voices: Sequence[Voice],
    language: str,
    folder: Path,
    rng: np.random.Generator,
    resume: bool,
) -> list[Take]:
    """Near misses by the voices that read phonemes; of texts, by all."""
    phonetic = [voice for voice in voices if voice.engine.name == "espeak"]
    texts = near_misses(phrases, language, rng) if phonetic else []
    texts = [texts[k] for k in rng.permutation(len(texts))[:MOST_NEAR]]
    readings = list(draw_readings(texts, phonetic, NEAR_TAKES * len(texts), rng)) if texts else []
    return _read("", readings, folder, resume)


def _read(word: str, readings: Sequence[Reading], folder: Path, resume: bool) -> list[Take]:
    """Readings as takes of a word; what no voice could read is left out."""
    named = hashlib.sha1(word.encode()).hexdigest()[:8]
    paths = [folder / named / f"{number:05d}.flac" for number in range(len(readings))]
    seconds = read_all(readings, paths, resume=resume)
    return [
        Take(path, word, reading.voice.speaker, length)
        for path, reading, length in zip(paths, readings, seconds, strict=True)
        if length
    ]
