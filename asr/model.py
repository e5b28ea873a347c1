"""A model is one ONNX file: PCM and state in, log-probabilities and the next state out."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from asr.card import ModelCard
from asr.runtime.providers import CPU
from asr.runtime.samples import checked
from asr.runtime.scorers import Scores, score
from asr.runtime.session import (
    LOG_PROBS,
    NEXT,
    PCM,
    PHONEMES,
    UNREADABLE,
    ModelError,
    State,
    check_contract,
    check_weights,
    fixed_size,
    open_session,
    reason,
    session_options,
)

BUNDLED = Path(__file__).parent / "models"
LANGUAGE_MODEL = ".lm"  # the suffix of the compact language model that stands beside a model


def bundled_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.onnx"))


def load(model: str | os.PathLike[str], *, threads: int = 1, provider: str = CPU) -> "Model":
    """Open a bundled model by its name, or any model by the path of its .onnx file.

    threads: that share a step; a step is too small for more than one to help much. provider: what
    runs the graph, one of `onnxruntime.get_available_providers()`.
    Raises ModelError if there is no such model or provider, CardError if its card cannot be
    trusted.
    """
    return Model(model_path(model), session_options(threads), provider)


def model_path(model: str | os.PathLike[str]) -> Path:
    """Return the file of a bundled model, or `model` if it is one. Raises ModelError."""
    if str(model) in bundled_models():
        return BUNDLED / f"{model}.onnx"
    path = Path(model)
    if not path.is_file():
        raise ModelError(
            f"{path}: no such model; give the path of an .onnx file or a bundled name "
            f"({', '.join(bundled_models()) or 'none is installed'})"
        )
    return path


def language_model_of(model: Path) -> Path | None:
    """Return the language model that stands beside a model: english.lm beside english.onnx."""
    path = model.with_suffix(LANGUAGE_MODEL)
    return path if path.is_file() else None


class Model:
    """One InferenceSession and the card that came with it. Use `asr.load` to get one.

    options: how the session runs, `session_options()` if not given; provider: see `load`.
    """

    def __init__(
        self, path: Path, options: ort.SessionOptions | None = None, provider: str = CPU
    ) -> None:
        self.path = path
        self._provider = provider
        self._threads = options.intra_op_num_threads if options else 1
        self._session = open_session(path, options, provider)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.card = ModelCard.from_metadata(metadata, str(path))
        check_contract(self._session, self.card, path)
        check_weights(self.card, path)
        self._states = {node.name: tuple(node.shape[1:]) for node in self._session.get_inputs()[1:]}
        length = fixed_size(self._session.get_inputs()[0].shape[1])
        self.takes_many_blocks = self.card.streaming and length is None
        scores = [LOG_PROBS, PHONEMES] if self.card.phonemes else [LOG_PROBS]
        self._outputs = [*scores, *(NEXT + name for name in self._states)]

    @property
    def language_model(self) -> Path | None:
        """The language model that stands beside it, which transcribing uses; None without one."""
        return language_model_of(self.path)

    def __reduce__(self) -> tuple[Any, ...]:  # another process opens the file itself
        return _reopened, (self.path.resolve(), self._threads, self._provider)

    def initial_state(self, batch: int = 1) -> State:
        """Return the state of a stream before any audio: zeros, (batch, ...) each."""
        return {name: np.zeros((batch, *shape), "f4") for name, shape in self._states.items()}

    def step(self, pcm: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Run the graph once.

        pcm: float32 (batch, samples); if the model streams, samples is `card.block_length`, or a
        multiple of it if `takes_many_blocks`.
        state: what `initial_state` or the step before returned; it is not changed.
        Returns log_probs, float32 (batch, frames, `card.width`), and the next state.
        Raises ModelError if shapes or types are wrong, or if the state is that of another model.
        """
        self._check(pcm, state)
        try:
            arrays: Any = self._session.run(self._outputs, {PCM: pcm, **state})
        except (*UNREADABLE, ValueError, RuntimeError) as error:
            raise ModelError(f"{self.path}: the step failed ({reason(error)})") from None
        count = len(self._outputs) - len(self._states)
        scores = arrays[0] if count == 1 else np.concatenate(arrays[:count], axis=2)
        return scores, dict(zip(self._states, arrays[count:], strict=True))

    def _check(self, pcm: np.ndarray, state: State) -> None:
        """Raise ModelError if this is no input of a step, with what would be one."""
        block = self.card.block_length
        if pcm.ndim != 2 or pcm.dtype != np.float32:
            raise ModelError(
                f"{self.path}: a step takes pcm float32 (batch, samples), "
                f"not {pcm.dtype} {pcm.shape}"
            )
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

        ceil(samples / hop_length) rows for ctc, one for each block or window for classify: what a
        stream decodes. Raises StreamError.
        """
        return self.scores(audio).log_probs

    def scores(self, audio: np.ndarray) -> Scores:
        """As `log_probs`, with those of the phonemes, if the model reads them."""
        return score(self, checked(audio))


def _reopened(path: Path, threads: int, provider: str) -> Model:
    return Model(path, session_options(threads), provider)


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
