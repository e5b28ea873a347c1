"""What a person said of kept recordings ('asr review'), as takes to learn from: words that were
said, and what was taken for them."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.kept import Moment, read_decisions, read_moments
from asr.studies.own_words.materials import SAMPLE_RATE, window_of, write_flac
from asr.studies.own_words.survey import Survey, Take
from asr.training.data.sources import DataError
from asr.training.data.texts import plain_label
from features.audio import AudioError, read_audio
from features.paths import shown

logger = logging.getLogger(__name__)

EDGE_SECONDS = 0.1  # before and after a word
AFTER_SECONDS = 0.5  # of sound after a false alarm
REVIEWED = "reviewed"  # who speaks: nobody knows


def reviewed_takes(folders: Sequence[Path], found: Survey, out: Path) -> list[Take]:
    """Cut what was reviewed out of its recordings, into `out`, and print how much it is.

    found: has the words that are learned; what was said to be none of them is a take of "". Raises
    ReadError for a folder that 'asr listen --save' did not write,
    DataError if nothing in the folders was reviewed.
    """
    named = {plain_label(word): word for word in found.words}
    window = window_of(found.takes)
    takes = [
        take
        for k, folder in enumerate(folders)
        for take in _takes(folder, named, window, out / str(k))
    ]
    if folders and not takes:
        raise DataError(
            f"{shown(folders[0])}: nothing in it says what to learn; go through it with "
            f"'asr review {shown(folders[0])}' first"
        )
    if folders:
        false = sum(not take.word for take in takes)
        print(f"from reviews: {len(takes) - false} takes of words, {false} of what is none of them")
    return takes


def _takes(folder: Path, named: dict[str, str], window: float, out: Path) -> Iterator[Take]:
    """The takes of a folder. A recording in which a word is among others is left out: where it lies
    is not known."""
    moments, decisions = read_moments(folder), read_decisions(folder)
    unclear, waiting = 0, 0
    for moment in moments:
        said = decisions.get(moment.audio)
        if said is None:
            waiting += 1
            continue
        plain = plain_label(said)
        word = named.get(plain, "")
        if not word and any(f" {name} " in f" {plain} " for name in named):
            unclear += 1
            continue
        try:
            samples = read_audio(folder / moment.audio, SAMPLE_RATE)
        except AudioError as error:
            logger.warning("%s: left out", error)
            continue
        first, last = _span(moment, window) if word else (0.0, moment.moment + AFTER_SECONDS)
        cut = samples[max(0, round(first * SAMPLE_RATE)) : round(last * SAMPLE_RATE)]
        path = out / f"{Path(moment.audio).stem}.flac"
        write_flac(path, cut)
        yield Take(path, word, REVIEWED, len(cut) / SAMPLE_RATE)
    for count, why in ((waiting, "are not reviewed yet"), (unclear, "hold a word among others")):
        if count:
            logger.warning("%s: left out %d recordings that %s", shown(folder), count, why)


def _span(moment: Moment, window: float) -> tuple[float, float]:
    """From when to when a word is said: a typed one is marked, a trained one has just ended."""
    if moment.start is not None and moment.end is not None:
        return moment.start - EDGE_SECONDS, moment.end + EDGE_SECONDS
    last = moment.moment + EDGE_SECONDS
    return last - window, last
