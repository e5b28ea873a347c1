"""What the gate of `asr listen --gate` changes: recordings with noise between them, recognised as
one long sound, with the gate and without.

    python -m asr.studies.gate MODEL RECORDINGS [COUNT [LEVEL]]

RECORDINGS: as for `asr evaluate`, of which COUNT (60) are drawn; LEVEL: of the noise in dB of full
scale (-55), all through the sound. Between two recordings are 8 to 14 s.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jiwer
import numpy as np

from asr.evaluation.trials import Trial, read_trials
from asr.events import Utterance
from asr.gate import Gated
from asr.model import Model, load
from asr.runtime.scorers import STEP_SECONDS
from asr.stream import Stream

COUNT, LEVEL = 60, -55.0
PAUSE_SECONDS = (8.0, 14.0)
END_SECONDS = 4.0
SEED = 5


class Placed(NamedTuple):
    """A long sound, float32 (samples,), and where in it each recording lies, in seconds."""

    audio: np.ndarray
    spans: tuple[tuple[float, float], ...]


def placed(trials: Sequence[Trial], rate: int, level: float, chance: np.random.Generator) -> Placed:
    """Lay recordings behind one another, with pauses, in noise of a level in dB of full scale."""
    parts: list[np.ndarray] = []
    spans: list[tuple[float, float]] = []
    end = 0
    for trial in trials:
        pause = int(chance.uniform(*PAUSE_SECONDS) * rate)
        sound = trial.waveform()
        parts += [np.zeros(pause, np.float32), sound]
        spans.append(((end + pause) / rate, (end + pause + len(sound)) / rate))
        end += pause + len(sound)
    parts.append(np.zeros(round(END_SECONDS * rate), np.float32))
    audio = np.concatenate(parts)
    noise = chance.normal(0.0, 10 ** (level / 20), len(audio))
    return Placed(audio + noise.astype(np.float32), tuple(spans))


def texts(stream: Stream | Gated, sound: Placed) -> list[str]:
    """Return what is recognised of each recording: the words that are nearest to it."""
    found: list[list[str]] = [[] for _ in sound.spans]
    starts, ends = np.array(sound.spans).T
    block = round(STEP_SECONDS * stream.card.sample_rate)
    events = [
        e
        for at in range(0, len(sound.audio), block)
        for e in stream.push(sound.audio[at : at + block])
    ]
    for event in events + stream.finish():
        if isinstance(event, Utterance):
            for word in event.words:
                middle = (word.start + word.end) / 2
                distances = np.maximum(starts - middle, middle - ends)
                found[int(distances.argmin())].append(word.text)
    return [" ".join(words) for words in found]


def right_words(references: Sequence[str], hypotheses: Sequence[str]) -> list[int]:
    """Return how many words of each reference are recognised."""
    pairs = zip(references, hypotheses, strict=True)
    return [jiwer.process_words(said, text).hits for said, text in pairs]


def compare(model: Model, trials: Sequence[Trial], count: int, level: float) -> str:
    """Return what a gate changes in so many of the trials, as lines of text."""
    chance = np.random.default_rng(SEED)
    drawn = chance.choice(len(trials), min(count, len(trials)), replace=False)
    trials = [trials[k] for k in drawn]
    sound = placed(trials, model.card.sample_rate, level, chance)
    references = [trial.reference for trial in trials]
    gated = Gated(Stream(model))
    alone, behind = texts(Stream(model), sound), texts(gated, sound)
    before, after = right_words(references, alone), right_words(references, behind)
    changes = np.sign(np.subtract(after, before))
    return "\n".join(
        (
            f"{len(trials)} recordings, {sum(len(said.split()) for said in references)} words; "
            f"noise at {level:g} dB",
            f"the gate kept {gated.skipped / gated.samples:.0%} of the sound from the model",
            f"right words: {sum(after)} with the gate, {sum(before)} without",
            f"recordings with more right words: {(changes > 0).sum()}, with fewer: "
            f"{(changes < 0).sum()}, with the same: {(changes == 0).sum()}",
            f"recordings without a word: {sum(not text for text in behind)} with the gate, "
            f"{sum(not text for text in alone)} without",
        )
    )


def main(arguments: Sequence[str]) -> None:
    """Print what a gate changes."""
    name, data, *numbers = arguments
    count, level = (*map(float, numbers), *(COUNT, LEVEL)[len(numbers) :])
    model = load(name)
    print(compare(model, read_trials(model, Path(data)).trials, round(count), level))


if __name__ == "__main__":
    main(sys.argv[1:])
