"""MFCC against two references, frame by frame, and nothing but the frame's own samples."""

import dataclasses

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from features.mfcc import Mfcc, MfccConfig, MfccConfigError
from features.torchaudio_import import import_torchaudio
from tests.support.commands import run_python

torchaudio = import_torchaudio()

CONFIGS = {
    "default": MfccConfig(),
    "telephone": MfccConfig(
        sample_rate=8_000,
        window_length=200,
        hop_length=80,
        n_fft=256,
        n_mels=23,
        n_mfcc=13,
        f_max=4_000.0,
    ),
    "odd window": MfccConfig(window_length=401, hop_length=401),
    "full window": MfccConfig(window_length=512, hop_length=256, n_mfcc=20, f_min=0.0),
    "high floor": MfccConfig(n_fft=1024, n_mels=64, n_mfcc=13, floor=1e-3),
}
TOLERANCE = 1e-3  # dB, where coefficients reach hundreds of dB in single precision


def noise(samples: int, seed: int = 0) -> Tensor:
    """[1, samples] of noise that swells from -60 dB to full scale."""
    swell = np.logspace(-3.0, -0.5, samples)
    sound = swell * np.random.default_rng(seed).standard_normal(samples)
    return torch.from_numpy(sound.clip(-1.0, 1.0).astype(np.float32))[None]


