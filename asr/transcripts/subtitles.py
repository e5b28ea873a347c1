"""Utterances to subtitles: SubRip and WebVTT cues that can be read in the time they stand.

A cue has at most two lines of 42 characters and stands for 1 to 7 seconds, with two frames of 25
pictures a second between it and the next. Longer utterances are split between words, where the
pause is longest; a cue that would be too short joins the next one, or stands a little longer than
its words and delays it.
"""

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from asr.events import Utterance, Word

LINE_LENGTH = 42  # characters
SHORTEST = 1000  # times of cues are whole milliseconds
LONGEST = 7000
GAP = 80


@dataclass(frozen=True)
class Cue:
    """One subtitle: one or two lines, shown from `start` to `end`, in milliseconds."""

    lines: tuple[str, ...]
    start: int
    end: int


def srt(utterances: Iterable[Utterance]) -> Iterator[str]:
    """Yield the blocks of a SubRip file, each as soon as it is certain."""
    for number, cue in enumerate(cues(utterances), 1):
        text = "\n".join(cue.lines)
        yield f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{text}\n\n"


def vtt(utterances: Iterable[Utterance]) -> Iterator[str]:
    """Yield the header and the blocks of a WebVTT file, each as soon as it is certain."""
    yield "WEBVTT\n\n"
    for cue in cues(utterances):
        text = html.escape("\n".join(cue.lines), quote=False)
        yield f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text}\n\n"


def cues(utterances: Iterable[Utterance]) -> Iterator[Cue]:
    """Yield the cues of utterances that follow one another, in order and apart."""
    free = 0
    for words, following in _with_next(_merged(_pieces(utterances))):
        start = max(_milliseconds(words[0].start), free)
        latest = LONGEST + start
        if following:
            latest = min(latest, max(_milliseconds(following[0].start) - GAP, start + SHORTEST))
        end = min(max(_milliseconds(words[-1].end), start + SHORTEST), latest)
        free = end + GAP
        yield Cue(_lines(words), start, end)


def _pieces(utterances: Iterable[Utterance]) -> Iterator[list[Word]]:
    for utterance in utterances:
        words = [part for word in utterance.words for part in _parts(word)]
        if words:
            yield from _split(words)


def _split(words: list[Word]) -> Iterator[list[Word]]:
    """Cut at the longest pause in the middle half until each piece fits a cue."""
    if len(words) == 1 or _fits(words):
        yield words
        return
    first = max(1, len(words) // 4)
    places = range(first, max(first + 1, len(words) - first + 1))
    place = max(places, key=lambda k: (_pause(words, k), -abs(2 * k - len(words))))
    yield from _split(words[:place])
    yield from _split(words[place:])


def _merged(pieces: Iterable[list[Word]]) -> Iterator[list[Word]]:
    """Join a piece with the next if it could not stand long enough before it and both fit."""
    held: list[Word] = []
    for piece in pieces:
        hurried = held and _milliseconds(piece[0].start - held[0].start) < SHORTEST + GAP
        if hurried and _fits(held + piece):
            held = held + piece
        else:
            if held:
                yield held
            held = piece
    if held:
        yield held


def _with_next(pieces: Iterable[list[Word]]) -> Iterator[tuple[list[Word], list[Word]]]:
    """Yield each piece with the one after it, the last with an empty one."""
    before: list[Word] = []
    for piece in pieces:
        if before:
            yield before, piece
        before = piece
    if before:
        yield before, []


def _fits(words: list[Word]) -> bool:
    length = _milliseconds(words[-1].end) - _milliseconds(words[0].start)
    return length <= LONGEST and bool(_lines(words))


def _lines(words: list[Word]) -> tuple[str, ...]:
    """Return the words as one line or as two of like length, nothing if they are too many."""
    texts = [word.text for word in words]
    whole = " ".join(texts)
    if len(whole) <= LINE_LENGTH:
        return (whole,)
    if len(whole) > 2 * LINE_LENGTH + 1:
        return ()
    halves = ((" ".join(texts[:k]), " ".join(texts[k:])) for k in range(1, len(texts)))
    fitting = [pair for pair in halves if max(map(len, pair)) <= LINE_LENGTH]
    return min(fitting, key=lambda pair: abs(len(pair[0]) - len(pair[1])), default=())


def _parts(word: Word) -> Iterator[Word]:
    """Break a word that is longer than a line, its time shared out by letters."""
    pace = (word.end - word.start) / max(1, len(word.text))
    for first in range(0, len(word.text), LINE_LENGTH):
        text = word.text[first : first + LINE_LENGTH]
        start = word.start + pace * first
        yield Word(text, start, start + pace * len(text))


def _pause(words: list[Word], place: int) -> float:
    return words[place].start - words[place - 1].end


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _clock(milliseconds: int, mark: str) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{fraction:03}"
