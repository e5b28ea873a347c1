"""What happens inside a trained encoder during a recording, and how far back its output reaches."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from librosa import mel_frequencies
from torch import Tensor, nn
from torch.nn import functional

from asr.training.checkpoint import best_checkpoint, load_checkpoint, rebuild
from asr.training.network.acoustic import AcousticModel
from asr.training.network.cells.cell import Cell, State
from asr.training.network.encoders import Encoder
from features.audio import read_audio
from features.errors import EarshotError

SECONDS = 8.0  # of a recording; more of it is too fine for a picture
OUTPUTS_AT_ONCE = 32  # numbers of a frame whose gradients are found together


class ExplainError(EarshotError, ValueError):
    """There is nothing to draw."""


@dataclass(frozen=True)
class Activity:
    """The forward direction of a layer over a recording: arrays [encoder frames, hidden], by name.

    gates in 0..1; states of the cell, `hidden` first.
    """

    gates: dict[str, np.ndarray]
    states: dict[str, np.ndarray]


@dataclass(frozen=True)
class Explanation:
    """All that `asr explain` draws of one model.

    spectrogram: [feature frames, mel bands] in dB; bands: their centres in Hz; frame, hop: seconds
    between encoder frames, and between feature frames; gradients: see `gradient_norms`.
    """

    name: str
    kind: str
    spectrogram: np.ndarray
    bands: np.ndarray
    layers: list[Activity]
    gradients: np.ndarray
    frame: float
    hop: float


def look_inside(run: Path, recording: Path) -> Explanation:
    """Run the best weights of a training over the first SECONDS of a recording.

    Raises EarshotError.
    """
    checkpoint = best_checkpoint(run)
    config, _, model = rebuild(load_checkpoint(checkpoint), checkpoint)
    mfcc = config.model.mfcc
    waveform = read_audio(recording, mfcc.sample_rate)[: round(SECONDS * mfcc.sample_rate)]
    if len(waveform) < mfcc.window_length:
        raise ExplainError(
            f"{recording}: is shorter than one window of {mfcc.window_length} samples; name a "
            "recording with words in it"
        )
    pcm = torch.from_numpy(waveform).unsqueeze(0)
    count = -(-len(waveform) // model.frame_length)
    with torch.no_grad():
        frames = encoder_frames(model, pcm)
        layers = activities(model.encoder, frames, count)
        spectrogram = mel_spectrogram(model, pcm)
    return Explanation(
        name=config.name,
        kind=config.model.encoder.kind,
        spectrogram=spectrogram,
        bands=mel_frequencies(mfcc.n_mels + 2, fmin=mfcc.f_min, fmax=mfcc.f_max, htk=True)[1:-1],
        layers=layers,
        gradients=gradient_norms(model.encoder, frames, count - 1),
        frame=model.frame_length / mfcc.sample_rate,
        hop=mfcc.hop_length / mfcc.sample_rate,
    )


def mel_spectrogram(model: AcousticModel, pcm: Tensor) -> np.ndarray:
    """[1, samples] -> [feature frames, mel bands] in dB, as much of it as the coefficients hold."""
    cepstra = model.mfcc(pcm)[0, :, : model.config.mfcc.n_mfcc]
    return (cepstra @ model.mfcc.dct.T).numpy()


def encoder_frames(model: AcousticModel, pcm: Tensor) -> Tensor:
    """[1, samples] -> inputs of the encoder, [1, frames, width], with the silence after the last
    sample that a stream needs to give all of its frames."""
    samples, unit = pcm.shape[1], model.block_length or model.frame_length
    end = -(-(samples + model.look_ahead) // unit) * unit
    return model.stem(model.features(functional.pad(pcm, (model.context, end - samples))))


def encode(encoder: Encoder, frames: Tensor) -> Tensor:
    """[batch, frames, inputs] -> [batch, frames - look_ahead, width], not delayed."""
    if not encoder.latency.block:
        return encoder.whole(frames, None)
    output, _ = encoder.blocks(frames, encoder.initial_state(frames.shape[0], frames))
    return output[:, encoder.look_ahead :]


class Witness(nn.Module):
    """Stands in for a `Cell` and keeps what it is given."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell
        self.states, self.zero_state = cell.states, cell.zero_state

    def run(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.run`."""
        self.given = frames, state
        return self.cell.run(frames, state)


def activities(encoder: Encoder, frames: Tensor, count: int) -> list[Activity]:
    """The forward cell of each layer over the first `count` of frames [1, frames, inputs]."""
    witnesses = []
    for layer in encoder.layers:
        witnesses.append(Witness(layer.forwards))
        layer.forwards = witnesses[-1]
    encode(encoder, frames)
    found = []
    for k, (layer, witness) in enumerate(zip(encoder.layers, witnesses, strict=True)):
        layer.forwards = witness.cell
        numbers = trace(witness.cell, *witness.given)
        delay = (k + 1) * encoder.latency.look_ahead
        cut = {name: rows[0, delay : delay + count].numpy() for name, rows in numbers.items()}
        states = {name: cut.pop(name) for name in witness.cell.states}
        found.append(Activity(cut, states))
    return found


def trace(cell: Cell, frames: Tensor, state: State) -> State:
    """[batch, frames, inputs] -> all that `Cell.step` returns for each, [batch, frames, hidden]."""
    steps = []
    for frame in frames.unbind(1):
        state = cell.step(frame, state)
        steps.append(state)
    return {name: torch.stack([step[name] for step in steps], dim=1) for name in state}


def gradient_norms(encoder: Encoder, frames: Tensor, late: int) -> np.ndarray:
    """How much each frame matters to a later one: the norm of its gradient, by distance in time.

    frames: [1, frames, inputs]. Returns float64 (late + 1,): at k the Frobenius norm of the
    Jacobian of output frame `late` by input frame `late - k`, which in a plain recurrence vanishes
    or explodes with k (Bengio et al., 1994).
    """
    squares = torch.zeros(late + 1, dtype=torch.float64)
    for outputs in torch.arange(encoder.config.width).split(OUTPUTS_AT_ONCE):
        rows = frames.detach().expand(len(outputs), -1, -1).clone().requires_grad_()
        wanted = encode(encoder, rows)[torch.arange(len(outputs)), late, outputs].sum()
        (gradient,) = torch.autograd.grad(wanted, rows)
        squares += gradient[:, : late + 1].double().square().sum(dim=(0, 2))
    return squares.sqrt().flip(0).numpy()
