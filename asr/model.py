"""A model is one ONNX file: PCM and state in, log-probabilities and the next state out."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors  # pyright: ignore

from asr.card import CardError, ModelCard
from asr.events import Detection, NearMiss
from features.errors import EarshotError

if TYPE_CHECKING:
    from asr.decode.keywords.typed import SpotOptions
    from asr.decode.options import DecodeOptions
    from asr.recognise import Transcript
    from asr.stream import Stream

BUNDLED = Path(__file__).parent / "models"
PCM = "pcm"
LOG_PROBS = "log_probs"
NEXT = "next_"

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


def bundled_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.onnx"))


def load(model: str | os.PathLike[str]) -> "Model":
    """Open a bundled model by its name, or any model by the path of its .onnx file.

    Raises ModelError if there is no such model, CardError if its card cannot be trusted.
    """
    return Model(model_path(model))


def model_path(model: str | os.PathLike[str]) -> Path:
    """Return the file of a bundled model, or `model` if it is one. Raises ModelError."""
    if model in bundled_models():
        return BUNDLED / f"{model}.onnx"
    path = Path(model)
    if not path.is_file():
        raise ModelError(
            f"{path}: no such model; give the path of an .onnx file or a bundled name "
            f"({', '.join(bundled_models()) or 'none is installed'})"
        )
    return path


class Model:
    """One InferenceSession and the card that came with it. Use `asr.load` to get one.

    options: how the session runs, `session_options()` if not given.
    """

    def __init__(self, path: Path, options: ort.SessionOptions | None = None) -> None:
        self.path = path
        self._session = open_session(path, options)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.card = ModelCard.from_metadata(metadata, str(path))
        for mismatch in _mismatches(self._session, self.card):
            raise CardError(f"{path}: its graph and its card differ ({mismatch}); export it again")
        self._states = {node.name: tuple(node.shape[1:]) for node in self._session.get_inputs()[1:]}
        length = _fixed(self._session.get_inputs()[0].shape[1])
        self.takes_many_blocks = self.card.streaming and length is None
        self._outputs = [LOG_PROBS, *(NEXT + name for name in self._states)]

    def initial_state(self, batch: int = 1) -> State:
        """Return the state of a stream that has heard nothing: zeros, (batch, ...) each."""
        return {name: np.zeros((batch, *shape), "f4") for name, shape in self._states.items()}

    def step(self, pcm: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Run the graph once.

        pcm: float32 (batch, samples); if the model streams, samples is `card.block_length`, or a
        multiple of it if `takes_many_blocks`.
        state: what `initial_state` or the step before returned; it is not changed.
        Returns log_probs, float32 (batch, frames, labels), and the next state.
        Raises ModelError if shapes or types are wrong, or if the state is that of another model.
        """
        self._check(pcm, state)
        try:
            arrays: Any = self._session.run(self._outputs, {PCM: pcm, **state})
        except (*UNREADABLE, ValueError, RuntimeError) as error:
            raise ModelError(f"{self.path}: the step failed ({_reason(error)})") from None
        return arrays[0], dict(zip(self._states, arrays[1:], strict=True))

    def _check(self, pcm: np.ndarray, state: State) -> None:
        """Raise ModelError if this is no input of a step, with what would be one."""
        block = self.card.block_length
        if pcm.ndim != 2:
            raise ModelError(f"{self.path}: a step takes pcm (batch, samples), not {pcm.shape}")
        if block is not None and (pcm.shape[1] % block or not pcm.size):
            raise ModelError(
                f"{self.path}: a step takes a multiple of {block} samples, not {pcm.shape[1]}"
            )
        shapes = {name: array.shape for name, array in state.items()}
        fitting = {name: (len(pcm), *shape) for name, shape in self._states.items()}
        if shapes != fitting:
            raise ModelError(
                f"{self.path}: the state is that of another model or batch ({_listed(shapes)}); "
                f"this step takes {_listed(fitting)}, as initial_state({len(pcm)}) makes it"
            )

    def log_probs(self, audio: np.ndarray) -> np.ndarray:
        """Return the scores of whole audio, float32 (samples,) -> (frames, labels).

        The audio goes through in the same steps as in a stream, so the rows are what a stream
        decodes: ceil(samples / hop_length) of them for ctc, one for each block or window for
        classify. Raises StreamError.
        """
        from asr.stream import checked, scorer

        rows = [run.log_probs for run in scorer(self).finish(checked(audio))]
        return np.concatenate([np.zeros((0, len(self.card.labels)), np.float32), *rows])

    def stream(self, options: "DecodeOptions | SpotOptions | None" = None) -> "Stream":
        """Return a new stream that has heard nothing. `options` say how a ctc model is decoded."""
        from asr.stream import Stream

        return Stream(self, options)

    def transcribe(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        sample_rate: int | None = None,
        options: "DecodeOptions | None" = None,
    ) -> "Transcript":
        """Write down a file, or an array at `sample_rate` (the model's own if not given).

        Raises ModelError if the model spots keywords, AudioError if the audio cannot be used.
        """
        from asr.recognise import transcribe

        return transcribe(self, source, sample_rate, options)

    def spot(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        sample_rate: int | None = None,
        options: "SpotOptions | None" = None,
    ) -> list[Detection | NearMiss]:
        """Find the keywords in a file, or in an array at `sample_rate` (the model's by default).

        options: which, for a model that transcribes. Raises ModelError if there are none for such
        a model or some for another, AudioError if the audio cannot be used.
        """
        from asr.recognise import spot

        return spot(self, source, sample_rate, options)


