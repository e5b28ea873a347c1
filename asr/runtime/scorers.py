"""Audio to scores: the ways to feed sound of any length, cut in any way, to each kind of model.

However the audio is cut, the model runs on the same samples in the same order, so the scores are
the same to the bit.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from asr.card import ModelCard
from asr.runtime.seam import find_seam
from asr.runtime.session import State
from features.activity import quietest

STEP_SECONDS = 4.0  # the most that a streaming model is given at once; more is no faster
WHOLE_SECONDS = 60.0  # the longest audio that a whole-utterance ctc model is given at once
OVERLAP_SECONDS = 1.0  # how far its runs reach over a cut
ROWS = 32  # the most streams that share a step; more is no faster
SHORTEST_SECONDS = 0.1  # shorter audio is zero-padded to this before it is scored
NOTHING = np.zeros(0, np.float32)


class Scores(NamedTuple):
    """One run of a model: log_probs (frames, labels) of the audio up to sample `end`.

    silence: samples of silence after the end of the audio that were scored besides.
    phonemes: log_probs (frames, phonemes) of the same frames, of a model that reads them.
    """

    end: int
    log_probs: np.ndarray
    silence: int = 0
    phonemes: np.ndarray | None = None

    @classmethod
    def of(cls, card: ModelCard, end: int, rows: np.ndarray, silence: int = 0) -> "Scores":
        """The scores in the rows that a step gives, (frames, `card.width`)."""
        letters, phonemes = np.split(rows, [len(card.labels)], axis=1)
        return cls(end, letters, silence, phonemes if card.phonemes else None)


class Network(Protocol):
    """What a scorer runs: a `Model`."""

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        ...

    @property
    def takes_many_blocks(self) -> bool:
        """Whether a step takes several blocks at once."""
        ...

    def initial_state(self) -> State:
        """The state before any audio."""
        ...

    def step(self, pcm: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Run pcm (batch, samples); return log_probs (batch, frames, `card.width`), the next
        state."""
        ...


class Scorer(Protocol):
    """Audio to scores. Both methods do their work at once: what they return may be ignored."""

    def push(self, samples: np.ndarray) -> list[Scores]:
        """Take float32 (n,), any n >= 0, and return the runs that they complete."""
        ...

    def finish(self, samples: np.ndarray = NOTHING) -> list[Scores]:
        """Take the last samples; return what they and the end of the audio complete."""
        ...


def scorer_for(model: Network, closing: int = 0) -> Scorer:
    """Return the way to feed audio to this kind of model.

    closing: how many samples of silence a streaming classifier is given after the end, for a
    trigger that smooths its scores (`ModelCard.closing_silence`).
    """
    if model.card.streaming:
        return BlockScorer(model, closing)
    return WindowScorer(model) if model.card.task == "classify" else WholeScorer(model)


def score(model: Network, audio: np.ndarray) -> Scores:
    """Return the scores of whole audio, float32 (samples,), as one run.

    The audio goes through in the same steps as in a stream, so the rows are what a stream decodes:
    ceil(samples / hop_length) of them for ctc, one for each block or window for classify.
    """
    runs, card = scorer_for(model).finish(audio), model.card
    rows = [run.log_probs for run in runs]
    log_probs = np.concatenate([np.zeros((0, len(card.labels)), np.float32), *rows])
    if not card.phonemes:
        return Scores(len(audio), log_probs)
    sounds = [run.phonemes for run in runs if run.phonemes is not None]
    phonemes = np.concatenate([np.zeros((0, len(card.phonemes)), np.float32), *sounds])
    return Scores(len(audio), log_probs, phonemes=phonemes)


