"""Reading audio: every format, rate and width comes out the same, every bad file says why not."""

import io
import logging
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from features.audio import AudioError, find_audio, read_audio, stream_audio, stream_pipe
from features.audio.mp3 import mp3_frames
from features.audio.parts import Damage
from features.audio.window import Window

RATE = 16000
FORMATS = {
    "wav": {},
    "flac": {},
    "aiff": {},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {},
}


def tone(seconds: float, rate: int, frequency: float = 440.0) -> np.ndarray:
    """A float32 sine of amplitude 0.5, faded in and out so that codecs and filters keep it."""
    time = np.arange(round(seconds * rate)) / rate
    fade = np.clip(np.minimum(time, time[::-1]) / 0.05, 0.0, 1.0)
    return (0.5 * fade * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: Any) -> Path:
    sf.write(path, samples, rate, **options)
    return path


def streamed(path: Path, block_seconds: float = 0.1) -> np.ndarray:
    blocks = list(stream_audio(path, RATE, block_seconds=block_seconds))
    assert all(block.dtype == np.float32 and len(block) for block in blocks)
    return np.concatenate(blocks)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_back_the_tone(suffix: str, tmp_path: Path) -> None:
    expected = tone(1.0, RATE)
    audio = read_audio(write(tmp_path / f"tone.{suffix}", expected, **FORMATS[suffix]), RATE)
    assert audio.dtype == np.float32
    assert audio.shape == expected.shape
    assert np.sqrt(np.mean((audio - expected) ** 2)) < 0.01


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_any_rate_and_channel_count_becomes_mono_at_the_models_rate(
    rate: int, tmp_path: Path
) -> None:
    left = tone(0.5, rate)
    path = write(tmp_path / "stereo.wav", np.stack([left, 0.5 * left], axis=1), rate)
    audio = read_audio(path, RATE)
    expected = 0.75 * tone(0.5, RATE)
    assert abs(len(audio) - len(expected)) <= 1
    assert np.abs(audio - expected[: len(audio)]).max() < 2e-3


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_sample_width_has_the_same_full_scale(subtype: str, tmp_path: Path) -> None:
    path = write(tmp_path / "wide.wav", tone(0.1, RATE), subtype=subtype)
    assert np.abs(read_audio(path, RATE) - tone(0.1, RATE)).max() < 0.01


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_streamed_equals_whole(suffix: str, rate: int, tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((rate + 77, 2)).astype(np.float32)
    path = write(tmp_path / f"noise.{suffix}", noise, rate, **FORMATS[suffix])
    whole = read_audio(path, RATE)
    for block_seconds in (0.013, 0.1, 10.0):
        blocks = streamed(path, block_seconds)
        assert blocks.shape == whole.shape
        assert np.abs(blocks - whole).max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 300),
    rate=st.sampled_from([8000, 11025, 16000, 44100, 48000, 192000]),
    block_seconds=st.floats(1e-6, 0.05),
)
def test_short_files_always_give_something(
    samples: int, rate: int, block_seconds: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("short") / "a.wav", np.full(samples, 0.1), rate)
    whole = read_audio(path, RATE)
    assert abs(len(whole) - max(1.0, samples * RATE / rate)) <= 1.0
    assert np.array_equal(streamed(path, block_seconds), whole)


def test_silent_and_clipped_files_are_audio(tmp_path: Path) -> None:
    assert not read_audio(write(tmp_path / "silent.wav", np.zeros(100)), RATE).any()
    clipped = read_audio(write(tmp_path / "clipped.wav", np.ones(100), subtype="FLOAT"), RATE)
    assert (clipped == 1.0).all()


@pytest.mark.slow
def test_streaming_a_long_file_takes_constant_memory(tmp_path: Path) -> None:
    """Ten minutes of 48 kHz stereo are 220 MiB as float32; a block of it is 0.4 MiB."""
    path = tmp_path / "long.flac"
    with sf.SoundFile(path, "w", 48000, 2) as file:
        for _ in range(600):
            file.write(np.zeros((48000, 2), np.int16))
    next(stream_audio(path, RATE))
    tracemalloc.start()
    samples = sum(len(block) for block in stream_audio(path, RATE))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples == 600 * RATE
    assert peak < 4 * 2**20


