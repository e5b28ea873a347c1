"""What a folder of recordings holds: words, speakers, how long a word is, and what is no use."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from asr.studies.own_words.speakers import guess_speakers
from asr.training.data.labels import UNKNOWN
from asr.training.data.sources import DataError
from asr.training.data.texts import plain_label
from features.audio import AudioError, find_audio
from features.duration import duration
from features.paths import shown

HELD_OUT = 0.2  # share of the speakers, or of the recordings, that is not trained on
FEWEST = 3  # recordings of a word of which one can be held out
NOBODY_KNOWN = "unknown"  # the speaker of all recordings, where their names do not say
OTHERS = ("unknown", "other", "negative")  # in names of folders that hold none of the words
LEAF_SHARE = 1.5  # how many times fewer folders at the bottom than at the top are the words

Parts = tuple[Path, tuple[str, ...]]
"""A recording, and the folders and file between the root and it."""


@dataclass(frozen=True)
class Take:
    """One recording of a word; seconds: its length by its header."""

    path: Path
    word: str
    speaker: str
    seconds: float
    held_out: bool = False


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    takes: of words, in the order of their paths; others: recordings of none of the words; noises:
    recordings without speech. notes: what was guessed and what was left out, a line each.
    by_speaker: whether whole speakers are held out.
    """

    takes: tuple[Take, ...]
    others: tuple[Path, ...]
    noises: tuple[Path, ...]
    notes: tuple[str, ...]
    speakers: int
    by_speaker: bool

    @property
    def words(self) -> tuple[str, ...]:
        """The words, each once."""
        return tuple(dict.fromkeys(take.word for take in self.takes))

    @property
    def counts(self) -> Counter[str]:
        """Recordings of each word."""
        return Counter(take.word for take in self.takes)


def survey(root: Path, speaker: str = "") -> Survey:
    """List the recordings of a folder with a folder for each word.

    speaker: a pattern whose group 1 is the speaker in a path, instead of a guess. Folders that
    begin with `_` hold no word: other words if OTHERS are in the name, else noise. Raises DataError
    if there is nothing to train on, AudioError if there is no audio.
    """
    if not root.is_dir():
        raise DataError(f"{shown(root)}: no such folder; give one with a folder for each word")
    notes: list[str] = []
    parts = [(path, path.relative_to(root).parts) for path in find_audio(root)]
    foldered = [entry for entry in parts if len(entry[1]) > 1]
    if not foldered:
        raise DataError(
            f"{shown(root)}: has no folders of words; sort the recordings into <word>/<recording>"
        )
    if loose := len(parts) - len(foldered):
        notes.append(f"left out {loose} recordings beside the folders of words")
    background = [entry for entry in foldered if entry[1][0].startswith("_")]
    of_words = list(_named(sorted(set(foldered) - set(background)), notes))
    takes = _with_speakers(root, _readable(of_words, notes), speaker, notes)
    if not takes:
        raise DataError(f"{shown(root)}: none of its recordings can be read; {_last(notes)}")
    takes, by_speaker = hold_out(_without_copies(takes, notes), notes)
    others = [path for path, below in background if _holds_others(below[0])]
    noises = [path for path, below in background if not _holds_others(below[0])]
    speakers = len({take.speaker for take in takes})
    return Survey(tuple(takes), tuple(others), tuple(noises), tuple(notes), speakers, by_speaker)


def _holds_others(folder: str) -> bool:
    return any(name in folder.lower() for name in OTHERS) or folder.lower() == UNKNOWN


def _last(notes: Sequence[str]) -> str:
    return notes[-1] if notes else "check the files"


def _named(entries: Sequence[Parts], notes: list[str]) -> Iterator[tuple[Path, str, tuple]]:
    """The word of each recording, and its path under the folder of the word.

    Words are the folders at the top, unless those right above the files are far fewer and recur:
    then the top ones are speakers.
    """
    deep = [below for _, below in entries if len(below) > 2]
    tops, leaves = {below[0] for _, below in entries}, {below[-2] for below in deep}
    under = defaultdict(set)
    for below in deep:
        under[below[-2]].add(below[0])
    upside_down = (
        len(deep) == len(entries) > 0
        and len(leaves) * LEAF_SHARE <= len(tops)
        and all(len(above) > 1 for above in under.values())
    )
    if upside_down:
        notes.append(f"words are the folders above the files, speakers those above: {deep[0][0]}")
    spelled: dict[str, str] = {}
    for path, below in entries:
        name = below[-2] if upside_down else below[0]
        word = spelled.setdefault(plain_label(name), name)
        yield path, word, (below[0], below[-1]) if upside_down else below[1:]


