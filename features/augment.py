"""What training does to sound, so that a model meets in training what the microphone will bring.

`Augmenter` changes waveforms, float32 numpy (samples,), in the order in which sound is changed on
its way to a device: the speaker (speed, shift), the room, the noise in it, the microphone, the
line, the gain, the gate.
`spec_augment` masks features, a torch batch. Every probability at 0 leaves the sound as it is.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import numpy as np
import soxr
import torch

from features.errors import EarshotError

Range = tuple[float, float]

SPEED_OF_SOUND = 343.0  # m/s in dry air at 20 degrees Celsius
ACTIVE_FRAME = 0.02  # seconds
ACTIVE_RANGE = 20.0  # dB under the loudest frame that still count as speech
OCTAVES = (125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)  # Hz
ROOMS = 32
COLOURED_NOISES = 9
COLOURED_SECONDS = 4.0
BANK_SEED = 20
VOCODER_WINDOW = 512  # samples


class AugmentError(EarshotError, ValueError):
    """An augmentation setting that cannot be meant."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How often and how far. A bare name is a probability; ranges are (low, high), both included.

    speed_factor: playing speed, above 1 is faster (and higher: it is resampling).
    stretch_factor: pace at the same pitch, above 1 is faster; pitch_steps: semitones at the same
        pace, above 0 is higher (by librosa's phase vocoder).
    shift_fraction: longest shift as a share of the waveform.
    shift_keeps_length: move the sound inside the waveform, cutting what leaves it, as suits a
        classifier of fixed windows; otherwise silence is put in front and no word is ever cut.
    room_rt60: seconds in which the reverberation falls by 60 dB.
    noise_snr: dB between the active level of the speech and the noise.
    voices: share of the noises that is other people talking: recordings of the training, of a
        classifier's those of unknown words.
    coloured: share of the rest that is synthetic, from white to brown; all without recordings.
    microphone_db: gain of a microphone at each octave, in dB. Where it is used, a classifier
        cannot tell a set of recordings, and so its words, by what they were recorded with.
    telephone: the band of a telephone line, or of a recording at 8 kHz.
    gain_db: dB; what then exceeds full scale is clipped.
    gate: digital silence before and after what is said, as from a noise gate, a synthetic voice or
        a trimmed file; gate_seconds: how much of the sound stays on either side.
    time_masks, time_mask_frames, time_mask_share: how many masks, the frames of the longest, and
        the largest share of an utterance's frames that all of them together cover.
    coefficient_masks, coefficient_mask_width: the same across the coefficients of a frame.
    """

    speed: float = 0.5
    speed_factor: Range = (0.85, 1.15)
    stretch: float = 0.0
    stretch_factor: Range = (0.9, 1.1)
    pitch: float = 0.0
    pitch_steps: Range = (-2.0, 2.0)
    shift: float = 0.5
    shift_fraction: float = 0.1
    shift_keeps_length: bool = False
    room: float = 0.3
    room_rt60: Range = (0.1, 0.6)
    noise: float = 0.5
    noise_snr: Range = (0.0, 30.0)
    voices: float = 0.0
    coloured: float = 0.2
    microphone: float = 0.3
    microphone_db: Range = (-6.0, 6.0)
    telephone: float = 0.1
    gain: float = 0.8
    gain_db: Range = (-30.0, 6.0)
    gate: float = 0.0
    gate_seconds: Range = (0.0, 0.15)
    time_masks: int = 2
    time_mask_frames: int = 20
    time_mask_share: float = 0.3
    coefficient_masks: int = 1
    coefficient_mask_width: int = 4

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is float and not 0.0 <= value <= 1.0:
                raise AugmentError(f"augment: {field.name} is {value}; give a share from 0 to 1")
            if field.type is int and value < 0:
                raise AugmentError(f"augment: {field.name} is {value}; give 0 or more")
            if field.type is Range and not value[0] <= value[1]:
                raise AugmentError(f"augment: {field.name} is {value}; give the low end first")
        if self.gate_seconds[0] < 0.0:
            raise AugmentError(
                f"augment: gate_seconds starts at {self.gate_seconds[0]}; give 0 or more"
            )
        for name in ("speed_factor", "stretch_factor", "room_rt60"):
            if (low := getattr(self, name)[0]) <= 0.0:
                raise AugmentError(f"augment: {name} starts at {low}; give more than 0")


class Augmenter:
    """Changes waveforms at random; the same generator state gives the same sound.

    noises, voices: float32 (samples,) recordings at `sample_rate`, of any length, to draw crops
        from.
    """

    def __init__(
        self,
        config: AugmentConfig,
        noises: Sequence[np.ndarray],
        sample_rate: int,
        voices: Sequence[np.ndarray] = (),
    ) -> None:
        self.config = config
        self.sample_rate = sample_rate
        self._noises = [noise for noise in noises if len(noise)]
        self._voices = [voice for voice in voices if len(voice)]
        bank = np.random.default_rng(BANK_SEED)
        length = round(COLOURED_SECONDS * sample_rate)
        slopes = np.linspace(0.0, 2.0, COLOURED_NOISES if config.noise else 0)
        self._coloured = [coloured_noise(length, slope, bank) for slope in slopes]
        self._rooms = [
            room_response(bank.uniform(*config.room_rt60), sample_rate, bank)
            for _ in range(ROOMS if config.room else 0)
        ]

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return an augmented copy of float32 (samples,), its length changed by speed and shift."""
        config = self.config
        if not len(waveform):
            return waveform
        if rng.random() < config.speed:
            waveform = change_speed(waveform, rng.uniform(*config.speed_factor))
        waveform = self._revoice(waveform, rng)
        if rng.random() < config.shift:
            waveform = self._shift(waveform, rng)
        if rng.random() < config.room:
            waveform = reverberate(waveform, self._rooms[rng.integers(len(self._rooms))])
        if rng.random() < config.noise:
            noise = self._noise(len(waveform), rng)
            waveform = add_noise(waveform, noise, rng.uniform(*config.noise_snr), self.sample_rate)
        if rng.random() < config.microphone:
            gains = rng.uniform(*config.microphone_db, len(OCTAVES))
            waveform = equalise(waveform, gains, self.sample_rate)
        if rng.random() < config.telephone:
            edges = rng.uniform(0.0, 300.0), rng.uniform(3400.0, 4000.0)
            waveform = band_pass(waveform, *edges, self.sample_rate)
        if rng.random() < config.gain:
            waveform = waveform * np.float32(10.0 ** (rng.uniform(*config.gain_db) / 20.0))
        if config.gate and rng.random() < config.gate:
            waveform = gate(waveform, rng.uniform(*config.gate_seconds, 2), self.sample_rate)
        return np.clip(waveform, -1.0, 1.0)

    def _revoice(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Another pace and another pitch. Nothing is drawn for what is off."""
        config = self.config
        if config.stretch and rng.random() < config.stretch:
            waveform = stretch(waveform, rng.uniform(*config.stretch_factor))
        if config.pitch and rng.random() < config.pitch:
            waveform = shift_pitch(waveform, rng.uniform(*config.pitch_steps), self.sample_rate)
        return waveform

    def _shift(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        longest = int(self.config.shift_fraction * len(waveform))
        if self.config.shift_keeps_length:
            return shift(waveform, int(rng.integers(-longest, longest + 1)))
        return np.pad(waveform, (int(rng.integers(longest + 1)), 0))

    def _noise(self, length: int, rng: np.random.Generator) -> np.ndarray:
        if self._voices and rng.random() < self.config.voices:
            return random_crop(self._voices[rng.integers(len(self._voices))], length, rng)
        synthetic = not self._noises or rng.random() < self.config.coloured
        noises = self._coloured if synthetic else self._noises
        return random_crop(noises[rng.integers(len(noises))], length, rng)


def change_speed(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Play (samples,) `factor` times as fast: about samples / factor remain, at least one."""
    # soxr's "QQ" would leave images only 12 dB under a tone at 6 kHz to save 0.1 ms a second.
    changed = soxr.resample(waveform, factor, 1.0, quality="MQ")
    return changed if len(changed) else waveform[:1]


def stretch(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Say (samples,) `factor` times as fast at the same pitch: samples / factor remain."""
    if len(waveform) < VOCODER_WINDOW:
        return waveform
    return librosa.effects.time_stretch(waveform, rate=factor, n_fft=VOCODER_WINDOW)


def shift_pitch(waveform: np.ndarray, steps: float, sample_rate: int) -> np.ndarray:
    """Raise (samples,) by so many semitones; the length stays."""
    if len(waveform) < VOCODER_WINDOW:
        return waveform
    return librosa.effects.pitch_shift(
        waveform, sr=sample_rate, n_steps=steps, n_fft=VOCODER_WINDOW, res_type="soxr_mq"
    )


def shift(waveform: np.ndarray, offset: int) -> np.ndarray:
    """Move (samples,) later by `offset` samples, earlier if negative, zeros filling the gap."""
    moved = np.zeros_like(waveform)
    if offset >= 0:
        moved[offset:] = waveform[: len(waveform) - offset]
    else:
        moved[:offset] = waveform[-offset:]
    return moved


def random_crop(noise: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Return `length` consecutive samples of (samples,) from a random start, repeating if short."""
    if len(noise) >= length:
        start = rng.integers(len(noise) - length + 1)
        return noise[start : start + length]
    return np.resize(np.roll(noise, rng.integers(len(noise))), length)


def active_power(speech: np.ndarray, sample_rate: int) -> float:
    """Mean square of (samples,) where somebody speaks: 20 ms frames near the loudest one.

    Pauses would otherwise make the same noise count as louder in a clip with more silence. The
    idea is that of the active level of ITU-T P.56, with a fixed margin for simplicity.
    """
    powers, _ = _frame_powers(speech, sample_rate)
    return float(powers[_active(powers)].mean())


def gate(waveform: np.ndarray, margins: np.ndarray, sample_rate: int) -> np.ndarray:
    """Keep (samples,) from margins[0] seconds before its first active frame to margins[1] after
    its last one; zeros elsewhere."""
    powers, frame = _frame_powers(waveform, sample_rate)
    first, last = np.flatnonzero(_active(powers))[[0, -1]]
    before, after = (int(margin * sample_rate) for margin in margins)
    start, stop = max(0, first * frame - before), (last + 1) * frame + after
    gated = np.zeros_like(waveform)
    gated[start:stop] = waveform[start:stop]
    return gated


def _frame_powers(waveform: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
    """The mean square of each whole frame of ACTIVE_FRAME seconds, and its samples."""
    frame = min(len(waveform), round(ACTIVE_FRAME * sample_rate))
    whole = waveform[: len(waveform) // frame * frame].reshape(-1, frame)
    return np.einsum("ft,ft->f", whole, whole) / frame, frame


def _active(powers: np.ndarray) -> np.ndarray:
    """Which frames are near the loudest one."""
    return powers >= powers.max() * 10.0 ** (-ACTIVE_RANGE / 10.0)


def add_noise(speech: np.ndarray, noise: np.ndarray, snr: float, sample_rate: int) -> np.ndarray:
    """Add (samples,) noise so that the active speech stands `snr` dB above it.

    Silent speech has no level to compare with and a silent noise none to scale: either way the
    speech comes back as it is.
    """
    noise_power = float(np.dot(noise, noise)) / len(noise)
    speech_power = active_power(speech, sample_rate)
    if not noise_power or not speech_power:
        return speech
    scale = np.sqrt(speech_power / noise_power * 10.0 ** (-snr / 10.0))
    return speech + np.float32(scale) * noise


def coloured_noise(length: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Return float32 (length,) noise, RMS 0.1, its power falling as frequency ** -slope.

    Slope 0 is white, 1 pink, 2 brown.
    """
    bins = length // 2 + 1
    spectrum = rng.standard_normal(bins) + 1j * rng.standard_normal(bins)
    spectrum *= np.maximum(np.arange(bins), 1.0) ** (-slope / 2.0)
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, length)
    return (0.1 * noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def band_pass(waveform: np.ndarray, low: float, high: float, sample_rate: int) -> np.ndarray:
    """Keep `low` to `high` Hz of (samples,), fading over 100 Hz beyond each edge, without delay."""
    size = _fft_size(len(waveform))
    frequencies = np.fft.rfftfreq(size, 1.0 / sample_rate)
    beyond = np.maximum(low - frequencies, frequencies - high).clip(0.0, 100.0) / 100.0
    response = (0.5 + 0.5 * np.cos(np.pi * beyond)).astype(np.float32)
    return _filtered(waveform, response, size)


def equalise(waveform: np.ndarray, gains: np.ndarray, sample_rate: int) -> np.ndarray:
    """Amplify (samples,) by `gains` dB at OCTAVES, and between them by what lies between."""
    size = _fft_size(len(waveform))
    frequencies = np.fft.rfftfreq(size, 1.0 / sample_rate).clip(min=OCTAVES[0])
    response = 10.0 ** (np.interp(np.log2(frequencies), np.log2(OCTAVES), gains) / 20.0)
    return _filtered(waveform, response.astype(np.float32), size)


def reverberate(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve (samples,) with a room's response, keeping its length, its energy and its timing."""
    size = _fft_size(len(waveform) + len(response) - 1)
    wet = _filtered(waveform, np.fft.rfft(response, size), size)
    energy = float(np.dot(wet, wet))
    return wet * np.float32(np.sqrt(np.dot(waveform, waveform) / energy)) if energy else waveform


def room_response(rt60: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return float32 (samples,): the impulse response from a speaker to a microphone in a room.

    Image-source method for a rectangular room (Allen & Berkley 1979, "Image method for efficiently
    simulating small-room acoustics", JASA 65), walls alike, delays rounded to samples. Room size
    and both places are drawn from `rng`; the walls' absorption follows from `rt60` (seconds) by
    Eyring's formula. The direct path is the first sample.
    """
    size = rng.uniform((2.5, 2.5, 2.3), (7.0, 6.0, 3.5))
    source, microphone = rng.uniform(0.3, size - 0.3), rng.uniform(0.3, size - 0.3)
    surface = 2.0 * (size[0] * size[1] + size[1] * size[2] + size[2] * size[0])
    absorption = 1.0 - np.exp(-0.161 * size.prod() / (surface * rt60))
    distance, bounces = _images(size, source, microphone, SPEED_OF_SOUND * rt60)
    nearest = distance.min()
    delays = np.rint((distance - nearest) * (sample_rate / SPEED_OF_SOUND)).astype(np.int64)
    amplitude = (1.0 - absorption) ** (bounces / 2.0) * (nearest / distance)
    response = np.bincount(delays, amplitude)
    return _without_rumble(response, sample_rate).astype(np.float32)


def _images(
    size: np.ndarray, source: np.ndarray, microphone: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance (m) and the number of reflections of every image source within `reach`.

    Along one axis the images lie at 2 n L + s after |2 n| reflections and at 2 n L - s after
    |2 n - 1|, for every whole n; the images of the room are all combinations of the three axes.
    """
    squares, counts = np.zeros(1), np.zeros(1)
    for length, place, ear in zip(size, source, microphone, strict=True):
        n = np.arange(-np.ceil(reach / (2.0 * length)) - 1, np.ceil(reach / (2.0 * length)) + 2)
        axis = np.concatenate([2 * n * length + place, 2 * n * length - place]) - ear
        bounces = np.concatenate([np.abs(2 * n), np.abs(2 * n - 1)])
        squares = np.add.outer(squares, axis**2).ravel()
        counts = np.add.outer(counts, bounces).ravel()
        near = squares <= reach**2
        squares, counts = squares[near], counts[near]
    return np.sqrt(squares), counts


def _without_rumble(response: np.ndarray, sample_rate: int) -> np.ndarray:
    """Take out what lies under about 50 Hz: image sources, all positive, pile up there."""
    spectrum = np.fft.rfft(response, 2 * len(response))
    ratio = (np.fft.rfftfreq(2 * len(response), 1.0 / sample_rate) / 50.0) ** 2
    return np.fft.irfft(spectrum * ratio / (1.0 + ratio))[: len(response)]


def _filtered(waveform: np.ndarray, response: np.ndarray, size: int) -> np.ndarray:
    """Multiply the spectrum of (samples,), zero-padded to `size`, by `response`; same length."""
    spectrum = np.fft.rfft(waveform, size)
    return np.fft.irfft(spectrum * response, size)[: len(waveform)].astype(np.float32)


def _fft_size(length: int) -> int:
    """Return the smallest 2^a, 3 * 2^a or 5 * 2^a that is at least `length`: fast to transform."""
    sizes = (odd << max(0, (-(-length // odd) - 1).bit_length()) for odd in (1, 3, 5))
    return min(sizes)


def spec_augment(
    features: torch.Tensor,
    lengths: torch.Tensor,
    config: AugmentConfig,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Set random stretches of frames and of coefficients to 0, which is the mean once normalised.

    features: [batch, frames, coefficients]; lengths: int [batch], the valid frames of each.
    generator: on the CPU whatever the device of the features, so that a seed means the same.
    Returns a new tensor; frames past an utterance's length are as they were. After Park et al.
    2019, "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition".
    """
    _, frames, coefficients = features.shape
    lengths = lengths.to(features.device)
    each = config.time_mask_share / max(config.time_masks, 1)
    longest = (lengths * each).floor().clamp(max=config.time_mask_frames)
    valid = torch.arange(frames, device=features.device) < lengths[:, None]
    in_time = _stretches(longest, lengths, frames, config.time_masks, generator)
    widest = torch.full_like(lengths, min(config.coefficient_mask_width, coefficients))
    across = torch.full_like(lengths, coefficients)
    in_frame = _stretches(widest, across, coefficients, config.coefficient_masks, generator)
    masked = (in_time[:, :, None] | in_frame[:, None, :]) & valid[:, :, None]
    return features.masked_fill(masked, 0.0)


def _stretches(
    longest: torch.Tensor,
    lengths: torch.Tensor,
    size: int,
    count: int,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Return bool [batch, size], true in `count` random stretches of 0..longest inside lengths."""
    draws = torch.rand(2, len(lengths), count, generator=generator).to(lengths.device)
    widths = (draws[0] * (longest[:, None] + 1)).floor()
    starts = (draws[1] * (lengths[:, None] - widths + 1)).floor()
    places = torch.arange(size, device=lengths.device)
    ends = starts + widths
    return ((places >= starts[..., None]) & (places < ends[..., None])).any(dim=1)