@pytest.mark.parametrize(
    ("dtype", "full_scale", "middle"),
    [("int8", 128, 0), ("int16", 2**15, 0), ("int32", 2**31, 0), ("uint8", 128, 128)],
)
def test_integer_arrays_are_divided_by_their_full_scale(
    dtype: str, full_scale: int, middle: int
) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    array = np.array([low, middle, high], dtype)
    expected = [-1.0, 0.0, (high - middle) / full_scale]
    assert np.allclose(read_audio(array, RATE), expected, atol=1e-7)


def test_arrays_are_resampled_and_mixed_like_files(tmp_path: Path) -> None:
    stereo = np.stack([tone(0.3, 44100), tone(0.3, 44100, 700.0)], axis=1)
    path = write(tmp_path / "stereo.wav", stereo, 44100, subtype="FLOAT")
    from_array = read_audio(stereo.astype(np.float64), RATE, source_rate=44100)
    assert np.array_equal(from_array, read_audio(path, RATE))


def test_the_callers_array_is_never_handed_back() -> None:
    array = tone(0.1, RATE)
    read_audio(array, RATE)[:] = 7.0
    assert np.array_equal(array, tone(0.1, RATE))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((4, 0), np.float32), "no samples"),
        (np.zeros((2, 48000), np.float32), r"\(samples, channels\)"),
        (np.zeros((2, 2, 2), np.float32), "shape"),
        (np.zeros(8, np.complex64), "complex64"),
        (np.array(["a"]), "<U1"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([0.0, -np.inf]), "infinite"),
        (np.array([0.0, 1e300]), "infinite"),
        (np.array([0.0, 20000.0]), "divide 16-bit values by 32768"),
    ],
)
def test_arrays_that_are_no_audio_say_why(array: np.ndarray, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        read_audio(array, RATE)


def test_rates_that_cannot_be_meant() -> None:
    with pytest.raises(AudioError, match="rate is 0 Hz"):
        read_audio(np.zeros(8), RATE, source_rate=0)


def refused(path: Path) -> str:
    """The one line that reading and streaming `path` both answer with."""
    with pytest.raises(AudioError) as whole:
        read_audio(path, RATE)
    with pytest.raises(AudioError) as blocks:
        list(stream_audio(path, RATE))
    message = str(whole.value)
    assert message == str(blocks.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "raw", "txt"])
def test_files_that_hold_no_audio_say_so(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(b"")
    assert "empty file" in refused(path)
    path.write_bytes(b"these are words, not sound" * 50)
    assert "convert it to WAV or FLAC" in refused(path)


def test_missing_files_folders_and_pipes_say_so(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "missing.wav")
    assert "is a folder" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    assert "not a regular file" in refused(tmp_path / "pipe.wav")


def test_a_header_without_samples_says_so(tmp_path: Path) -> None:
    assert "no sample" in refused(write(tmp_path / "header.wav", np.zeros(0)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused_wherever_they_stand(bad: float, tmp_path: Path) -> None:
    samples = tone(2.5, RATE)
    samples[-1] = bad
    path = write(tmp_path / "bad.wav", samples, subtype="FLOAT")
    assert "NaN or infinite" in refused(path)


def test_a_path_has_its_own_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(0.1, RATE))
    with pytest.raises(AudioError, match="leave source_rate out"):
        read_audio(path, RATE, source_rate=8000)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_truncated_files_give_their_beginning_or_one_line(
    suffix: str, share: float, tmp_path: Path
) -> None:
    samples = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    path = write(tmp_path / f"cut.{suffix}", samples, **FORMATS[suffix])
    expected, content = read_audio(path, RATE), path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    try:
        audio = read_audio(path, RATE)
    except AudioError:
        assert share <= 0.1
        refused(path)
        return
    assert len(audio) >= (share - 0.35) * len(expected)
    checked = max(0, len(audio) - RATE // 4)  # the last packet of a lossy codec may differ
    assert np.abs(audio[:checked] - expected[:checked]).max(initial=0.0) < 1e-4
    assert np.abs(streamed(path) - audio).max() < 1e-6


def test_a_damaged_file_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)
    path = write(tmp_path / "cut.flac", noise)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.WARNING):
        audio = read_audio(path, RATE)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: damaged: only its first {len(audio) / RATE:.2f} s can be decoded"
    ]