class BlockScorer:
    """Steps a streaming model block by block, carrying its state.

    Whole blocks that are there at once go through the model in one step, up to STEP_SECONDS of
    them; runs are returned block by block all the same. The first look_ahead / hop_length frames of
    a ctc model describe the silence before the audio and are dropped; ceil(samples / hop_length)
    frames come out in all.
    """

    def __init__(self, model: Network, closing: int = 0) -> None:
        card = model.card
        if card.block_length is None:
            raise ValueError(f"model {card.name} does not stream")
        self.model = model
        self._closing = closing
        self._framewise = card.task == "ctc"
        self._hop_length = card.hop_length
        self._look_ahead = card.look_ahead
        self._block_length = card.block_length
        seconds = STEP_SECONDS if model.takes_many_blocks else 0.0
        blocks = max(1, math.ceil(seconds * card.sample_rate / card.block_length))
        self._step_length = blocks * card.block_length
        self._waiting = NOTHING
        self._samples = 0
        self._stepped = 0
        self._last: int | None = None  # where all the sound ends, closing silence included
        self.state = model.initial_state()
        self.due: deque[np.ndarray] = deque()  # float32 (blocks * block_length,) of coming steps
        # Frames of real audio so far; below zero while the look-ahead fills.
        self._frames = -(card.look_ahead // card.hop_length)

    def push(self, samples: np.ndarray) -> list[Scores]:
        self.take(samples)
        return _run_all([self])[0]

    def finish(self, samples: np.ndarray = NOTHING) -> list[Scores]:
        self._samples += len(samples)
        if not self._samples:
            return []
        self._last = self._samples + self._closing
        missing = self._last + self._look_ahead - self._stepped
        pcm = np.zeros(math.ceil(missing / self._block_length) * self._block_length, np.float32)
        pcm[: len(self._waiting) + len(samples)] = np.concatenate([self._waiting, samples])
        self._plan(pcm)
        return _run_all([self])[0]

    def take(self, samples: np.ndarray) -> None:
        """Take samples as `push` does, and leave the steps that they make due to `_run_all`."""
        self._samples += len(samples)
        present = np.concatenate([self._waiting, samples])
        whole = len(present) - len(present) % self._block_length
        self._waiting = present[whole:].copy()
        self._plan(present[:whole])

    def _plan(self, pcm: np.ndarray) -> None:
        """Cut whole blocks into the steps that are due."""
        starts = range(0, len(pcm), self._step_length)
        self.due += (pcm[start : start + self._step_length] for start in starts)

    def stepped(self, log_probs: np.ndarray, state: State) -> list[Scores]:
        """Take what a step of the next that was due gave, (frames, width) and the next state."""
        self.state = state
        blocks, width = len(self.due.popleft()) // self._block_length, log_probs.shape[1]
        last = self._last
        wanted = math.inf if last is None else math.ceil(last / self._hop_length)
        runs: list[Scores] = []
        for frames in log_probs.reshape(blocks, -1, width):
            self._stepped += self._block_length
            if self._framewise:
                first, stop = max(0, -self._frames), min(wanted - self._frames, len(frames))
                self._frames += len(frames)
                frames = frames[first : int(stop)]
            if len(frames):
                reached = min(self._stepped, self._samples if last is None else last)
                end = min(reached, self._samples)
                runs.append(Scores.of(self.model.card, end, frames, reached - end))
        return runs


def push_together(scorers: Sequence[Scorer], blocks: Sequence[np.ndarray]) -> list[list[Scores]]:
    """Push a block to each of the scorers of one model; return the runs of each.

    They are those of `push`, to the bit: streaming models compute the steps that are due as rows
    of one batch.
    """
    streaming = [scorer for scorer in scorers if isinstance(scorer, BlockScorer)]
    if len(streaming) < len(scorers):
        return [scorer.push(block) for scorer, block in zip(scorers, blocks, strict=True)]
    for scorer, block in zip(streaming, blocks, strict=True):
        scorer.take(block)
    return _run_all(streaming)


def _run_all(scorers: Sequence[BlockScorer]) -> list[list[Scores]]:
    """Run the steps that are due, of equal lengths together; return the runs of each scorer."""
    runs: list[list[Scores]] = [[] for _ in scorers]
    while waiting := [number for number, scorer in enumerate(scorers) if scorer.due]:
        for rows in _batches(waiting, [len(scorers[number].due[0]) for number in waiting]):
            chosen = [scorers[number] for number in rows]
            pcm = np.stack([scorer.due[0] for scorer in chosen])
            state = {
                name: np.concatenate([scorer.state[name] for scorer in chosen])
                for name in chosen[0].state
            }
            log_probs, following = chosen[0].model.step(pcm, state)
            for row, number in enumerate(rows):
                # A copy: a view would keep the rows of all others in memory.
                own = {name: array[row : row + 1].copy() for name, array in following.items()}
                runs[number] += scorers[number].stepped(log_probs[row].copy(), own)
    return runs


def _batches(numbers: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group numbers by their lengths, up to ROWS of them."""
    ordered = sorted(zip(lengths, numbers, strict=True))
    for _, group in itertools.groupby(ordered, key=lambda pair: pair[0]):
        alike = [number for _, number in group]
        yield from (alike[start : start + ROWS] for start in range(0, len(alike), ROWS))


class WindowScorer:
    """Slides a window over the audio for a whole-utterance classifier, every hop_length samples.

    Audio that ends between two windows is scored once more up to its end; audio shorter than the
    window is scored as it is.
    """

    def __init__(self, model: Network) -> None:
        card = model.card
        if card.window_length is None:
            raise ValueError(f"model {card.name} has no window")
        self._model = model
        self._hop_length = card.hop_length
        self._shortest = round(SHORTEST_SECONDS * card.sample_rate)
        self._window = np.zeros((1, card.window_length), np.float32)
        self._missing = card.window_length
        self._samples = 0

    def push(self, samples: np.ndarray) -> list[Scores]:
        runs: list[Scores] = []
        while len(samples):
            piece, samples = np.split(samples, [self._missing])
            self._window[0, : -len(piece)] = self._window[0, len(piece) :]
            self._window[0, -len(piece) :] = piece
            self._samples += len(piece)
            self._missing -= len(piece)
            if not self._missing:
                runs.append(self._run(self._window))
                self._missing = self._hop_length
        return runs

    def finish(self, samples: np.ndarray = NOTHING) -> list[Scores]:
        runs = self.push(samples)
        length = self._window.shape[1]
        if 0 < self._samples < length:
            short = np.zeros((1, max(self._samples, self._shortest)), np.float32)
            short[0, : self._samples] = self._window[0, length - self._samples :]
            runs.append(self._run(short))
        elif self._samples and self._missing < self._hop_length:
            runs.append(self._run(self._window))
        return runs

    def _run(self, window: np.ndarray) -> Scores:
        log_probs, _ = self._model.step(window, {})
        return Scores(self._samples, log_probs[0])


class WholeScorer:
    """Keeps an utterance until it ends and scores it in one run; long audio takes several.

    Of audio beyond WHOLE_SECONDS the run is cut at the quietest place of the second half. Both
    runs reach OVERLAP_SECONDS over a cut and are joined where both are silent; ceil(samples /
    hop_length) frames come out in all.
    """

    def __init__(self, model: Network) -> None:
        card = model.card
        if card.blank is None:
            raise ValueError(f"model {card.name} is no ctc model")
        self._model = model
        self._blank = card.blank
        self._sample_rate = card.sample_rate
        self._hop_length = card.hop_length
        self._overlap = round(OVERLAP_SECONDS * card.sample_rate / card.hop_length)  # frames
        self._audio = np.zeros((1, round(WHOLE_SECONDS * card.sample_rate)), np.float32)
        self._filled = 0
        self._samples = 0
        # Frames around the last cut, as the run before it scored them.
        self._before = np.zeros((0, card.width), np.float32)

    def push(self, samples: np.ndarray) -> list[Scores]:
        runs: list[Scores] = []
        length = self._audio.shape[1]
        while len(samples):
            if self._filled == length:
                runs.append(self._cut())
            piece, samples = np.split(samples, [length - self._filled])
            self._audio[0, self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            self._samples += len(piece)
        return runs

    def finish(self, samples: np.ndarray = NOTHING) -> list[Scores]:
        runs = self.push(samples)
        if self._filled:
            runs.append(Scores.of(self._model.card, self._samples, self._score(self._filled)))
        return runs

    def _cut(self) -> Scores:
        """Score up to beyond a pause and keep what comes after the beginning of the overlap."""
        overlap = self._overlap * self._hop_length
        first, last = self._filled // 2, self._filled - overlap
        pause = first + quietest(self._audio[0, first:last], self._sample_rate)
        cut = pause - pause % self._hop_length
        frames, self._before = np.split(self._score(cut + overlap), [-2 * self._overlap])
        rest = self._audio[0, cut - overlap : self._filled].copy()
        self._filled = len(rest)
        self._audio[0, : self._filled] = rest
        return Scores.of(self._model.card, self._samples, frames)

    def _score(self, samples: int) -> np.ndarray:
        """Return the frames of the first `samples`, joined to those of the run before."""
        log_probs, _ = self._model.step(self._audio[:, :samples], {})
        frames, before = log_probs[0], self._before
        labels = len(self._model.card.labels)
        both = before[:, :labels], frames[: len(before), :labels]
        seam = find_seam(*both, self._blank) if len(before) else 0
        return np.concatenate([before[:seam], frames[seam:]])