def _readable(
    entries: Sequence[tuple[Path, str, tuple]], notes: list[str]
) -> list[tuple[Take, PurePosixPath]]:
    """The recordings that can be read as sound, and their paths under the words."""
    readable, broken = [], []
    for path, word, below in entries:
        try:
            seconds = duration(path)
        except AudioError:
            seconds = 0.0
        if seconds:
            readable.append((Take(path, word, "", seconds), PurePosixPath(*below)))
        else:
            broken.append(path)
    if broken:
        notes.append(
            f"left out {len(broken)} of {len(entries)} files that cannot be read as sound "
            f"({shown(broken[0])})"
        )
    return readable


def _with_speakers(
    root: Path, entries: list[tuple[Take, PurePosixPath]], pattern: str, notes: list[str]
) -> list[Take]:
    """The takes with their speakers, and a note on who they are."""
    takes = [take for take, _ in entries]
    if not takes:
        return []
    if pattern:
        names = [_match(pattern, take.path) for take in takes]
        where = f"by {pattern}"
    else:
        guess = guess_speakers([(take.word, below) for take, below in entries])
        if guess is None:
            notes.append(
                "speakers: none can be read from the file names, so single recordings are held out "
                "and other people may be recognised worse; --speaker names them"
            )
            return [replace(take, speaker=NOBODY_KNOWN) for take in takes]
        names, where = list(guess.speakers), guess.where
    example = takes[0].path.relative_to(root)
    notes.append(
        f"speakers: {len(set(names))}, {where}: {shown(example)} is {shown(names[0])} "
        "(--speaker PATTERN to say otherwise)"
    )
    return [replace(take, speaker=name) for take, name in zip(takes, names, strict=True)]


def _match(pattern: str, path: Path) -> str:
    try:
        found = re.search(pattern, path.as_posix())
        if re.compile(pattern).groups != 1:
            raise DataError(f"--speaker '{pattern}' needs exactly one group in brackets")
    except re.error as error:
        raise DataError(f"--speaker '{pattern}' is no pattern ({error})") from None
    if not found:
        raise DataError(f"{shown(path)}: --speaker '{pattern}' finds no speaker in this path")
    return found[1]


def _without_copies(takes: Sequence[Take], notes: list[str]) -> list[Take]:
    """One of each group of equal files; none of those that stand under several words."""
    copies: dict[bytes, list[Take]] = defaultdict(list)
    for take in takes:
        copies[hashlib.blake2b(take.path.read_bytes(), digest_size=16).digest()].append(take)
    kept, contested = [], []
    for same in copies.values():
        words = {take.word for take in same}
        (kept.append if len(words) == 1 else contested.append)(same[0])
    if repeats := len(takes) - len(copies):
        notes.append(f"left out {repeats} copies of recordings")
    if contested:
        notes.append(
            f"left out {len(contested)} recordings that stand under several words "
            f"({shown(contested[0].path)})"
        )
    words = {take.word for take in takes} - {take.word for take in kept}
    if words:
        raise DataError(
            f"{shown(contested[0].path)}: all recordings of '{sorted(words)[0]}' stand under "
            "another word, too; keep each under the word that it says"
        )
    return kept


def hold_out(takes: Sequence[Take], notes: list[str]) -> tuple[list[Take], bool]:
    """Mark what is not trained on, and whether that is whole speakers.

    A fifth of the speakers, those first by the hashes of their names, as long as somebody else says
    each of their words; where that leaves nobody, a fifth of the recordings of each word.
    """
    speakers = sorted({take.speaker for take in takes}, key=_digest)
    left = {word: Counter() for word in {take.word for take in takes}}
    for take in takes:
        left[take.word][take.speaker] += 1
    chosen: set[str] = set()
    for name in speakers:
        if len(chosen) >= max(1, round(HELD_OUT * len(speakers))) or len(speakers) == 1:
            break
        if all(set(sayers) - chosen - {name} for sayers in left.values()):
            chosen.add(name)
    if chosen:
        return [replace(take, held_out=take.speaker in chosen) for take in takes], True
    marked = [take for word in left for take in _some_of(takes, word)]
    if not any(take.held_out for take in marked):
        counts = Counter(take.word for take in takes)
        raise DataError(
            f"'{min(counts, key=counts.__getitem__)}' has too few recordings "
            f"({min(counts.values())}), one must be kept to measure by; record {FEWEST} of each "
            "word at least ('asr record')"
        )
    if len(speakers) == 1 and speakers[0] != NOBODY_KNOWN:
        notes.append("one speaker only: the figures say how this voice is recognised, no other")
    return sorted(marked, key=lambda take: take.path), False


def _some_of(takes: Sequence[Take], word: str) -> Iterator[Take]:
    """The takes of a word, a fifth of them held out if there are at least FEWEST."""
    own = sorted((t for t in takes if t.word == word), key=lambda take: _digest(str(take.path)))
    count = max(1, round(HELD_OUT * len(own))) if len(own) >= FEWEST else 0
    for number, take in enumerate(own):
        yield replace(take, held_out=number < count)


def _digest(name: str) -> bytes:
    return hashlib.sha1(name.encode("utf-8", "surrogatepass")).digest()