def framed(waveform: Tensor, config: MfccConfig) -> Tensor:
    """Pad so that a reference, which centres short windows in n_fft, frames as we do."""
    spare = config.n_fft - config.window_length
    return functional.pad(waveform, (spare // 2, spare - spare // 2))


def by_torchaudio(waveform: Tensor, config: MfccConfig) -> Tensor:
    mfcc = torchaudio.transforms.MFCC(
        sample_rate=config.sample_rate,
        n_mfcc=config.n_mfcc,
        melkwargs={
            "n_fft": config.n_fft,
            "win_length": config.window_length,
            "hop_length": config.hop_length,
            "n_mels": config.n_mels,
            "f_min": config.f_min,
            "f_max": config.f_max,
            "center": False,
        },
    )
    mfcc.amplitude_to_DB.top_db = None
    mfcc.amplitude_to_DB.amin = config.floor
    return mfcc(framed(waveform, config)).transpose(1, 2)


def by_librosa(waveform: Tensor, config: MfccConfig) -> Tensor:
    power = librosa.feature.melspectrogram(
        y=framed(waveform, config)[0].numpy(),
        sr=config.sample_rate,
        n_fft=config.n_fft,
        win_length=config.window_length,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        center=False,
        htk=True,
        norm=None,
    )
    decibels = librosa.power_to_db(power, amin=config.floor, top_db=None)
    cepstra = librosa.feature.mfcc(S=decibels, n_mfcc=config.n_mfcc, norm="ortho")
    return torch.from_numpy(cepstra.T)[None].float()


@pytest.mark.parametrize("reference", [by_torchaudio, by_librosa])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("extra", [0, 1, 159, 160, 161, None], ids=lambda n: f"window+{n}")
def test_equals_the_references(reference, config: MfccConfig, extra: int | None) -> None:
    samples = 10 * config.sample_rate if extra is None else config.window_length + extra
    waveform = noise(samples)
    found, expected = Mfcc(config)(waveform), reference(waveform, config)
    assert found.shape == expected.shape == (1, config.frames(samples), config.n_mfcc)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_less_than_a_window_has_no_frame(config: MfccConfig) -> None:
    for samples in (0, 1, config.window_length - 1):
        assert Mfcc(config)(noise(samples)).shape == (1, 0, config.n_mfcc)


def test_silence_and_quiet_passages_are_not_lifted_by_loud_ones() -> None:
    config = MfccConfig()
    mfcc = Mfcc(config)
    quiet = 1e-3 * noise(8_000)
    alone = mfcc(quiet)
    beside_a_shout = mfcc(torch.cat([quiet, noise(8_000).sign()], dim=1))[:, : alone.shape[1]]
    torch.testing.assert_close(beside_a_shout, alone, rtol=0, atol=1e-3)
    silence = mfcc(torch.zeros(1, 1_600))
    floor = 10.0 * np.log10(config.floor) * np.sqrt(config.n_mels)
    torch.testing.assert_close(silence[..., 0], torch.full_like(silence[..., 0], floor))
    assert silence[..., 1:].abs().max() < 1e-2


@pytest.mark.parametrize("orders", [1, 2])
def test_deltas_equal_the_reference_away_from_the_ends(orders: int) -> None:
    waveform, config = noise(16_000), MfccConfig(n_mfcc=13, deltas=orders)
    expected = [Mfcc(dataclasses.replace(config, deltas=0))(waveform)]
    for _ in range(orders):
        slope = torchaudio.functional.compute_deltas(expected[-1].transpose(1, 2), win_length=5)
        expected.append(slope.transpose(1, 2))
    reach = 2 * orders
    interior = torch.cat(expected, dim=-1)[:, reach:-reach]
    torch.testing.assert_close(Mfcc(config)(waveform), interior, rtol=0, atol=1e-3)


@given(
    config=st.sampled_from([*CONFIGS.values(), MfccConfig(deltas=1), MfccConfig(deltas=2)]),
    samples=st.integers(0, 12_000),
)
@settings(max_examples=60, deadline=None)
def test_frames_are_counted_as_they_come_out(config: MfccConfig, samples: int) -> None:
    assert Mfcc(config)(noise(samples)).shape == (1, config.frames(samples), config.coefficients)


@given(
    orders=st.sampled_from([0, 1, 2]),
    frame=st.integers(0, 20),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_a_frame_depends_on_its_own_samples_only(orders: int, frame: int, seed: int) -> None:
    config = MfccConfig(deltas=orders)
    mfcc = Mfcc(config)
    waveform = noise(20 * config.hop_length + config.context_length, seed)
    start = frame * config.hop_length
    own = slice(start, start + config.context_length)
    other = 1.0 - 2.0 * torch.rand(waveform.shape, generator=torch.Generator().manual_seed(seed))
    other[:, own] = waveform[:, own]
    expected = mfcc(waveform)[:, frame]
    torch.testing.assert_close(mfcc(other)[:, frame], expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(mfcc(waveform[:, own])[:, 0], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"hop_length": 0}, "hop_length"),
        ({"hop_length": 500}, "hop_length"),
        ({"window_length": 600}, "window_length"),
        ({"n_fft": 510}, "n_fft"),
        ({"f_max": 9_000.0}, "f_max"),
        ({"f_min": 8_000.0}, "f_min"),
        ({"f_min": -1.0}, "f_min"),
        ({"n_mfcc": 41}, "n_mfcc"),
        ({"n_mfcc": 0}, "n_mfcc"),
        ({"floor": 0.0}, "floor"),
        ({"deltas": 3}, "deltas"),
    ],
)
def test_impossible_settings_are_named(settings: dict, named: str) -> None:
    with pytest.raises(MfccConfigError, match=rf"^mfcc: .*\b{named}\b.*$"):
        MfccConfig(**settings)


@pytest.mark.slow
def test_torchaudio_imports_without_its_native_library() -> None:
    result = run_python(
        """
import sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "torchaudio._extension":
            raise OSError("libcudart.so: cannot open shared object file")

sys.meta_path.insert(0, Broken())

import torch
from features.torchaudio_import import import_torchaudio
torchaudio = import_torchaudio()
print(torchaudio.transforms.MFCC(n_mfcc=13)(torch.zeros(1, 16000)).shape[1])
print(import_torchaudio() is torchaudio)
"""
    )
    assert result.stdout == "13\nTrue\n", result.stderr
