"""Proof that an exported file computes what was trained, or a refusal.

The reference is the training computation in torch on whole, padded batches; the candidate is the
runtime that the device uses, fed in blocks.
"""

import math

import numpy as np
import torch

from asr.decode.lm.neural import NeuralModel
from asr.model import Model
from asr.runtime.scorers import scorer_for
from asr.training.network.acoustic import AcousticModel
from asr.training.network.language import LanguageModel
from features.errors import EarshotError

TOLERANCE = 1e-4
LENGTHS = (1_600, 5_000, 15_999, 16_000, 16_001, 48_321)
BATCHES = (1, 3)
CUTS = (1, 160, 997, 16_000)
TEXT_LENGTH = 200
SEED = 11


class ParityError(EarshotError, ArithmeticError):
    """The exported graph and the trained model disagree."""


def check_parity(trained: AcousticModel, exported: Model) -> float:
    """Largest difference of log-probabilities over lengths, batch sizes and ways of cutting.

    Raises ParityError if it exceeds TOLERANCE.
    """
    rng = np.random.default_rng(SEED)
    worst = 0.0
    for samples in LENGTHS:
        audio = _babble(samples, rng)
        worst = max(worst, _single(trained, exported, audio))
        for batch in BATCHES:
            rows = np.stack([audio * gain for gain in np.linspace(1.0, 0.1, batch)])
            worst = max(worst, _batched(trained, exported, rows.astype(np.float32)))
    for cut in CUTS if exported.card.streaming else ():
        worst = max(worst, _cut(exported, _babble(20_011, rng), cut))
    return _agreed(exported.card.name, worst)


@torch.no_grad()
def check_language_parity(trained: LanguageModel, exported: NeuralModel) -> float:
    """Largest difference of log-probabilities over random texts, whole and label by label.

    Raises ParityError if it exceeds TOLERANCE.
    """
    rng = np.random.default_rng(SEED)
    worst = 0.0
    for batch in BATCHES:
        texts = rng.integers(len(exported.card.labels), size=(batch, TEXT_LENGTH))
        texts[:, 0] = 0
        expected = trained(torch.from_numpy(texts), None)[0].numpy()
        state = {name: array.numpy() for name, array in trained.initial_state(batch).items()}
        found = []
        for k in range(TEXT_LENGTH):
            log_probs, state = exported.step(texts[:, k : k + 1], state)
            found.append(log_probs)
        worst = max(worst, _difference(expected, np.stack(found, axis=1)))
    return _agreed(exported.card.name, worst)


def _agreed(name: str, worst: float) -> float:
    if not worst <= TOLERANCE:
        raise ParityError(
            f"{name}: log-probabilities of the exported graph differ from the trained model by "
            f"{worst:.2g}, more than {TOLERANCE:g}; nothing was exported, please report this model"
        )
    return worst


def _babble(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with a changing level and colour: neither silent nor stationary."""
    noise = rng.standard_normal(samples)
    level = np.interp(np.arange(samples), [0, samples / 3, samples], [0.001, 0.3, 0.02])
    smooth = np.convolve(noise, np.ones(8) / 8, mode="same")
    return (level * (noise + 3.0 * smooth)).clip(-1.0, 1.0).astype(np.float32)


@torch.no_grad()
def _reference(trained: AcousticModel, rows: np.ndarray) -> np.ndarray:
    lengths = torch.full((len(rows),), rows.shape[1])
    return trained(torch.from_numpy(rows), lengths, sounds=True)[0].numpy()


def _scored(exported: Model, audio: np.ndarray, cut: int) -> np.ndarray:
    """All scores of audio that is pushed in pieces of `cut` samples, (frames, `card.width`)."""
    scorer = scorer_for(exported)
    pieces = [audio[start : start + cut] for start in range(0, len(audio), cut)]
    runs = [run for piece in pieces for run in scorer.push(piece)] + scorer.finish()
    rows = (
        run.log_probs if run.phonemes is None else [run.log_probs, run.phonemes] for run in runs
    )
    return np.concatenate([np.hstack(row) if isinstance(row, list) else row for row in rows])


def _single(trained: AcousticModel, exported: Model, audio: np.ndarray) -> float:
    """One utterance through the whole runtime: windows, look-ahead, flushing and all."""
    card = exported.card
    if card.window_length is not None and not card.streaming:
        audio = audio[: card.window_length]
    expected, found = _reference(trained, audio[None])[0], _scored(exported, audio, len(audio))
    if card.task == "classify":
        found = found[-1:]
    return _difference(expected, found)


def _batched(trained: AcousticModel, exported: Model, rows: np.ndarray) -> float:
    """Several utterances at once, straight through the graph, padded as a stream would be."""
    expected = _reference(trained, rows)
    if not exported.card.streaming:
        found, _ = exported.step(rows, exported.initial_state(len(rows)))
        return _difference(expected, found)
    block, delay = trained.block_length, trained.look_ahead
    count = -(-(rows.shape[1] + delay) // block)
    padded = np.pad(rows, ((0, 0), (0, count * block - rows.shape[1])))
    state, outputs = exported.initial_state(len(rows)), []
    for k in range(count):
        log_probs, state = exported.step(padded[:, k * block : (k + 1) * block], state)
        outputs.append(log_probs)
    if exported.card.task == "classify":
        return _difference(expected, outputs[-1])
    first = delay // trained.hop_length
    return _difference(expected, np.concatenate(outputs, axis=1)[:, first:][:, : expected.shape[1]])


def _cut(exported: Model, audio: np.ndarray, cut: int) -> float:
    """Pushed in pieces of `cut` samples, against the whole at once."""
    return _difference(_scored(exported, audio, len(audio)), _scored(exported, audio, cut))


def _difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Infinite if the shapes differ or something is not a number."""
    if expected.shape != found.shape:
        return math.inf
    worst = float(np.abs(expected - found).max())
    return math.inf if math.isnan(worst) else worst
