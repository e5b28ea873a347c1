"""Audio through a pipe: every format and raw PCM, the same samples as from the file."""

import contextlib
import io
import logging
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features.audio import AudioError, read_audio, stream_pipe

RATE = 16000
FORMATS = {
    "wav": {},
    "flac": {},
    "ogg": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {},
    "aiff": {},
}


@pytest.fixture
def piped() -> Iterator[Callable[..., io.BufferedReader]]:
    """Return a function that gives the reading end of a pipe through which bytes come."""
    opened: list[io.BufferedReader] = []

    def pipe(data: bytes, at_once: int = 1 << 16) -> io.BufferedReader:
        outlet, inlet = os.pipe()

        def write() -> None:
            with contextlib.suppress(BrokenPipeError), os.fdopen(inlet, "wb", 0) as file:
                for start in range(0, len(data), at_once):
                    file.write(data[start : start + at_once])

        threading.Thread(target=write, daemon=True).start()
        opened.append(os.fdopen(outlet, "rb"))
        return opened[-1]

    yield pipe
    for file in opened:
        file.close()


def noise(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def read(pipe: io.BufferedReader, rate: int = RATE, source_rate: int | None = None) -> np.ndarray:
    return np.concatenate(list(stream_pipe(pipe, rate, source_rate=source_rate)))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("rate", [RATE, 8000])
def test_a_pipe_gives_what_its_file_gives(
    tmp_path: Path, piped: Callable[..., io.BufferedReader], suffix: str, rate: int
) -> None:
    path = tmp_path / f"noise.{suffix}"
    soundfile.write(path, noise(12.3), RATE, **FORMATS[suffix])
    expected = read_audio(path, rate)
    np.testing.assert_allclose(read(piped(path.read_bytes()), rate), expected, atol=1e-6)
    np.testing.assert_allclose(read(piped(path.read_bytes(), 997), rate), expected, atol=1e-6)
    with path.open("rb") as file:
        np.testing.assert_allclose(read(file, rate), expected, atol=1e-6)


@pytest.mark.parametrize("suffix", sorted(FORMATS.keys() & {"flac", "mp3", "ogg", "opus"}))
@pytest.mark.parametrize("at_once", [997, 1 << 16])
def test_joined_recordings_come_one_after_the_other(
    tmp_path: Path, piped: Callable[..., io.BufferedReader], suffix: str, at_once: int
) -> None:
    path = tmp_path / f"twice.{suffix}"
    soundfile.write(path, noise(1.3), RATE, **FORMATS[suffix])
    path.write_bytes(2 * path.read_bytes())
    found = read(piped(path.read_bytes(), at_once))
    np.testing.assert_allclose(found, read_audio(path, RATE), atol=1e-6)
    assert len(found) > 2.5 * RATE


@pytest.mark.parametrize("at_once", [1, 3, 1000, 1 << 16])
def test_raw_samples_survive_any_cutting(
    piped: Callable[..., io.BufferedReader], at_once: int
) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 2000).astype("<i2")
    found = read(piped(samples.tobytes(), at_once), source_rate=RATE)
    np.testing.assert_array_equal(found, samples.astype(np.float32) / 32768)


def test_raw_samples_are_resampled(piped: Callable[..., io.BufferedReader]) -> None:
    samples = (noise(1.0) * 32768).astype("<i2")
    found = read(piped(samples.tobytes()), source_rate=8000)
    expected = read_audio(samples, RATE, source_rate=8000)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_raw_samples_come_as_soon_as_they_arrive() -> None:
    outlet, inlet = os.pipe()
    with os.fdopen(outlet, "rb") as pipe, os.fdopen(inlet, "wb", 0) as speaker:
        speaker.write(bytes(6))
        blocks = stream_pipe(pipe, RATE, source_rate=RATE)
        assert len(next(blocks)) == 3
        speaker.write(bytes(640))
        assert len(next(blocks)) == 320
        speaker.close()
        assert list(blocks) == []


def test_half_a_sample_at_the_end_is_warned_of(
    piped: Callable[..., io.BufferedReader], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(read(piped(bytes(7)), source_rate=RATE)) == 3
    assert caplog.messages == [
        "standard input: damaged: it ends inside a sample; is it 16-bit mono PCM?"
    ]


@pytest.mark.parametrize("source_rate", [None, RATE])
def test_nothing_is_an_error(
    piped: Callable[..., io.BufferedReader], source_rate: int | None
) -> None:
    with pytest.raises(AudioError, match="standard input: nothing comes from it; pipe a recording"):
        read(piped(b""), source_rate=source_rate)


@pytest.mark.parametrize("data", [b"x", b"fLaC", b"fLaC" + bytes(5000), b"no sound " * 5000])
def test_what_is_no_audio_is_an_error(piped: Callable[..., io.BufferedReader], data: bytes) -> None:
    with pytest.raises(AudioError, match=r"^standard input: .*; ") as error:
        read(piped(data))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_file_cut_short_gives_what_there_is(
    tmp_path: Path, piped: Callable[..., io.BufferedReader], suffix: str
) -> None:
    path = tmp_path / f"noise.{suffix}"
    soundfile.write(path, noise(3.0), RATE)
    found = read(piped(path.read_bytes()[: path.stat().st_size // 2]))
    assert 1.2 * RATE < len(found) <= 1.6 * RATE
    np.testing.assert_allclose(found, read_audio(path, RATE)[: len(found)], atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("suffix", ["wav", "aiff", "au"])
def test_a_file_cut_off_in_a_pipe_is_warned_of(
    tmp_path: Path,
    piped: Callable[..., io.BufferedReader],
    caplog: pytest.LogCaptureFixture,
    suffix: str,
    subtype: str,
) -> None:
    path = tmp_path / f"noise.{suffix}"
    soundfile.write(path, noise(1.0), RATE, subtype)
    data = path.read_bytes()
    width = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}[subtype]
    with caplog.at_level(logging.WARNING):
        assert len(read(piped(data))) == RATE
        assert caplog.messages == []
        read(piped(data[: -1000 * width]))
    said = f"{1000 * width} of its {RATE * width} bytes are missing"
    assert caplog.messages == [f"standard input: damaged: {said}"]


@pytest.mark.parametrize("length", [0x7FFFF000, 0xFFFFFFFF])
def test_a_length_that_nobody_knew_is_not_warned_of(
    piped: Callable[..., io.BufferedReader], caplog: pytest.LogCaptureFixture, length: int
) -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(1.0), RATE, format="WAV")
    data = bytearray(file.getvalue())
    place = data.index(b"data") + 4
    data[place : place + 4] = length.to_bytes(4, "little")
    with caplog.at_level(logging.WARNING):
        assert len(read(piped(bytes(data)))) == RATE
    assert caplog.messages == []


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_memory_does_not_grow_with_the_length_of_a_pipe(
    tmp_path: Path, piped: Callable[..., io.BufferedReader], suffix: str
) -> None:
    peaks = []
    for seconds in (20, 80):
        path = tmp_path / f"{seconds}.{suffix}"
        soundfile.write(path, noise(seconds), RATE)
        pipe = piped(path.read_bytes())
        tracemalloc.start()
        found = sum(map(len, stream_pipe(pipe, RATE)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found == seconds * RATE
    assert peaks[1] < peaks[0] + 100_000


def test_a_reader_that_stops_early_is_no_trouble(
    tmp_path: Path, piped: Callable[..., io.BufferedReader]
) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(60.0), RATE)
    blocks = stream_pipe(piped(path.read_bytes()), RATE)
    assert len(next(blocks)) == RATE // 4
    blocks.close()  # type: ignore[attr-defined]
