"""Typed keywords: what a CTC model can spell is spotted, without training a model for it.

A keyword scores by how much worse its best path is than the best path of any labels over the same
frames, as hidden Markov models are set against a filler (Rose & Paul, "A Hidden Markov Model Based
Keyword Recognition System", ICASSP 1990). The paths are those of CTC (Graves et al., ICML 2006).
Where the model reads phonemes and it is known how a keyword is said, both have to agree.
"""

import dataclasses
import itertools
import math
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.card import ModelCard, Spotting
from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError, chosen
from asr.decode.lm.compact import read_compact
from asr.decode.lm.ngrams import NgramModel
from asr.events import Detection, Event, NearMiss
from asr.phonemes import parse_pronunciation
from asr.runtime.scorers import Scores

LEAST_SCORE = 0.01  # no peak is lower
NEAR = 0.5  # a near miss has at least this share of its threshold
SHORT_LETTERS = 4
ALIKE = 0.34  # edits per letter
MOST_SAID = 8  # pronunciations of a keyword
SAID = re.compile(r"\(([^()]*)\)")


class Keyword(NamedTuple):
    """A word or phrase, and the score in (0, 1] from which it is reported, if it has its own.

    said: its pronunciations, a letter for each phoneme (`asr.phonemes`); none if they are not
    known: then it is found by its letters alone.
    """

    text: str
    threshold: float | None = None
    said: tuple[str, ...] = ()


class Target(NamedTuple):
    """A keyword that is found by its letters, and the score in (0, 1] from which it is reported."""

    text: str
    threshold: float


