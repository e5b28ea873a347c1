"""Opening the graph of a model, and checking that it keeps the contract which its card promises."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors  # pyright: ignore

from asr.card import CardError, ModelCard
from asr.runtime.providers import CPU
from asr.runtime.weights import WeightsError, weights_sha256
from features.errors import EarshotError

PCM = "pcm"
LOG_PROBS = "log_probs"
NEXT = "next_"
PHONEMES = "phonemes"

State = dict[str, np.ndarray]

# onnxruntime's exceptions share no base class of their own.
UNREADABLE = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class ModelError(EarshotError, ValueError):
    """There is no such model, or it was asked for what it cannot do."""


def session_options(threads: int = 1) -> ort.SessionOptions:
    """Return how a model runs: on one thread by default, as a step is too small to share.

    Raises ModelError for less than one.
    """
    if threads < 1:
        raise ModelError(f"{threads} threads run nothing; give 1 or more")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what matters is raised
    return options


def open_session(
    path: Path, options: ort.SessionOptions | None = None, provider: str = CPU
) -> ort.InferenceSession:
    """Open a graph; `session_options()` if no others are given. Raises ModelError."""
    if provider not in (available := ort.get_available_providers()):
        raise ModelError(
            f"{provider}: is no provider of this onnxruntime; it has {', '.join(available)}"
        )
    try:
        options = options or session_options()
        return ort.InferenceSession(path, options, providers=[provider])
    except UNREADABLE as error:
        raise ModelError(
            f"{path}: cannot be opened as an ONNX model ({reason(error)}); "
            "name a file that 'asr export' wrote"
        ) from None


def reason(error: Exception) -> str:
    """Return what an onnxruntime error says, without its codes, as one line."""
    return str(error).strip().partition("\n")[0].split(" : ")[-1].rpartition("failed:")[2]


def check_contract(session: ort.InferenceSession, card: ModelCard, path: Path) -> None:
    """Raise CardError where the graph breaks the contract that its card promises."""
    for mismatch in _mismatches(session, card):
        raise CardError(f"{path}: its graph and its card differ ({mismatch}); export it again")


def check_weights(card: ModelCard, path: Path) -> None:
    """Raise CardError if the weights of a file are not those that its card was written for."""
    try:
        found = weights_sha256(path.read_bytes())
    except (OSError, WeightsError) as error:
        raise CardError(f"{path}: cannot be checked against its card ({error})") from None
    if found != card.weights_sha256:
        raise CardError(
            f"{path}: its weights are not those that its card is about (weights_sha256); the file "
            "was changed or damaged, so export or copy it again"
        )


def fixed_size(size: int | str | None) -> int | None:
    """Return the size of a fixed axis, None for an open one."""
    return size if isinstance(size, int) else None


def _mismatches(session: ort.InferenceSession, card: ModelCard) -> Iterator[str]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if any(node.type != "tensor(float)" for node in (*inputs, *outputs)):
        yield "all inputs and outputs must be float32"
    expected = [LOG_PROBS, *(NEXT + node.name for node in inputs[1:])]
    expected += [PHONEMES] if card.phonemes else []
    names = [node.name for node in outputs]
    if not inputs or inputs[0].name != PCM or len(inputs[0].shape) != 2:
        yield "the first input must be pcm [batch, samples]"
    elif names != expected:
        yield f"outputs are {', '.join(names)} instead of {', '.join(expected)}"
    elif len(outputs[0].shape) != 3:
        yield "log_probs must be [batch, frames, labels]"
    elif outputs[0].shape[2] != len(card.labels):
        yield f"log_probs has {outputs[0].shape[2]} labels, the card {len(card.labels)}"
    elif card.phonemes and outputs[-1].shape[1:] != [outputs[0].shape[1], len(card.phonemes)]:
        yield f"phonemes must be [batch, frames, {len(card.phonemes)}], as log_probs"
    elif card.streaming and len(inputs) == 1:
        yield "a streaming model keeps state, this one has none"
    elif card.streaming and fixed_size(inputs[0].shape[1]) not in (None, card.block_length):
        yield f"pcm takes {inputs[0].shape[1]} samples, the card's block is {card.block_length}"
    elif not card.streaming and (len(inputs) > 1 or fixed_size(inputs[0].shape[1])):
        yield "a whole-utterance model takes any number of samples and keeps no state"
    elif card.window_length is not None and card.hop_length > card.window_length:
        yield "hop_length must not be longer than window_length"
    elif card.task == "ctc" and card.look_ahead % card.hop_length:
        yield "look_ahead must be a multiple of hop_length"
    yield from _state_mismatches(inputs[1:], outputs[1:])


def _state_mismatches(states: Sequence[Any], following: Sequence[Any]) -> Iterator[str]:
    for state, next_state in zip(states, following, strict=False):
        if not all(isinstance(size, int) for size in state.shape[1:]):
            yield f"state {state.name} must have a fixed shape, it has {state.shape}"
        elif state.shape[1:] != next_state.shape[1:]:
            yield f"state {state.name} is {state.shape}, then {next_state.shape}"
