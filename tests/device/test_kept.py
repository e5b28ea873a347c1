"""Moments that a stream reacts to: found, kept with their sound, reviewed by a person."""

import json
import os
import pty
import select
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr import kept
from asr.events import Detection, Event, NearMiss
from asr.kept import Keeper, read_decisions, read_moments
from asr.stream import Stream
from tests.support.commands import ASR, environment, hide_packages, run_asr
from tests.support.tiny_models import SAMPLE_RATE, tones

BOTH = asr.SpotOptions(keywords=(asr.Keyword("low"), asr.Keyword("high")), near_misses=True)
PAUSE = np.zeros(2 * SAMPLE_RATE, np.float32)


def nearly(label: str) -> np.ndarray:
    """A keyword that is too soft and short to fire."""
    return np.concatenate([PAUSE, tones(label, seconds=0.06, level=0.06), PAUSE])


def events_of(stream: Stream, sound: np.ndarray, keeper: Keeper | None = None) -> list[Event]:
    found = []
    for start in range(0, len(sound), 313):
        block = sound[start : start + 313]
        found += (events := stream.push(block))
        if keeper:
            keeper.push(block, events)
    found += (events := stream.finish())
    if keeper:
        keeper.finish(events)
    return found


@pytest.fixture
def folder(keyword_model: Path, tmp_path: Path) -> Path:
    """What is kept of a near miss of "low", and of "high"."""
    folder = tmp_path / "kept"
    sound = np.concatenate([nearly("low"), tones("high", seconds=0.4), PAUSE])
    events_of(Stream(asr.load(keyword_model), BOTH), sound, Keeper(folder, "tiny", SAMPLE_RATE))
    return folder


def test_trained_keywords_have_near_misses(keyword_model: Path) -> None:
    stream = Stream(asr.load(keyword_model), BOTH)
    sound = np.concatenate([nearly("low"), tones("high", seconds=0.4), PAUSE])
    near, found = events_of(stream, sound)
    assert isinstance(near, NearMiss) and isinstance(found, Detection)
    assert (near.label, found.label) == ("low", "high")
    assert near.reason == "below the threshold of 50%" and 0.25 <= near.score < 0.5
    assert near.time == pytest.approx(2.2, abs=0.15)
    stream.reset()
    assert events_of(stream, sound) == [near, found]


def test_what_fires_is_no_near_miss(keyword_model: Path) -> None:
    stream = Stream(asr.load(keyword_model), BOTH)
    events = events_of(stream, np.concatenate([tones("low", "high", seconds=0.5), PAUSE]))
    assert [type(event) for event in events] == [Detection, Detection]


def test_a_near_miss_at_the_end_comes_with_finish(keyword_model: Path) -> None:
    stream = Stream(asr.load(keyword_model), BOTH)
    (near,) = events_of(stream, nearly("low")[: -len(PAUSE)])
    assert isinstance(near, NearMiss)


def test_the_sound_around_a_moment_is_kept(folder: Path) -> None:
    near, fired = read_moments(folder)
    assert (near.label, near.fired, fired.label, fired.fired) == ("low", False, "high", True)
    samples, rate = soundfile.read(folder / near.audio, dtype="float32")
    assert rate == SAMPLE_RATE and len(samples) == pytest.approx(4.0 * rate, abs=2)
    assert near.moment == pytest.approx(2.0, abs=1e-3)
    loud = np.flatnonzero(np.abs(samples) > 0.03) / rate
    assert 1.7 < loud[0] < loud[-1] < 2.05


def test_a_full_folder_takes_no_more(
    keyword_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 200_000)
    keeper = Keeper(tmp_path, "tiny", SAMPLE_RATE)
    sound = np.concatenate([PAUSE, tones("low", "high", seconds=0.4, pause=1.0), PAUSE])
    events_of(Stream(asr.load(keyword_model)), sound, keeper)
    assert keeper.full and len(read_moments(tmp_path)) == 1
    again = Keeper(tmp_path, "tiny", SAMPLE_RATE)
    events_of(Stream(asr.load(keyword_model)), sound, again)
    assert again.full and sum(p.stat().st_size for p in tmp_path.glob("*.wav")) <= 200_000


def test_a_moment_whose_sound_is_gone_is_not_kept(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, "tiny", SAMPLE_RATE)
    for _ in range(20):
        keeper.push(np.zeros(SAMPLE_RATE, np.float32), [])
    keeper.push(PAUSE, [Detection(3.0, "low", 0.9), Detection(18.0, "low", 0.9)])
    (moment,) = read_moments(tmp_path)
    assert moment.moment == pytest.approx(2.0, abs=1e-3)


def test_damaged_rows_are_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (folder / "moments.jsonl").open("a") as rows:
        rows.write('{"audio": "2026')
    (folder / read_moments(folder)[0].audio).unlink()
    assert [moment.label for moment in read_moments(folder)] == ["high"]
    assert "line 3 is damaged" in caplog.text and "is gone" in caplog.text


# The commands


def review(folder: Path, answers: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ASR, "review", str(folder)],
        input=answers,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_a_review_goes_on_where_it_ended(folder: Path, tmp_path: Path) -> None:
    silent = hide_packages(tmp_path / "hidden", "sounddevice")
    first = review(folder, "y\nq\n", **silent)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"1 of 2 recordings in {folder} are reviewed\n"
    assert "recordings are drawn instead" in first.stderr and "▇▇" in first.stderr
    marks = [line for line in first.stderr.splitlines() if line.strip() == "^"]
    assert len(marks) == 2 and all(30 < len(mark) < 42 for mark in marks)
    second = review(folder, "r\nb\nw door bell\n", **silent)
    assert second.returncode == 0 and second.stderr.count("1/1  'high'") == 2
    assert second.stderr.count("▇▇▇▇▇▇") == 3
    low, high = read_moments(folder)
    assert read_decisions(folder) == {low.audio: "low", high.audio: "door bell"}
    third = review(folder, "")
    assert third.stdout == f"2 of 2 recordings in {folder} are reviewed\n"


def test_a_review_takes_keys_on_a_terminal(folder: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    silent = hide_packages(tmp_path / "hidden", "sounddevice")
    command = [*ASR, "review", str(folder)]
    with subprocess.Popen(
        command, env=environment(**silent), stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        while process.poll() is None:  # a key that comes before it is waited for is lost
            os.write(ours, b"n")
            if select.select([ours], [], [], 0.2)[0]:
                os.read(ours, 1000)
        assert process.returncode == 0
    low, high = read_moments(folder)
    assert read_decisions(folder) == {low.audio: "", high.audio: ""}


def test_what_is_no_answer_or_no_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    result = review(folder, "maybe\n", **hide_packages(tmp_path / "hidden", "sounddevice"))
    assert result.returncode == 2 and "'maybe' is no answer; give y yes" in result.stderr
    result = review(tmp_path, "y\n")
    assert result.returncode == 2 and "asr listen --save" in result.stderr
    (folder / "decisions.jsonl").write_text(json.dumps({"audio": "a.wav"}) + "\n")
    result = review(folder, "y\n")
    assert result.returncode == 2 and "line 1 is no decision" in result.stderr


def test_save_without_keywords_is_refused(speech_model: Path, tmp_path: Path) -> None:
    result = run_asr("listen", "-m", speech_model, "--save", tmp_path / "kept")
    assert result.returncode == 2 and "name them with --keywords" in result.stderr
    assert not (tmp_path / "kept").exists()