def session_options(threads: int = 1) -> ort.SessionOptions:
    """Return how a model runs: on one thread, a step being too small to share, unless told."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what matters is raised
    return options


def open_session(path: Path, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    """Open a graph; `session_options()` if no others are given. Raises ModelError."""
    try:
        options = options or session_options()
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except UNREADABLE as error:
        raise ModelError(
            f"{path}: cannot be opened as an ONNX model ({_reason(error)}); "
            "name a file that 'asr export' wrote"
        ) from None


def _reason(error: Exception) -> str:
    """Return what an onnxruntime error says, without its codes, as one line."""
    return str(error).strip().partition("\n")[0].split(" : ")[-1].rpartition("failed:")[2]


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"


def _fixed(size: int | str | None) -> int | None:
    """Return the size of a fixed axis, None for an open one."""
    return size if isinstance(size, int) else None


def _mismatches(session: ort.InferenceSession, card: ModelCard) -> Iterator[str]:
    """Say where the graph breaks the contract that its card promises."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if any(node.type != "tensor(float)" for node in (*inputs, *outputs)):
        yield "all inputs and outputs must be float32"
    expected = [LOG_PROBS, *(NEXT + node.name for node in inputs[1:])]
    names = [node.name for node in outputs]
    if not inputs or inputs[0].name != PCM or len(inputs[0].shape) != 2:
        yield "the first input must be pcm [batch, samples]"
    elif names != expected:
        yield f"outputs are {', '.join(names)} instead of {', '.join(expected)}"
    elif len(outputs[0].shape) != 3:
        yield "log_probs must be [batch, frames, labels]"
    elif outputs[0].shape[2] != len(card.labels):
        yield f"log_probs has {outputs[0].shape[2]} labels, the card {len(card.labels)}"
    elif card.streaming and len(inputs) == 1:
        yield "a streaming model keeps state, this one has none"
    elif card.streaming and _fixed(inputs[0].shape[1]) not in (None, card.block_length):
        yield f"pcm takes {inputs[0].shape[1]} samples, the card's block is {card.block_length}"
    elif not card.streaming and (len(inputs) > 1 or _fixed(inputs[0].shape[1])):
        yield "a whole-utterance model takes any number of samples and keeps no state"
    elif card.window_length is not None and card.hop_length > card.window_length:
        yield "hop_length must not be longer than window_length"
    elif card.task == "ctc" and card.look_ahead % card.hop_length:
        yield "look_ahead must be a multiple of hop_length"
    for state, following in zip(inputs[1:], outputs[1:], strict=False):
        if not all(isinstance(size, int) for size in state.shape[1:]):
            yield f"state {state.name} must have a fixed shape, it has {state.shape}"
        elif state.shape[1:] != following.shape[1:]:
            yield f"state {state.name} is {state.shape}, then {following.shape}"