@pytest.mark.parametrize("length", [0, 2**36 - 1])
def test_flac_whose_header_leaves_the_length_open_is_read_to_its_end(
    length: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Encoders that write to a pipe cannot go back and fill in the number of samples."""
    path = write(tmp_path / "piped.flac", tone(1.3, RATE))
    expected = read_audio(path, RATE)
    content = bytearray(path.read_bytes())
    content[21] = (content[21] & 0xF0) | (length >> 32)
    content[22:26] = (length & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(content)
    assert np.array_equal(read_audio(path, RATE), expected)
    assert np.array_equal(streamed(path), expected)
    assert not caplog.records


def test_find_audio_walks_folders_in_order_and_leaves_the_rest(tmp_path: Path) -> None:
    names = ["b.wav", "a/z.FLAC", "a/deep/er.opus", "c.mp3", "d.aiff"]
    for name in [*names, "notes.txt", ".hidden.wav", "a/._b.wav"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_audio(tmp_path) == sorted(tmp_path / name for name in names)
    assert find_audio(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_find_audio_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no audio in this folder"):
        find_audio(tmp_path)
    with pytest.raises(AudioError, match="no such file or folder"):
        find_audio(tmp_path / "nowhere")


@pytest.mark.skipif("ASR_DATA" not in os.environ, reason="ASR_DATA names no recordings")
def test_real_recordings_are_read() -> None:
    for folder in filter(Path.is_dir, Path(os.environ["ASR_DATA"]).iterdir()):
        for path in find_audio(folder)[:3]:
            audio = read_audio(path, RATE)
            assert len(audio) > RATE // 10
            assert audio.std() > 0.0
            if len(audio) < 60 * RATE:
                assert np.array_equal(streamed(path), audio)


def joined(tmp_path: Path, suffix: str) -> tuple[Path, np.ndarray]:
    """A file and the same twice over, and what the first of them holds."""
    path = write(tmp_path / f"once.{suffix}", tone(1.0, RATE), **FORMATS[suffix])
    twice = tmp_path / f"twice.{suffix}"
    twice.write_bytes(2 * path.read_bytes())
    return twice, read_audio(path, RATE)


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "opus", "flac"])
def test_joined_recordings_are_read_one_after_the_other(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, once = joined(tmp_path, suffix)
    audio = read_audio(path, RATE)
    assert np.abs(audio - np.tile(once, 2)).max() < 1e-4
    assert np.array_equal(streamed(path), audio)
    assert np.array_equal(read_audio(path.read_bytes(), RATE), audio)
    assert not caplog.records


def mp3_frames_of(path: Path) -> list[bytes]:
    return [unit.data for unit in mp3_frames(Window(io.BytesIO(path.read_bytes())), Damage())]


def test_mp3_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    """Without the tag that counts its frames, libsndfile guesses from the size of the first."""
    samples = np.concatenate([np.zeros(4 * RATE, np.float32), tone(4.0, RATE, 3000.0)])
    path = write(tmp_path / "a.mp3", samples, bitrate_mode="VARIABLE", compression_level=0.9)
    path.write_bytes(b"".join(mp3_frames_of(path)[1:]))
    assert 8.0 <= len(read_audio(path, RATE)) / RATE < 8.2


def test_mp3_goes_on_after_a_hole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.mp3", tone(4.0, RATE))
    frames = mp3_frames_of(path)
    middle = len(frames) // 2
    path.write_bytes(b"".join([*frames[:middle], bytes(4000), *frames[middle:]]))
    audio = read_audio(path, RATE)
    assert len(audio) > 3.9 * RATE
    after = audio[
        -3 * RATE // 2 : -RATE // 2
    ]  # right after a hole, frames lack bits from before it
    assert np.std(after) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert np.array_equal(streamed(path), audio)
    assert "4000 bytes in one place" in caplog.messages[0]
    assert capfd.readouterr().err == ""


def test_ogg_says_what_it_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.ogg", tone(9.0, RATE), **FORMATS["ogg"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert len(read_audio(path, RATE)) > 0
    assert "are no sound, the rest was read" in caplog.messages[0]


@pytest.mark.parametrize(("riff", "data"), [(0, 0), (36, 0), (None, 0), (2**32 - 1, 2**32 - 1)])
def test_wav_whose_header_was_never_finished_is_read(
    riff: int | None, data: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.wav", tone(1.0, RATE))
    expected, content = read_audio(path, RATE), bytearray(path.read_bytes())
    if riff is not None:
        content[4:8] = riff.to_bytes(4, "little")
    content[40:44] = data.to_bytes(4, "little")
    path.write_bytes(content)
    assert np.array_equal(read_audio(path, RATE), expected)
    assert np.array_equal(streamed(path), expected)


def test_wav_that_ends_early_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.wav", tone(1.0, RATE))
    path.write_bytes(path.read_bytes()[:-2000])
    assert len(read_audio(path, RATE)) == RATE - 1000
    assert caplog.messages == [f"{path}: damaged: 2000 of its 32000 bytes are missing"]


def test_channels_in_opposite_phase_do_not_cancel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = tone(1.0, RATE)
    path = write(tmp_path / "a.wav", np.stack([left, -0.97 * left], axis=1), subtype="FLOAT")
    audio = read_audio(path, RATE)
    assert np.array_equal(audio, left)
    assert len(caplog.records) == 1
    assert "opposite phase" in caplog.messages[0]
    for block_seconds in (0.007, 0.02, 0.3):
        assert np.array_equal(streamed(path, block_seconds), audio)


@pytest.mark.parametrize(
    "name", [b"caf\xe9.wav", "caf\u00e9.wav".encode(), b"new\nline\x1b[2J.wav"]
)
def test_any_name_is_read_and_shown_on_one_line(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    plain = write(tmp_path / "plain", tone(0.1, RATE), format="WAV")
    path.write_bytes(plain.read_bytes())
    assert np.array_equal(read_audio(path, RATE), read_audio(plain, RATE))
    assert find_audio(tmp_path) == [path]
    path.write_bytes(b"no sound " * 100)
    with pytest.raises(AudioError) as error:
        read_audio(path, RATE)
    assert str(error.value).isprintable()
    str(error.value).encode()


def test_rates_no_recorder_has_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "slow.wav", np.zeros(3000), 1)
    assert "its rate is 1 Hz" in refused(path)
    for rate in (999, 10**9, float("nan")):
        with pytest.raises(AudioError, match="its rate is"):
            read_audio(np.zeros(8), RATE, source_rate=rate)


def test_whatever_holds_samples_is_audio(tmp_path: Path) -> None:
    samples = tone(0.2, RATE)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    content = path.read_bytes()
    spent = io.BytesIO(content)
    spent.read()
    with path.open("rb") as file:
        sources = [content, bytearray(content), spent, file, list(samples), np.ma.array(samples)]
        for source in sources:
            assert np.array_equal(read_audio(source, RATE), samples)
            assert np.array_equal(np.concatenate(list(stream_audio(source, RATE))), samples)


@pytest.mark.parametrize(
    "source",
    [
        iter([np.zeros(8)]),
        io.StringIO("a"),
        b"",
        b"no sound",
        io.BytesIO(),
        None,
        [[1.0], []],
        3,
        np.ma.array([1.0, 2.0], mask=[False, True]),
        {"a": 1},
        "a\0b.wav",
    ],
)
def test_what_holds_none_is_refused_in_one_line(source: Any) -> None:
    with pytest.raises(AudioError) as error:
        read_audio(source, RATE)
    assert "\n" not in str(error.value)


def hide_media_readers(monkeypatch: pytest.MonkeyPatch, *, ffmpeg: bool) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    if not ffmpeg:
        monkeypatch.setenv("PATH", "")


def write_m4a(path: Path, samples: np.ndarray) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("reader", ["PyAV", "ffmpeg"])
def test_what_phones_record_is_read(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_m4a(tmp_path / os.fsdecode(b"phon\xe9.m4a"), tone(1.0, RATE))
    if reader == "ffmpeg":
        if not shutil.which("ffmpeg"):
            pytest.skip("no ffmpeg here")
        hide_media_readers(monkeypatch, ffmpeg=True)
    audio = read_audio(path, RATE)
    assert abs(len(audio) - RATE) < 0.1 * RATE
    assert np.std(audio[RATE // 4 : RATE // 2]) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert np.array_equal(streamed(path), audio)
    assert np.array_equal(read_audio(path.read_bytes(), RATE), audio)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        piped = stream_pipe(cast(BinaryIO, cat.stdout), RATE)
        assert np.array_equal(np.concatenate(list(piped)), audio)
    assert find_audio(tmp_path) == [path]


def test_what_nothing_here_reads_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_m4a(tmp_path / "phone.m4a", tone(0.5, RATE))
    hide_media_readers(monkeypatch, ffmpeg=False)
    assert "earshot-asr[media]" in refused(path)
    with pytest.raises(AudioError, match=r"1 \.m4a"):
        find_audio(tmp_path)
    other = write(tmp_path / "a.oga", tone(0.5, RATE), format="OGG")
    assert find_audio(tmp_path) == [other]
    assert "left out 1 .m4a" in caplog.messages[0]
