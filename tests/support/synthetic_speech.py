"""Four words from a formant synthesiser, so that tests can train and recognise on a bare machine.

A word is a few phones, each voiced (harmonics of the speaker's pitch under three moving formants),
hissed (noise in a band) or silent. Speakers differ in pitch, vocal tract length and tempo. It is
no voice to listen to, but its words differ as words do: in how their spectrum moves.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

SAMPLE_RATE = 16000
CLIP_SECONDS = 1.0
PAUSE_SECONDS = 0.2
FORMANT_WIDTH = 90.0  # Hz
RAMP_SECONDS = 0.03


@dataclass(frozen=True)
class Phone:
    """A stretch of sound: `formants` (Hz) if voiced, `hiss` (Hz, low to high) if noisy."""

    seconds: float
    formants: tuple[float, float, float] | None = None
    hiss: tuple[float, float] | None = None


SILENCE = Phone(0.06)
WORDS = {
    "yes": (
        Phone(0.08, (280.0, 2250.0, 2900.0)),
        Phone(0.16, (550.0, 1800.0, 2500.0)),
        Phone(0.14, hiss=(4000.0, 7500.0)),
    ),
    "no": (
        Phone(0.10, (250.0, 1100.0, 2300.0)),
        Phone(0.14, (560.0, 920.0, 2400.0)),
        Phone(0.08, (350.0, 750.0, 2300.0)),
    ),
    "stop": (
        Phone(0.14, hiss=(4000.0, 7500.0)),
        SILENCE,
        Phone(0.18, (750.0, 1150.0, 2500.0)),
        SILENCE,
        Phone(0.03, hiss=(300.0, 1500.0)),
    ),
    "left": (
        Phone(0.08, (350.0, 1000.0, 2700.0)),
        Phone(0.14, (550.0, 1800.0, 2500.0)),
        Phone(0.08, hiss=(1500.0, 7000.0)),
        SILENCE,
        Phone(0.03, hiss=(3000.0, 6000.0)),
    ),
}


@dataclass(frozen=True)
class Speaker:
    """Somebody who says words: `pitch` in Hz, `tract` scales formants, `tempo` durations."""

    name: str
    pitch: float
    tract: float
    tempo: float


def speaker(index: int) -> Speaker:
    """The `index`-th of endlessly many speakers, always the same; the name is 8 hex digits."""
    rng = np.random.default_rng([7, index])
    return Speaker(
        name=f"{rng.integers(2**32):08x}",
        pitch=rng.uniform(90.0, 240.0),
        tract=rng.uniform(0.9, 1.15),
        tempo=rng.uniform(0.8, 1.25),
    )


def say(text: str, who: Speaker, take: int = 0) -> np.ndarray:
    """Return float32 (samples,): the words of `text`, pauses between; takes differ slightly."""
    seed = [take, int(who.name, 16), *text.encode()]
    rng = np.random.default_rng(seed)
    pause = np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE))
    parts = [part for word in text.split() for part in (_word(WORDS[word], who, rng), pause)]
    sound = np.concatenate(parts[:-1])
    sound *= rng.uniform(0.3, 0.8) / np.abs(sound).max()
    return (sound + 1e-3 * rng.standard_normal(len(sound))).astype(np.float32)


def write_words(
    root: Path, speakers: Sequence[int], words: Sequence[str] = tuple(WORDS), takes: int = 2
) -> Path:
    """Write one-second clips `<word>/<speaker>_nohash_<take>.wav` under `root`; return `root`."""
    for word in words:
        (root / word).mkdir(parents=True, exist_ok=True)
        for who in map(speaker, speakers):
            for take in range(takes):
                path = root / word / f"{who.name}_nohash_{take}.wav"
                sf.write(path, _centred(say(word, who, take)), SAMPLE_RATE)
    return root


def write_manifest(root: Path, speakers: Sequence[int], texts: Sequence[str]) -> Path:
    """Write each text by each speaker under `root`; return the JSON-lines manifest beside them."""
    root.mkdir(parents=True, exist_ok=True)
    entries = []
    for who in map(speaker, speakers):
        for number, text in enumerate(texts):
            name, sound = f"{who.name}_{number}.flac", say(text, who)
            sf.write(root / name, sound, SAMPLE_RATE)
            seconds = len(sound) / SAMPLE_RATE
            entry = {"audio_filepath": name, "duration": seconds, "text": text}
            entries.append(entry | {"speaker": who.name})
    manifest = root / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return manifest


def write_noise(root: Path, seconds: float = 5.0) -> Path:
    """Write `hiss.wav` and `hum.wav` under `root`, to serve as background noise; return `root`."""
    root.mkdir(parents=True, exist_ok=True)
    hiss = 0.05 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    hum = 0.1 * np.sin(2 * np.pi * 100.0 * np.arange(len(hiss)) / SAMPLE_RATE)
    sf.write(root / "hiss.wav", hiss, SAMPLE_RATE)
    sf.write(root / "hum.wav", hum + 0.1 * hiss, SAMPLE_RATE)
    return root


def _centred(sound: np.ndarray) -> np.ndarray:
    space = round(CLIP_SECONDS * SAMPLE_RATE) - len(sound)
    return np.pad(sound, (space // 2, space - space // 2))


def _word(phones: Sequence[Phone], who: Speaker, rng: np.random.Generator) -> np.ndarray:
    """Return one word, (samples,): its phones one after the other, voiced stretches gliding."""
    tempo = who.tempo * rng.uniform(0.95, 1.05)
    lengths = [round(phone.seconds * SAMPLE_RATE * tempo) for phone in phones]
    phone_of = np.repeat(np.arange(len(phones)), lengths)
    voiced = np.array([phone.formants is not None for phone in phones])[phone_of]
    centres = np.cumsum(lengths) - np.array(lengths) / 2
    tracks = np.array([phone.formants for phone in phones if phone.formants])
    at = [centre for centre, phone in zip(centres, phones, strict=True) if phone.formants]
    time = np.arange(len(phone_of))
    formants = np.stack([np.interp(time, at, track) for track in tracks.T]) * who.tract
    sound = _smooth(voiced) * _voice(formants, who.pitch * rng.uniform(0.95, 1.05))
    for number, phone in enumerate(phones):
        if phone.hiss is not None:
            sound += 0.5 * _smooth(phone_of == number) * _hiss(len(time), phone.hiss, rng)
    return sound


def _voice(formants: np.ndarray, pitch: float) -> np.ndarray:
    """Sum the harmonics of a slightly falling pitch under (3, samples) formants, RMS about 1."""
    samples = formants.shape[1]
    pitches = pitch * np.linspace(1.05, 0.9, samples)
    phase = 2 * np.pi * np.cumsum(pitches) / SAMPLE_RATE
    sound = np.zeros(samples)
    for harmonic in range(1, int(4000.0 / pitch)):
        distance = (harmonic * pitches - formants) / FORMANT_WIDTH
        gain = (np.array([[1.0], [0.6], [0.3]]) / (1.0 + distance**2)).sum(axis=0)
        sound += gain * np.sin(harmonic * phase)
    return sound / np.sqrt(np.mean(sound**2))


def _hiss(samples: int, band: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Return (samples,) of noise between two frequencies in Hz, RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE)
    spectrum[(frequencies < band[0]) | (frequencies > band[1])] = 0.0
    noise = np.fft.irfft(spectrum, samples)
    return noise / np.sqrt(np.mean(noise**2))


def _smooth(gate: np.ndarray) -> np.ndarray:
    """Turn a bool (samples,) gate into one that opens and closes without a click."""
    ramp = np.hanning(round(RAMP_SECONDS * SAMPLE_RATE))
    return np.convolve(gate, ramp / ramp.sum(), "same")
