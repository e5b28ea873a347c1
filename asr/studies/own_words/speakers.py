"""Who speaks in which recording, guessed from how folders and files are named."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

NOHASH = "_nohash_"  # after the speaker, in names of the Speech Commands data set
PARTS = re.compile(r"[_\-. ]+")
LETTERS_THEN_NUMBER = re.compile(r"([^\W\d_]+)\d+")
NAMED_SHARE = 0.95  # of the recordings must have a name by a rule
SHARED_SHARE = 0.5  # of the recordings must be of speakers who say several words
TOKENS = 3  # of a file name that may be the speaker

Named = tuple[str, PurePosixPath]
"""The word of a recording, and its path under the folder of the word."""


@dataclass(frozen=True)
class Guess:
    """Speakers (one for each recording), and where in their paths they were found."""

    speakers: tuple[str, ...]
    where: str


def guess_speakers(recordings: Sequence[Named]) -> Guess | None:
    """Guess who speaks from sub-folders or file names; None if no rule gives plausible speakers.

    Plausible: several, each with several recordings, and most of them with several words, where
    there are several. NOHASH says it outright.
    """
    rules: list[tuple[str, Callable[[Named], str]]] = [
        ("in the folder under the word", _folder),
        (f"before {NOHASH}", _before_nohash),
        *((f"in part {k + 1} of the file name", partial(_token, number=k)) for k in range(TOKENS)),
        ("in the letters of the file name", _letters),
        ("in the file name", _stem),
    ]
    for where, rule in rules:
        names = [rule(recording) for recording in recordings]
        if sum(map(bool, names)) < NAMED_SHARE * len(names):
            continue
        outright = rule is _before_nohash and len(set(names)) > 1
        if outright or _plausible(recordings, names):
            # A recording that the rule does not fit is a speaker of its own.
            speakers = tuple(
                name or str(path) for name, (_, path) in zip(names, recordings, strict=True)
            )
            return Guess(speakers, where)
    return None


def _folder(recording: Named) -> str:
    parts = recording[1].parts
    return parts[0] if len(parts) > 1 else ""


def _before_nohash(recording: Named) -> str:
    speaker, nohash, _ = recording[1].stem.partition(NOHASH)
    return speaker if nohash else ""


def _token(recording: Named, number: int) -> str:
    """A part of the file name, but the last, which counts the recordings, and the word itself."""
    word, path = recording
    tokens = PARTS.split(path.stem)
    token = tokens[number] if number < len(tokens) - 1 else ""
    return "" if token.casefold() in PARTS.split(word.casefold()) else token


def _letters(recording: Named) -> str:
    match = LETTERS_THEN_NUMBER.fullmatch(recording[1].stem)
    return match[1] if match and match[1].casefold() != recording[0].casefold() else ""


def _stem(recording: Named) -> str:
    stem = recording[1].stem
    return "" if stem.isdigit() or LETTERS_THEN_NUMBER.fullmatch(stem) else stem


def _plausible(recordings: Sequence[Named], names: Sequence[str]) -> bool:
    named = [(word, name) for (word, _), name in zip(recordings, names, strict=True) if name]
    words_of = defaultdict(set)
    for word, name in named:
        words_of[name].add(word)
    if not 2 <= len(words_of) <= len(named) / 2:
        return False
    if len({word for word, _ in recordings}) == 1:
        return True
    shared = sum(len(words_of[name]) > 1 for _, name in named)
    return shared >= SHARED_SHARE * len(named)
