"""Augmentation: what it promises about levels, lengths, timing and chance, at every length."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.augment import (
    OCTAVES,
    AugmentConfig,
    Augmenter,
    AugmentError,
    active_power,
    add_noise,
    band_pass,
    change_speed,
    coloured_noise,
    equalise,
    gate,
    random_crop,
    reverberate,
    room_response,
    shift,
    shift_pitch,
    spec_augment,
    stretch,
)

RATE = 16000
PARTS = ("speed", "shift", "room", "noise", "microphone", "telephone", "gain")
OFF = AugmentConfig(**dict.fromkeys(PARTS, 0.0), time_masks=0, coefficient_masks=0)
ALWAYS = dataclasses.replace(OFF, **dict.fromkeys(PARTS, 1.0))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def white(samples: int, rms: float = 0.1, seed: int = 0) -> np.ndarray:
    return (rms * generator(seed).standard_normal(samples)).astype(np.float32)


def tone(samples: int, frequency: float, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(samples) / rate)).astype(np.float32)


# Built once, as in training: every case below draws from the same rooms and noises.
WITHOUT_RECORDINGS = Augmenter(ALWAYS, [], RATE)
WITH_RECORDINGS = Augmenter(ALWAYS, [white(700), white(0)], RATE)


def decibels(power_ratio: float) -> float:
    return 10.0 * float(np.log10(power_ratio))


def power(waveform: np.ndarray) -> float:
    return float(np.mean(waveform.astype(np.float64) ** 2))


def test_all_off_is_identity() -> None:
    waveform = white(RATE)
    augmented = Augmenter(OFF, [white(10)], RATE)(waveform, generator())
    assert np.array_equal(augmented, waveform)
    features, lengths = torch.randn(2, 50, 13), torch.tensor([50, 20])
    assert torch.equal(spec_augment(features, lengths, OFF), features)


def test_the_input_is_left_alone() -> None:
    waveform = white(RATE)
    augmented = Augmenter(OFF, [], RATE)(waveform, generator())
    augmented[:] = 0.0
    WITHOUT_RECORDINGS(waveform, generator())
    assert np.array_equal(waveform, white(RATE))


@settings(max_examples=60, deadline=None)
@given(
    samples=st.sampled_from([0, 1, 2, 159, 160, 161, 4000, 16000, 50000]),
    silent=st.booleans(),
    recorded=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_any_waveform_comes_out_finite_in_range_and_of_a_sensible_length(
    samples: int, silent: bool, recorded: bool, seed: int
) -> None:
    waveform = np.zeros(samples, np.float32) if silent else white(samples, 0.5)
    augmenter = WITH_RECORDINGS if recorded else WITHOUT_RECORDINGS
    augmented = augmenter(waveform, generator(seed))
    assert augmented.dtype == np.float32
    assert np.abs(augmented).max(initial=0.0) <= 1.0  # NaN would fail as well
    assert samples / 1.16 - 1 <= len(augmented) <= samples * 1.1 / 0.84 + 1
    assert bool(len(augmented)) == bool(samples)
    if silent:
        assert not augmented.any()


def test_the_same_generator_gives_the_same_sound() -> None:
    noises = [white(3 * RATE, seed=4)]
    first = Augmenter(AugmentConfig(), noises, RATE)
    second = Augmenter(AugmentConfig(), noises, RATE)
    one, other = generator(5), generator(5)
    outputs = [(first(white(RATE), one), second(white(RATE), other)) for _ in range(10)]
    assert all(np.array_equal(a, b) for a, b in outputs)
    assert not np.array_equal(outputs[0][0], outputs[1][0])


def test_others_talk_in_their_share_of_the_noises() -> None:
    config = dataclasses.replace(OFF, noise=1.0, noise_snr=(12.0, 12.0), voices=0.5)
    augmenter, rng = Augmenter(config, [white(RATE)], RATE, [tone(RATE, 1000.0)]), generator()
    speech, talking = tone(RATE, 500.0), 0
    for _ in range(100):
        spectrum = np.abs(np.fft.rfft(augmenter(speech, rng) - speech)) ** 2
        talking += spectrum[1000] > 0.5 * spectrum.sum()  # bins of 1 Hz
    assert 35 <= talking <= 65


@pytest.mark.parametrize("snr", [-10.0, 0.0, 7.5, 30.0])
@pytest.mark.parametrize("pause", [0, RATE // 2, 5 * RATE])
def test_noise_stands_at_the_snr_whatever_the_pauses(snr: float, pause: int) -> None:
    """20 ms of a tone have exactly the power of the tone; pauses must not lower it."""
    spoken = tone(RATE, 500.0)
    speech = np.concatenate([np.zeros(pause, np.float32), spoken, np.zeros(pause, np.float32)])
    added = add_noise(speech, white(len(speech)), snr, RATE).astype(np.float64) - speech
    assert decibels(power(spoken) / power(added)) == pytest.approx(snr, abs=0.1)


def test_active_power_ignores_what_is_quiet() -> None:
    speech = np.concatenate([tone(RATE, 500.0), white(3 * RATE, 0.002)])
    assert active_power(speech, RATE) == pytest.approx(0.3**2 / 2, rel=0.01)
    assert active_power(np.full(1, 0.5, np.float32), RATE) == 0.25


def test_the_augmenter_reaches_its_snr_range_with_recordings_and_without() -> None:
    speech = tone(RATE, 500.0)
    for noises in ([], [white(5 * RATE)], [white(100)]):
        config = dataclasses.replace(OFF, noise=1.0, noise_snr=(12.0, 12.0))
        augmenter, rng = Augmenter(config, noises, RATE), generator()
        for _ in range(10):
            added = augmenter(speech, rng) - speech
            assert decibels(power(speech) / power(added)) == pytest.approx(12.0, abs=0.1)


def test_noise_is_harmless_where_there_is_no_level() -> None:
    silent, noise = np.zeros(100, np.float32), white(100)
    assert np.array_equal(add_noise(silent, noise, 0.0, RATE), silent)
    assert np.array_equal(add_noise(noise, silent, 0.0, RATE), noise)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 50), st.integers(1, 200), st.integers(0, 1000))
def test_a_crop_is_a_stretch_of_the_noise(available: int, wanted: int, seed: int) -> None:
    noise = np.arange(available, dtype=np.float32)
    crop = random_crop(noise, wanted, generator(seed))
    assert len(crop) == wanted
    steps = np.diff(crop) % available
    assert ((steps == 1 % available) | (steps == 0)).all()


@pytest.mark.parametrize(("slope", "fall"), [(0.0, 0.0), (1.0, 10.0), (2.0, 20.0)])
def test_coloured_noise_falls_by_its_slope(slope: float, fall: float) -> None:
    spectrum = np.abs(np.fft.rfft(coloured_noise(1 << 17, slope, generator()))) ** 2
    low, high = spectrum[1000:1100].mean(), spectrum[10000:11000].mean()
    assert decibels(low / high) == pytest.approx(fall, abs=1.0)


def test_gain_is_in_decibels_and_clips() -> None:
    waveform = white(RATE, 0.3)
    quiet = Augmenter(dataclasses.replace(OFF, gain=1.0, gain_db=(-20.0, -20.0)), [], RATE)
    assert np.allclose(quiet(waveform, generator()), 0.1 * waveform, atol=1e-6)
    loud = Augmenter(dataclasses.replace(OFF, gain=1.0, gain_db=(6.0, 6.0)), [], RATE)
    expected = np.clip(waveform * 10 ** (6 / 20), -1.0, 1.0)
    assert np.allclose(loud(waveform, generator()), expected, atol=1e-6)


@given(st.integers(1, 40), st.data())
def test_shift_moves_and_fills_with_zeros(samples: int, data: st.DataObject) -> None:
    offset = data.draw(st.integers(-samples, samples))
    moved = shift(np.arange(1.0, samples + 1, dtype=np.float32), offset)
    expected = [n if 1 <= n <= samples else 0 for n in range(1 - offset, samples + 1 - offset)]
    assert moved.tolist() == expected


def test_shift_cuts_nothing_unless_the_length_is_to_be_kept() -> None:
    waveform = white(1000)
    config = dataclasses.replace(OFF, shift=1.0, shift_fraction=0.2)
    padding, rng = Augmenter(config, [], RATE), generator()
    added = set()
    for _ in range(300):
        shifted = padding(waveform, rng)
        silence = len(shifted) - len(waveform)
        assert not shifted[:silence].any()
        assert np.array_equal(shifted[silence:], waveform)
        added.add(silence)
    assert min(added) < 20 and 180 < max(added) <= 200
    keeping = Augmenter(dataclasses.replace(config, shift_keeps_length=True), [], RATE)
    offsets = [np.correlate(keeping(waveform, rng), waveform, "full").argmax() for _ in range(50)]
    assert min(offsets) < 999 < max(offsets)
    assert all(799 <= offset <= 1199 for offset in offsets)


@pytest.mark.parametrize("factor", [0.85, 0.93, 1.0, 1.1, 1.15])
def test_speed_moves_length_and_pitch_and_adds_no_images(factor: float) -> None:
    faster = change_speed(tone(RATE, 6000.0), factor)
    assert len(faster) == pytest.approx(RATE / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster)))) ** 2
    peak = int(spectrum.argmax())
    assert peak * RATE / len(faster) == pytest.approx(6000.0 * factor, abs=2.0)
    around = spectrum[peak - 10 : peak + 11].sum()
    assert decibels((spectrum.sum() - around) / around) < -40.0


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_stretch_moves_length_and_keeps_pitch(factor: float) -> None:
    slower = stretch(tone(RATE, 1000.0), factor)
    assert len(slower) == pytest.approx(RATE / factor, abs=1)
    assert peak_frequency(slower) == pytest.approx(1000.0, abs=3.0)


@pytest.mark.parametrize("steps", [-3.0, 2.0])
def test_pitch_shift_keeps_length_and_moves_pitch(steps: float) -> None:
    higher = shift_pitch(tone(RATE, 1000.0), steps, RATE)
    assert len(higher) == RATE
    assert peak_frequency(higher) == pytest.approx(1000.0 * 2 ** (steps / 12), rel=0.01)


def peak_frequency(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(spectrum.argmax()) * RATE / len(waveform)


def test_another_pace_and_pitch_are_drawn_only_when_wanted() -> None:
    waveform = tone(RATE, 1000.0)
    off, on = OFF, dataclasses.replace(OFF, stretch=1.0, pitch=1.0)
    first, second = generator(), generator()
    Augmenter(off, [], RATE)(waveform, first)
    Augmenter(dataclasses.replace(off, stretch_factor=(0.5, 2.0)), [], RATE)(waveform, second)
    assert first.random() == second.random()
    changed = Augmenter(on, [], RATE)(waveform, generator())
    assert len(changed) != RATE and abs(peak_frequency(changed) - 1000.0) > 1.0
    assert len(Augmenter(on, [], RATE)(waveform[:100], generator())) == 100


def test_speed_leaves_at_least_one_sample() -> None:
    assert len(change_speed(white(1), 8.0)) == 1


@pytest.mark.parametrize("rt60", [0.1, 0.3, 0.6])
def test_a_room_decays_in_its_time(rt60: float) -> None:
    """Reverberation time from the backward-integrated decay, -5 to -25 dB (Schroeder 1965)."""
    times, rng = [], generator()
    for _ in range(20):
        response = room_response(rt60, RATE, rng).astype(np.float64)
        left = np.cumsum(response[::-1] ** 2)[::-1]
        level = 10 * np.log10(left / left[0] + 1e-30)
        times.append(3 * (np.argmax(level < -25) - np.argmax(level < -5)) / RATE)
    assert np.median(times) == pytest.approx(rt60, rel=0.3)


def test_a_room_starts_with_the_direct_path_and_has_no_rumble() -> None:
    rng = generator()
    for _ in range(20):
        response = room_response(0.4, RATE, rng)
        assert response[0] > 0.9
        spectrum = np.abs(np.fft.rfft(response, RATE))
        assert spectrum[:10].max() < spectrum[100:4000].max()


def test_a_room_keeps_energy_length_and_timing() -> None:
    speech = np.concatenate([np.zeros(1000, np.float32), white(4000), np.zeros(9000, np.float32)])
    wet = reverberate(speech, room_response(0.3, RATE, generator()))
    assert wet.shape == speech.shape
    assert power(wet) == pytest.approx(power(speech), rel=1e-5)
    assert np.abs(wet[:1000]).max() < 1e-6
    assert np.abs(wet[5000:6000]).max() > 1e-3
    assert np.correlate(wet, speech, "full").argmax() == len(speech) - 1


def test_an_empty_room_changes_nothing() -> None:
    direct = np.ones(1, np.float32)
    for samples in (1, 2, 1000):
        assert np.allclose(reverberate(white(samples), direct), white(samples), atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, RATE])
def test_a_microphone_amplifies_each_octave_by_its_gain(rate: int) -> None:
    gains = np.array([-9.0, 3.0, 6.0, -2.0, 0.0, 5.0, -7.0])
    for octave, gain in zip(OCTAVES, gains, strict=True):
        if octave < rate / 2:
            waveform = tone(rate, octave, rate) * np.hanning(rate).astype(np.float32)
            equalised = equalise(waveform, gains, rate)
            assert decibels(power(equalised) / power(waveform)) == pytest.approx(gain, abs=0.1)
            assert np.correlate(equalised, waveform, "full").argmax() == rate - 1
    low = tone(rate, 40.0, rate)
    assert decibels(power(equalise(low, gains, rate)) / power(low)) == pytest.approx(-9, abs=0.1)
    assert np.allclose(equalise(white(999), np.zeros(7), rate), white(999), atol=1e-6)


def test_the_telephone_band() -> None:
    for frequency, passes in [(100.0, False), (300.0, True), (3400.0, True), (3600.0, False)]:
        waveform = tone(RATE, frequency) * np.hanning(RATE).astype(np.float32)
        kept = power(band_pass(waveform, 300.0, 3400.0, RATE)) / power(waveform)
        assert kept > 0.95 if passes else kept < 1e-4


@pytest.mark.parametrize("margins", [(0.0, 0.0), (0.1, 0.0), (0.05, 0.15)])
def test_a_gate_leaves_what_is_said_and_digital_silence_around_it(margins: tuple) -> None:
    hiss = white(2 * RATE, 1e-4)
    waveform = hiss.copy()
    start, stop = RATE // 2, RATE // 2 + 8000  # at whole frames
    waveform[start:stop] += tone(8000, 440.0)
    gated = gate(waveform, np.array(margins), RATE)
    first, last = start - round(margins[0] * RATE), stop + round(margins[1] * RATE)
    assert np.array_equal(gated[first:last], waveform[first:last])
    assert not gated[:first].any()
    assert not gated[last:].any()
    assert np.array_equal(gate(hiss[:1], np.array(margins), RATE), hiss[:1])


def test_a_share_of_the_sounds_is_gated() -> None:
    quiet_at_first = np.pad(tone(RATE, 440.0), (RATE, 0)) + white(2 * RATE, 1e-4)
    augmenter = Augmenter(dataclasses.replace(OFF, gate=0.5), [], RATE)
    gated = [not augmenter(quiet_at_first, generator(k))[: RATE // 2].any() for k in range(200)]
    assert 70 < sum(gated) < 130


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"gate_seconds": (-0.1, 0.1)}, "gate_seconds starts at -0.1"),
        ({"noise": 1.5}, "noise is 1.5"),
        ({"shift_fraction": float("nan")}, "shift_fraction"),
        ({"gain_db": (6.0, -30.0)}, "low end first"),
        ({"speed_factor": (0.0, 1.0)}, "more than 0"),
        ({"time_masks": -1}, "0 or more"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(setting: dict, reason: str) -> None:
    with pytest.raises(AugmentError, match=reason):
        AugmentConfig(**setting)


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 120),
    coefficients=st.integers(1, 40),
    share=st.floats(0.0, 1.0),
    masks=st.integers(0, 4),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_masks_stay_within_their_share_and_off_the_padding(
    frames: int, coefficients: int, share: float, masks: int, seed: int, data: st.DataObject
) -> None:
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, frames), min_size=1, max_size=4)))
    config = AugmentConfig(
        time_masks=masks, time_mask_share=share, time_mask_frames=30, coefficient_masks=0
    )
    features = torch.rand(len(lengths), frames, coefficients) + 1.0
    masked = spec_augment(features, lengths, config, torch.Generator().manual_seed(seed))
    for before, after, length in zip(features, masked, lengths.tolist(), strict=True):
        assert torch.equal(before[length:], after[length:])
        gone = (after[:length] == 0).all(dim=1)
        assert int(gone.sum()) <= min(share * length + 1e-6, 30 * masks)
        assert torch.equal(after[:length][~gone], before[:length][~gone])


def test_coefficient_masks_are_bands_over_all_valid_frames() -> None:
    config = AugmentConfig(time_masks=0, coefficient_masks=1, coefficient_mask_width=5)
    features, lengths = torch.rand(64, 30, 20) + 1.0, torch.full((64,), 25)
    masked = spec_augment(features, lengths, config, torch.Generator().manual_seed(0))
    gone = masked[:, :25] == 0
    assert torch.equal(gone, gone[:, :1].expand_as(gone))
    widths = gone[:, 0].sum(dim=1)
    assert sorted(set(widths.tolist())) == [0, 1, 2, 3, 4, 5]
    edges = gone[:, 0].int().diff(dim=1).abs().sum(dim=1)
    assert int(edges.max()) <= 2
    assert torch.equal(masked[:, 25:], features[:, 25:])


def test_masks_are_drawn_for_each_utterance_and_repeat_with_the_generator() -> None:
    features, lengths = torch.rand(8, 100, 20) + 1.0, torch.full((8,), 100)
    first = spec_augment(features, lengths, AugmentConfig(), torch.Generator().manual_seed(3))
    second = spec_augment(features, lengths, AugmentConfig(), torch.Generator().manual_seed(3))
    assert torch.equal(first, second)
    assert len({tuple(mask.flatten().tolist()) for mask in (first == 0)}) > 1
