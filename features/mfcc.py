"""MFCC features as a torch module: training uses it, export writes it into the model file.

Every frame depends on its own 25 ms of samples and on nothing else: no centre padding, no clamp
against the loudest frame of the clip. That is what lets the same numbers come out of a stream.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.errors import EarshotError
from features.torchaudio_import import import_torchaudio
from features.windows import windows

DELTA_REACH = 2  # frames to either side that one delta order looks at


class MfccConfigError(EarshotError, ValueError):
    """A feature setting that cannot work."""


@dataclass(frozen=True, kw_only=True)
class MfccConfig:
    """Settings of the front end. Lengths in samples, frequencies in Hz, `floor` in power.

    `floor` bounds the mel power from below; 1e-7 is about what the rounding noise of 16-bit PCM
    gives, so digital silence looks like the quietest real recording.
    `deltas` is the number of delta orders appended (0, 1 or 2).
    """

    sample_rate: int = 16_000
    window_length: int = 400
    hop_length: int = 160
    n_fft: int = 512
    n_mels: int = 40
    n_mfcc: int = 40
    f_min: float = 20.0
    f_max: float = 7_600.0
    floor: float = 1e-7
    deltas: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.hop_length <= self.window_length <= self.n_fft:
            raise MfccConfigError(
                f"mfcc: need 0 < hop_length <= window_length <= n_fft, "
                f"got {self.hop_length}, {self.window_length}, {self.n_fft}"
            )
        if self.n_fft % 4:  # the exported graph makes sines of cosines, a quarter period away
            raise MfccConfigError(f"mfcc: n_fft {self.n_fft} must be a multiple of 4")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise MfccConfigError(
                f"mfcc: need 0 <= f_min < f_max <= {self.sample_rate / 2:g} Hz (half the sample "
                f"rate), got {self.f_min:g} and {self.f_max:g}"
            )
        if not 0 < self.n_mfcc <= self.n_mels:
            raise MfccConfigError(f"mfcc: n_mfcc {self.n_mfcc} must be in 1..n_mels {self.n_mels}")
        if self.floor <= 0:
            raise MfccConfigError(f"mfcc: floor {self.floor} must be above zero")
        if self.deltas not in (0, 1, 2):
            raise MfccConfigError(f"mfcc: deltas {self.deltas} must be 0, 1 or 2")

    @property
    def coefficients(self) -> int:
        """Numbers per frame, deltas included."""
        return self.n_mfcc * (1 + self.deltas)

    @property
    def context_length(self) -> int:
        """Samples that the first frame needs (its window, and its neighbours' for deltas)."""
        return self.window_length + 2 * DELTA_REACH * self.deltas * self.hop_length

    def frames(self, samples: int) -> int:
        """Number of frames that `samples` give."""
        return max(0, 1 + (samples - self.context_length) // self.hop_length)


class Mfcc(nn.Module):
    """Waveforms to mel-frequency cepstral coefficients (Davis & Mermelstein, 1980).

    frame -> Hann window -> |DFT|^2 -> mel filters -> 10 log10 -> orthonormal DCT-II [-> deltas].
    Around the middle of the window a cosine is even and a sine odd, and so is the Hann window even:
    samples that mirror each other are added and subtracted first, which halves the products of the
    DFT. Matrix products export to ONNX as they stand.

    bins: those of the DFT that a mel filter weighs; the others are not computed.
    """

    cosines: Tensor
    sines: Tensor
    mel: Tensor
    dct: Tensor
    deltas: Tensor

    def __init__(self, config: MfccConfig) -> None:
        super().__init__()
        self.config = config
        constants = import_torchaudio().functional
        mel = constants.melscale_fbanks(
            n_freqs=config.n_fft // 2 + 1,
            f_min=config.f_min,
            f_max=config.f_max,
            n_mels=config.n_mels,
            sample_rate=config.sample_rate,
        )
        weighed = mel.any(dim=1).nonzero().flatten()
        self.bins = range(int(weighed[0]), int(weighed[-1]) + 1)
        self.register_buffer("mel", mel[self.bins.start : self.bins.stop], persistent=False)
        cosines, sines = _half_dft(config, self.bins)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        dct = constants.create_dct(config.n_mfcc, config.n_mels, norm="ortho")
        self.register_buffer("dct", dct, persistent=False)
        self.register_buffer("deltas", _delta_filters(config.deltas), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """[batch, samples] in [-1, 1] -> [batch, frames, coefficients].

        `frames` is `config.frames(samples)`; a waveform shorter than one window gives no frame.
        """
        if waveforms.shape[-1] < self.config.context_length:
            return waveforms.new_zeros(waveforms.shape[0], 0, self.config.coefficients)
        half = self.config.window_length // 2
        frames = windows(waveforms, self.config.window_length, self.config.hop_length)
        early = frames[..., 1 : half + 1]  # the window is zero at sample 0
        late = frames[..., self.config.window_length - half :].flip(-1)
        real, imaginary = (early + late) @ self.cosines, (early - late) @ self.sines
        # Products, since the exported power of two takes longer.
        power = real * real + imaginary * imaginary
        decibels = 10.0 * torch.log10((power @ self.mel).clamp(min=self.config.floor))
        cepstra = decibels @ self.dct
        return self._with_deltas(cepstra) if self.config.deltas else cepstra

    def _with_deltas(self, cepstra: Tensor) -> Tensor:
        """Filter every coefficient over time; the frames at the ends are used up by that."""
        count = self.config.n_mfcc
        frames = cepstra.transpose(1, 2)
        orders = [
            functional.conv1d(frames, taps.expand(count, 1, -1), groups=count)
            for taps in self.deltas
        ]
        return torch.cat(orders, dim=1).transpose(1, 2)


def _delta_filters(orders: int) -> Tensor:
    """Filters over frames [1 + orders, width]: the frame itself, its slope, the slope's slope.

    A slope is the regression over 2 * DELTA_REACH + 1 frames (Furui, 1986).
    """
    reach = np.arange(-DELTA_REACH, DELTA_REACH + 1)
    filters = [np.ones(1)]
    for _ in range(orders):
        filters.append(np.convolve(filters[-1], reach / np.sum(reach**2)))
    width = len(filters[-1])
    centred = [np.pad(taps, (width - len(taps)) // 2) for taps in filters]
    return torch.tensor(np.stack(centred), dtype=torch.float32)


def _half_dft(config: MfccConfig, bins: range) -> tuple[Tensor, Tensor]:
    """Windowed cosines and sines [window // 2, bins].

    Row n - 1 is for sample n and its mirror image, window - n; phases count from the middle. The
    sample there, where an even window has one, is its own image, and so counts half.
    """
    samples = torch.arange(1, config.window_length // 2 + 1, dtype=torch.float64)[:, None]
    turns = torch.tensor(bins, dtype=torch.float64) / config.n_fft
    angle = 2.0 * math.pi * turns * (config.window_length / 2 - samples)
    window = half_hann(config.window_length)[:, None]
    return torch.cos(angle).float() * window, torch.sin(angle).float() * window


def half_hann(length: int) -> Tensor:
    """Samples 1 to length // 2 of a Hann window [length // 2]; one in the middle counts half."""
    window = torch.hann_window(length, dtype=torch.float64).float()[1 : length // 2 + 1]
    if length % 2 == 0:
        window[-1] /= 2
    return window