@dataclass(frozen=True, kw_only=True)
class SpotOptions:
    """Which keywords to spot: any, for a model that transcribes; some of its own, for another.

    refractory, confirm, linger: in place of what the card says, see `Spotting` and `Trigger`; the
        last two are for a model that transcribes.
    near_misses: report also what nearly was a keyword, and why it is none.
    Raises DecodeError if a number makes no sense, or if a keyword is missing or there twice.
    """

    keywords: tuple[Keyword, ...]
    refractory: float | None = None
    near_misses: bool = False
    confirm: float | None = None
    linger: float | None = None

    def __post_init__(self) -> None:
        if not self.keywords or not all(sounds_of(keyword.text) for keyword in self.keywords):
            raise DecodeError("a keyword is missing; give them as in 'operator, wild fire=0.8'")
        sounds = [sounds_of(keyword.text) for keyword in self.keywords]
        for place, (text, threshold, _) in enumerate(self.keywords):
            if sounds[place] in sounds[:place]:
                raise DecodeError(f"keyword '{text}' is there twice; leave one out")
            if threshold is not None and not 0.0 < threshold <= 1.0:
                raise DecodeError(
                    f"keyword '{text}': threshold {threshold:g} is not in (0, 1]; give '{text}=0.6'"
                )
        for name in ("refractory", "confirm", "linger"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < math.inf:
                raise DecodeError(f"{name} {value:g} makes no sense; give 0 or more")

    def beside(self, lm: Path | None) -> "SpotOptions":
        """The same with the pronunciations of the keywords that have none, as far as the language
        model that stands beside the acoustic model knows them. Raises ReadError, DecodeError."""
        if lm is None or all(keyword.said for keyword in self.keywords):
            return self
        model = read_compact(lm)
        found = (k if k.said else k._replace(said=_known(k.text, model)) for k in self.keywords)
        return dataclasses.replace(self, keywords=tuple(found))


def _known(text: str, model: NgramModel) -> tuple[str, ...]:
    """How the words of a keyword are said one after the other; nothing if one is not known."""
    if model.pronunciations is None:
        return ()
    numbers = [model.lexicon.number(word) for word in text.split()]
    words = [model.pronunciations.of(number) if number else [] for number in numbers]
    ways = itertools.islice(itertools.product(*words), MOST_SAID)
    return tuple("".join(way) for way in ways)


def parse_keywords(text: str) -> tuple[Keyword, ...]:
    """Read "operator, wild fire=0.7, lumos (L UW M OW S)": keywords, lower-cased, some with a
    threshold of their own, some with how they are said, in the phonemes of CMUdict.

    Raises DecodeError, PronunciationError.
    """
    return tuple(parse_keyword(part) for part in text.split(",") if part.strip())


def parse_keyword(part: str) -> Keyword:
    """Read one of them. Raises DecodeError, PronunciationError."""
    name, sign, number = part.replace(":", "=").partition("=")
    said = tuple(parse_pronunciation(way) for way in SAID.findall(name))
    text = " ".join(SAID.sub(" ", name).lower().split())
    try:
        return Keyword(text, float(number) if sign else None, said)
    except ValueError:
        raise DecodeError(
            f"keyword '{text}': threshold '{number.strip()}' is no number; give '{text}=0.6'"
        ) from None


def ambiguities(keywords: Sequence[Keyword]) -> list[str]:
    """Say which keywords will be mistaken: too short, part of another, or spelled like another."""
    texts = [keyword.text for keyword in keywords]
    found = [
        f"keyword '{text}' has fewer than {SHORT_LETTERS} letters and will be recognised in other "
        f"words; take a longer one, or a higher threshold: '{text}=0.9'"
        for text in texts
        if len(sounds_of(text)) < SHORT_LETTERS
    ]
    for first, second in itertools.combinations(sorted(texts, key=len), 2):
        if sounds_of(first) in sounds_of(second):
            found.append(
                f"keyword '{first}' is part of '{second}' and may be recognised in its place"
            )
        elif _edits(sounds_of(first), sounds_of(second)) <= ALIKE * len(sounds_of(second)):
            found.append(
                f"keywords '{first}' and '{second}' sound alike; take words that differ more"
            )
    return found


def unpronounced(keywords: Sequence[Keyword]) -> list[str]:
    """Say which keywords are found by their letters alone, though the model reads phonemes."""
    names = ", ".join(f"'{keyword.text}'" for keyword in keywords if not keyword.said)
    if not names:
        return []
    return [
        f"found by the letters alone, since it is not known how they are said: {names}; write that "
        "behind a keyword in the phonemes of CMUdict, as in 'hello (HH AH L OW)'"
    ]


def sounds_of(text: str) -> str:
    """A text without what makes no sound: the same for keywords that are the same."""
    return "".join(text.split())


def _edits(first: str, second: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        corner, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


class Peak(NamedTuple):
    """Where a keyword fits best: its number, score, and frames `start` to `end` (exclusive)."""

    keyword: int
    score: float
    start: int
    end: int


class PathFinder:
    """Follows the best path through each of several spellings that ends now.

    The score of one in frame t is exp(S / L) for L labels. S is the largest sum, over the frames of
    a path that reads them, starts anywhere and ends with the last of them in t, of log p(label of
    the path) - max log p; time between two labels costs `linger` a second besides. A separator
    makes no sound: it is as good as a blank, and "wild fire" the same as "wildfire".
    """

    def __init__(
        self, alphabet: Alphabet, spellings: Sequence[Sequence[int]], linger: float
    ) -> None:
        self._alphabet = alphabet
        self._linger = linger * alphabet.frame_seconds
        self._lengths = np.array([len(spelling) for spelling in spellings])
        # Labels with a blank between any two; what follows a shorter spelling's last is not used.
        self._states = np.full((len(spellings), 2 * self._lengths.max() - 1), alphabet.blank)
        for row, spelling in zip(self._states, spellings, strict=True):
            row[: 2 * len(spelling) : 2] = spelling
        self._forbidden = np.full(self._states.shape, -np.inf)
        skips = self._states[:, 2::2] != self._states[:, :-2:2]
        self._forbidden[:, 2::2][skips] = 0.0
        self._last = 2 * self._lengths[:, None]  # columns of the last labels in _best and _starts
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state; the next frame is frame 0."""
        spellings, states = self._states.shape
        # Two columns before the states: what is never reached, and a path that starts now.
        self._best = np.full((spellings, states + 2), -np.inf)
        self._best[:, 1] = 0.0
        self._starts = np.zeros((spellings, states + 2), int)
        self._frame = 0

    def push(self, log_probs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Take (frames, labels); return of each frame the scores and the frames in which the paths
        start, both (spellings,)."""
        costs = (log_probs - log_probs.max(axis=1, keepdims=True)).astype(float)
        blank, separator = self._alphabet.blank, self._alphabet.separator
        if separator is not None:
            costs[:, blank] = np.maximum(costs[:, blank], costs[:, separator])
        costs[:, blank] -= self._linger
        return [self._advance(row) for row in costs]

    def _advance(self, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        best, starts = self._best, self._starts
        starts[:, 1] = self._frame
        # Stay, come from the state before, or skip the blank between; the earliest start wins.
        came = np.stack([best[:, 2:], best[:, 1:-1], best[:, :-2] + self._forbidden])
        chosen = came.argmax(axis=0)[None]
        from_where = np.stack([starts[:, 2:], starts[:, 1:-1], starts[:, :-2]])
        best[:, 2:] = np.take_along_axis(came, chosen, 0)[0] + costs[self._states]
        starts[:, 2:] = np.take_along_axis(from_where, chosen, 0)[0]
        self._frame += 1
        ends = np.take_along_axis(best, self._last, 1)[:, 0]
        begun = np.take_along_axis(starts, self._last, 1)[:, 0]
        return np.exp(ends / self._lengths), begun


class SoundFinder:
    """How well each keyword fits what the model reads as phonemes.

    A score is the best of the pronunciations of a keyword (see PathFinder) in the newest `frames`
    frames: letters and phonemes of the same sound do not end in the same frame.
    keywords: the numbers of those whose pronunciations are known.
    """

    def __init__(
        self, alphabet: Alphabet, keywords: Sequence[Keyword], linger: float, frames: int
    ) -> None:
        self.keywords = [k for k, keyword in enumerate(keywords) if keyword.said]
        several = [keywords[k].said for k in self.keywords]
        self._first = np.cumsum([0, *map(len, several)])[:-1]
        ways = [alphabet.must_spell(way, "pronunciation") for said in several for way in said]
        self._paths = PathFinder(alphabet, ways, linger)
        self._recent = np.zeros((len(self.keywords), frames))

    def reset(self) -> None:
        """Go back to the initial state."""
        self._paths.reset()
        self._recent[:] = 0.0

    def push(self, log_probs: np.ndarray) -> list[np.ndarray]:
        """Take (frames, phonemes) and return the scores of each frame, (keywords,)."""
        return [self._best(scores) for scores, _ in self._paths.push(log_probs)]

    def _best(self, scores: np.ndarray) -> np.ndarray:
        self._recent[:, :-1] = self._recent[:, 1:]
        self._recent[:, -1] = np.maximum.reduceat(scores, self._first)
        return self._recent.max(axis=1)


class PeakFinder:
    """Scores each keyword in each frame, and finds where it fits best.

    The score is that of its letters (see PathFinder), or, if it is known how it is said, their
    geometric mean with that of its phonemes (see SoundFinder). It is a peak if it is the best for
    `rules.confirm` seconds before and after; it waits for as long again, so that a keyword that
    fits the same sound better can come forward. A detection is as late as both. `confirm` and
    `refractory`: those of the rules in frames.
    """

    def __init__(self, card: ModelCard, keywords: Sequence[Keyword], rules: Spotting) -> None:
        alphabet = Alphabet.of(card)
        self.confirm = max(1, round(rules.confirm / alphabet.frame_seconds))
        self.refractory = round(rules.refractory / alphabet.frame_seconds)
        self._letters = PathFinder(alphabet, spellings(alphabet, keywords), rules.linger)
        self._sounds: SoundFinder | None = None
        if card.phonemes and any(keyword.said for keyword in keywords):
            phonemes = Alphabet.of_phonemes(card)
            self._sounds = SoundFinder(phonemes, keywords, rules.linger, self.confirm)
        self._keywords = len(keywords)
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state; the next frame is frame 0."""
        self._letters.reset()
        if self._sounds:
            self._sounds.reset()
        self._frame = 0
        recent = 2 * self.confirm + 1
        self._scores = np.zeros((self._keywords, recent))
        self._begun = np.zeros((self._keywords, recent), int)

    def push(self, scores: Scores) -> list[Peak]:
        """Take the scores of the next frames and return the peaks, `confirm` frames after each."""
        return [peak for frame in self.score(scores) for peak in self._peaks(*frame)]

    def score(self, scores: Scores) -> list[tuple[np.ndarray, np.ndarray]]:
        """Take the scores of the next frames; return of each the scores of the keywords and the
        frames in which they start, both (keywords,)."""
        found = self._letters.push(scores.log_probs)
        if self._sounds and scores.phonemes is not None:
            said = self._sounds.keywords
            for (letters, _), sounds in zip(found, self._sounds.push(scores.phonemes), strict=True):
                letters[said] = np.sqrt(letters[said] * sounds)
        return found

    def finish(self) -> list[Peak]:
        """Return the peaks that only the end of the audio confirms."""
        nothing = np.zeros(self._keywords)
        return [p for _ in range(self.confirm) for p in self._peaks(nothing, nothing.astype(int))]

    def _peaks(self, scores: np.ndarray, starts: np.ndarray) -> list[Peak]:
        """Take the scores of the next frame; return the peaks that it confirms."""
        self._frame += 1
        for recent, new in ((self._scores, scores), (self._begun, starts)):
            recent[:, :-1] = recent[:, 1:]
            recent[:, -1] = new
        middle = self._scores[:, self.confirm]
        before, after = self._scores[:, : self.confirm], self._scores[:, self.confirm + 1 :]
        tops = (middle > before.max(axis=1)) & (middle >= after.max(axis=1))
        end = self._frame - self.confirm
        return [
            Peak(keyword, float(middle[keyword]), int(self._begun[keyword, self.confirm]), end)
            for keyword in np.flatnonzero(tops & (middle >= LEAST_SCORE)).tolist()
        ]


class Verdict(NamedTuple):
    """A peak, and why it is no detection; "" if it is one."""

    peak: Peak
    reason: str


class Arbiter:
    """Makes at most one detection of peaks that overlap in time, and none soon after another.

    A peak is judged 2 * `confirm` frames after it, by what is known then, however the frames came
    in. Of those that reach their thresholds the one with most evidence wins, unless another was
    reported already.
    """

    def __init__(self, keywords: Sequence[Target], refractory: int, confirm: int) -> None:
        self._keywords = keywords
        self._refractory = refractory
        self._confirm = confirm
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state."""
        self._waiting: deque[Peak] = deque()
        self._fired: Peak | None = None

    def push(self, peaks: Sequence[Peak], frames: float) -> list[Verdict]:
        """Take new peaks, in order of their ends; judge those that `frames` suffice for.

        A keyword that fits the same sound at two places gets one verdict, on the better.
        """
        self._waiting += peaks
        verdicts: list[Verdict] = []
        while self._waiting and self._waiting[0].end + 2 * self._confirm <= frames:
            peak = self._waiting.popleft()
            rival = self._rival(peak)
            if rival is None or rival.keyword != peak.keyword:
                verdicts.append(Verdict(peak, self._objection(peak, rival)))
                self._fired = self._fired if verdicts[-1].reason else peak
        return verdicts

    def _rival(self, peak: Peak) -> Peak | None:
        """What the sound of a peak was reported as, or will be with better reason."""
        if self._fired and self._fired.end > peak.start:
            return self._fired
        latest, least = peak.end + self._confirm, max(0.0, self._evidence(peak))
        for other in itertools.takewhile(lambda waiting: waiting.end <= latest, self._waiting):
            if other.start < peak.end and self._evidence(other) > least:
                return other
        return None

    def _objection(self, peak: Peak, rival: Peak | None) -> str:
        if self._evidence(peak) < 0.0:
            return f"below the threshold of {self._keywords[peak.keyword].threshold:.0%}"
        if rival:
            return f"lost against '{self._keywords[rival.keyword].text}'"
        if self._fired and peak.end - self._fired.end < self._refractory:
            return f"in the refractory period of '{self._keywords[self._fired.keyword].text}'"
        return ""

    def _evidence(self, peak: Peak) -> float:
        """How far a peak is above its threshold, weighted by how much sound it explains: of "fire"
        and "wild fire" the longer wins if both are there."""
        excess = math.log(peak.score / self._keywords[peak.keyword].threshold)
        return excess * (peak.end - peak.start)


class KeywordSpotter:
    """Says when a keyword was said, twice `confirm` after its last label; see PeakFinder.

    Raises DecodeError if the model cannot say a keyword.
    """

    def __init__(self, card: ModelCard, options: SpotOptions) -> None:
        alphabet = Alphabet.of(card)
        self._sample_rate = card.sample_rate
        self._frame_seconds = alphabet.frame_seconds
        rules = chosen(card.spotting, options)
        self._near_misses = options.near_misses
        self._keywords = targets(options.keywords, card)
        self._finder = PeakFinder(card, options.keywords, rules)
        self._arbiter = Arbiter(self._keywords, self._finder.refractory, self._finder.confirm)
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state."""
        self._finder.reset()
        self._arbiter.reset()
        self._end = 0
        self._frames = 0

    def push(self, scores: Scores) -> list[Event]:
        """Take the scores of the next frames; return the detections that they confirm."""
        self._end = scores.end
        self._frames += len(scores.log_probs)
        return self._events(self._arbiter.push(self._finder.push(scores), self._frames))

    def finish(self) -> list[Event]:
        """Judge what still waits when the audio ends."""
        return self._events(self._arbiter.push(self._finder.finish(), math.inf))

    def _events(self, verdicts: Sequence[Verdict]) -> list[Event]:
        events: list[Event] = []
        for (number, score, first, last), reason in verdicts:
            keyword = self._keywords[number]
            start, end = first * self._frame_seconds, last * self._frame_seconds
            time = self._end / self._sample_rate
            if not reason:
                events.append(Detection(time, keyword.text, score, start, end))
            elif self._near_misses and score >= NEAR * keyword.threshold:
                events.append(NearMiss(time, keyword.text, score, start, end, reason))
        return events


def targets(keywords: Sequence[Keyword], card: ModelCard) -> tuple[Target, ...]:
    """Give keywords without a threshold of their own that of the card."""
    return tuple(
        Target(text, card.threshold_of(text) if threshold is None else threshold)
        for text, threshold, _ in keywords
    )


def spellings(alphabet: Alphabet, keywords: Sequence[Keyword]) -> list[list[int]]:
    """Return the labels of keywords, without separators. Raises DecodeError if there are none."""
    spelt = (alphabet.must_spell(keyword.text, "keyword") for keyword in keywords)
    return [[label for label in labels if label != alphabet.separator] for labels in spelt]
