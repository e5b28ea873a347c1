"""What a CTC search should find, by its definition: every path of a small utterance, by text."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from asr.card import ENDPOINT
from asr.decode.alphabet import Alphabet
from asr.decode.beam import BeamDecoder
from asr.decode.lm.fusion import Fusion
from asr.decode.lm.language_model import Weights
from asr.decode.lm.ngrams import END, NgramModel
from asr.events import Event, Partial, Utterance
from tests.support.decoding import of_speech, scored
from tests.support.language_models import model_of
from tests.support.tiny_models import HOP, SAMPLE_RATE, WORDS, card

SPELLING = Alphabet.of(card("ctc", ("<blank>", " ", "a", "b")))
NAMING = Alphabet.of(card("ctc", WORDS))
EVERYTHING = 10_000
PAUSE = round(ENDPOINT.trailing_silence * SAMPLE_RATE / HOP)
WEIGHTS = Weights(alpha=0.7, beta=0.4, oov=-3.0)

Score = Callable[[str], float]


def scores_of(seed: int, frames: int, labels: int = 4, sharpness: float = 2.0) -> np.ndarray:
    """Random log-probabilities, float32 (frames, labels).

    At the usual sharpness none is below LEAST_LOG_PROB, which the beam leaves out.
    """
    noise = np.random.default_rng(seed).normal(size=(frames, labels)).clip(-3.0, 3.0)
    logits = noise * sharpness
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def texts_by_definition(alphabet: Alphabet, log_probs: np.ndarray) -> dict[str, float]:
    """Text -> log of the summed probability of all paths that read it."""
    masses: dict[str, float] = defaultdict(lambda: -math.inf)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        read = [label for label, _ in itertools.groupby(path) if label != alphabet.blank]
        mass = sum(float(row[label]) for row, label in zip(log_probs, path, strict=True))
        text = alphabet.text(read)
        masses[text] = float(np.logaddexp(masses[text], mass))
    return masses


def ranked(masses: dict[str, float], score: Score = lambda text: 0.0) -> dict[str, float]:
    """The texts that a score allows, best first. To say nothing is allowed and adds nothing."""
    totals = {text: mass + (score(text) if text else 0.0) for text, mass in masses.items()}
    allowed = {text: total for text, total in totals.items() if total > -math.inf}
    return dict(sorted(allowed.items(), key=lambda entry: -entry[1]))


def decode(
    alphabet: Alphabet,
    log_probs: np.ndarray,
    fusion: Fusion | None = None,
    beam: int = EVERYTHING,
    cuts: Sequence[int] = (),
) -> list[Partial | Utterance]:
    decoder = BeamDecoder(alphabet, beam, fusion, n_best=EVERYTHING)
    events: list[Event] = []
    for part in np.split(log_probs, cuts):
        events += decoder.push(scored(part))
    return of_speech(events + decoder.finish())


def utterances(events: Sequence[Event]) -> list[Utterance]:
    return [event for event in events if isinstance(event, Utterance)]


def check_exact(
    alphabet: Alphabet,
    log_probs: np.ndarray,
    fusion: Fusion | None,
    score: Score,
    tolerance: float = 1e-6,
) -> None:
    expected = ranked(texts_by_definition(alphabet, log_probs), score)
    events = utterances(decode(alphabet, log_probs, fusion))
    best = next(iter(expected))
    assert [event.text for event in events] == ([best] if best else [])
    for event in events:
        found = {alternative.text: alternative.score for alternative in event.alternatives}
        assert found == pytest.approx(expected, abs=tolerance)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def word_model() -> NgramModel:
    """A bigram model with a few words; log-probabilities that need not sum to one."""
    table = {
        ("<s>",): (-99.0, -0.3),
        ("</s>",): (-1.1, 0.0),
        ("<unk>",): (-4.0, -0.2),
        ("a",): (-1.3, -0.5),
        ("ab",): (-1.9, -0.7),
        ("b",): (-2.4, 0.0),
        ("<s>", "ab"): (-0.4, 0.0),
        ("ab", "a"): (-0.2, 0.0),
        ("a", "</s>"): (-0.1, 0.0),
    }
    return model_of(table, "words.arpa")


def sentence_score(model: NgramModel, units: list[str], alpha: float) -> float:
    """alpha * log p of a sentence, by its definition."""
    total, context = 0.0, model.start
    for unit in [*units, END]:
        score, context = model.score(context, unit if model.knows(unit) else None)
        total += score
    return alpha * total


def word_score(model: NgramModel, words: list[str]) -> float:
    """What a model of words adds to a text: unknown words are spelled."""
    unknown = [word for word in words if not model.knows(word)]
    spelled = sum(model.lexicon.spelled(word) for word in unknown)
    total = sentence_score(model, words, WEIGHTS.alpha) + WEIGHTS.alpha * spelled
    return total + WEIGHTS.beta * len(words) + WEIGHTS.oov * len(unknown)


def spoken(seed: int, frames: int, clarity: float = 3.0) -> np.ndarray:
    """Blurred log-probabilities of random letters, with pauses that end utterances."""
    rng = np.random.default_rng(seed)
    labels: list[int] = []
    while len(labels) < frames:
        labels += [int(rng.integers(4))] * int(
            rng.choice([1, 2, 3, PAUSE + 5], p=[0.5, 0.3, 0.17, 0.03])
        )
    logits = clarity * np.eye(4)[labels[:frames]] + rng.normal(size=(frames, 4))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
