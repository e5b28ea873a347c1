"""The synthesised words that other tests train on: reproducible, and different from each other."""

import json
from pathlib import Path

import numpy as np

from features.audio import find_audio, read_audio
from tests.support.synthetic_speech import (
    SAMPLE_RATE,
    WORDS,
    say,
    speaker,
    write_manifest,
    write_noise,
    write_words,
)


def envelope(sound: np.ndarray) -> np.ndarray:
    """Log energies of 12 bands in 8 stretches of the sound: a crude ear."""
    stretches = np.array_split(sound, 8)
    bands = [np.array_split(np.abs(np.fft.rfft(part)) ** 2, 12) for part in stretches]
    energies = [[band.mean() for band in stretch] for stretch in bands]
    return np.log(np.array(energies) + 1e-4).ravel()


def test_words_of_unseen_speakers_differ() -> None:
    templates = {
        word: np.mean([envelope(say(word, speaker(n))) for n in range(12)], axis=0)
        for word in WORDS
    }
    for word in WORDS:
        for found in (envelope(say(word, speaker(n), take=1)) for n in range(20, 32)):
            distances = {w: np.linalg.norm(found - t) for w, t in templates.items()}
            assert min(distances, key=distances.__getitem__) == word


def test_speech_is_the_same_every_time_and_new_with_every_take() -> None:
    assert np.array_equal(say("yes no", speaker(3)), say("yes no", speaker(3)))
    assert not np.array_equal(say("yes", speaker(3)), say("yes", speaker(3), take=1))
    assert len({speaker(n).name for n in range(50)}) == 50


def test_folders_are_in_the_speech_commands_layout(tmp_path: Path) -> None:
    paths = find_audio(write_words(tmp_path, speakers=range(3)))
    assert len(paths) == len(WORDS) * 3 * 2
    for path in paths:
        name, take = path.stem.split("_nohash_")
        assert path.parent.name in WORDS
        assert len(name) == 8 and int(name, 16) >= 0
        assert take in ("0", "1")
        sound = read_audio(path, SAMPLE_RATE)
        assert len(sound) == SAMPLE_RATE
        assert 0.2 < np.abs(sound).max() < 1.0


def test_manifests_name_files_durations_texts_and_speakers(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, speakers=range(2), texts=["yes", "stop left no"])
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [entry["text"] for entry in entries] == ["yes", "stop left no"] * 2
    assert len({entry["speaker"] for entry in entries}) == 2
    for entry in entries:
        sound = read_audio(manifest.parent / entry["audio_filepath"], SAMPLE_RATE)
        assert len(sound) == round(entry["duration"] * SAMPLE_RATE)


def test_noise_is_there_to_be_mixed_in(tmp_path: Path) -> None:
    noises = [read_audio(path, SAMPLE_RATE) for path in find_audio(write_noise(tmp_path))]
    assert [len(noise) for noise in noises] == [5 * SAMPLE_RATE] * 2
