"""Models over hours of sound: misses, false alarms, and thresholds that keep a budget."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.decode.keywords.typed import SpotOptions, parse_keywords
from asr.evaluation.alarms import Listening, listen, save_alarms, stream_figures
from asr.evaluation.intervals import poisson_bound
from asr.evaluation.streams import Firing, TypedTrack, Watcher
from asr.evaluation.trials import EvaluationError, read_trials
from asr.events import Detection
from asr.model import load
from asr.stream import Stream
from asr.studies.budget import calibrate_alarms, proof, settle
from tests.support.commands import run_asr, run_python
from tests.support.tiny_models import FREQUENCIES, SAMPLE_RATE, tones

QUIET = np.zeros(SAMPLE_RATE, np.float32)


def write(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, SAMPLE_RATE)


def tone(label: str) -> np.ndarray:
    return tones(label, seconds=0.4, pause=0.3)


def nearly(seconds: float = 0.4) -> np.ndarray:
    """What the tiny model takes for "high", but only just: between that and "_unknown_"."""
    ratios = [2 * np.sin(np.pi * FREQUENCIES[name] / SAMPLE_RATE) for name in ("high", "_unknown_")]
    frequency = np.arcsin((np.mean(ratios) - 0.0015) / 2) * SAMPLE_RATE / np.pi
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.4 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keywords as recordings, and hours that hold none but for one that sounds like "high"."""
    folder = tmp_path_factory.mktemp("streams")
    for label in ("low", "high"):
        for number in range(3):
            write(folder / "words" / label / f"{number}.wav", tone(label))
    for number in range(4):
        sound = np.concatenate([QUIET, tones("_unknown_"), np.tile(QUIET, 6)])
        if number == 2:
            sound = np.concatenate([QUIET, nearly(), QUIET])
        write(folder / "radio" / f"{number}.wav", sound)
    return folder


def test_a_track_fires_as_a_stream_does(keyword_model: Path) -> None:
    model = load(keyword_model)
    sound = np.concatenate([tone(label) for label in ("low", "high", "_unknown_", "low", "low")])
    stream = Stream(model)
    events = [*stream.push(sound), *stream.finish()]
    expected = [Firing(e.time, e.label, e.score) for e in events if isinstance(e, Detection)]
    watcher = Watcher(model)
    assert watcher.watch(np.array_split(sound, 7)).firings(watcher.thresholds) == expected
    assert len(expected) == 4


def test_a_track_of_typed_keywords_fires_as_a_stream_does(speech_model: Path) -> None:
    model = load(speech_model)
    options = SpotOptions(keywords=parse_keywords("ab, ca"))
    sound = tones("a", "b", "_unknown_", "c", "a", seconds=0.1, pause=0.05)
    stream = Stream(model, options)
    events = [*stream.push(sound), *stream.finish()]
    watcher = Watcher(model, options)
    found = watcher.watch([sound]).firings(watcher.thresholds)
    assert [(f.keyword, pytest.approx(f.score)) for f in found] == [
        (e.label, e.score) for e in events if isinstance(e, Detection)
    ]
    assert found


def listening(model: Path, data: Path) -> tuple[Watcher, Listening]:
    watcher = Watcher(load(model))
    trials = read_trials(watcher.model, data / "words").trials
    return watcher, listen(watcher, trials, [data / "radio"])


@pytest.mark.slow
def test_processes_that_share_negatives_give_the_same_figures(
    keyword_model: Path, data: Path, tmp_path: Path
) -> None:
    """To the bit, intervals too, though one of the files cannot be read."""
    radio = shutil.copytree(data / "radio", tmp_path / "radio")
    (radio / "1.wav").write_bytes(b"RIFF____WAVE")
    outputs, figures = [], []
    for jobs in (1, 3):
        result = run_asr(
            *("evaluate", keyword_model, data / "words", "--stream", "--negative", radio),
            *("--jobs", jobs, "--json", tmp_path / f"{jobs}.json"),
        )
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("1.wav: cannot be decoded") == 1, result.stderr
        outputs.append((result.stdout, result.stderr))
        figures.append((tmp_path / f"{jobs}.json").read_bytes())
    assert outputs[0] == outputs[1] and figures[0] == figures[1]
    assert json.loads(figures[0])["streams"] == 3
    assert json.loads(figures[0])["all"]["false_alarms"] == 1


def test_processes_that_share_negatives_need_no_torch() -> None:
    """Each starts afresh and only runs the model: torch would take it seconds and memory."""
    result = run_python("import sys, asr.evaluation.streams; print('torch' in sys.modules)")
    assert result.stdout == "False\n", result.stderr


@pytest.mark.slow
def test_processes_give_the_same_tracks_of_typed_keywords(
    speech_model: Path, tmp_path: Path
) -> None:
    for number in range(5):
        write(tmp_path / f"{number}.wav", tones(*"abcab"[number:], "a", seconds=0.1, pause=0.05))
    watcher = Watcher(load(speech_model), SpotOptions(keywords=parse_keywords("ab, ca")))
    alone, shared = (list(watcher.watch_files([tmp_path], jobs)) for jobs in (1, 2))
    assert [path for path, _ in alone] == [path for path, _ in shared] and len(alone) == 5
    for (_, one), (_, other) in zip(alone, shared, strict=True):
        assert isinstance(one, TypedTrack) and isinstance(other, TypedTrack)
        assert one.peaks == other.peaks and np.array_equal(one.known, other.known)
    assert any(track.firings(watcher.thresholds) for _, track in shared)


def test_misses_and_false_alarms_are_counted(keyword_model: Path, data: Path) -> None:
    watcher, found = listening(keyword_model, data)
    figures = stream_figures(watcher, found, watcher.thresholds)
    assert figures["hours"] == pytest.approx(found.hours)
    assert figures["keywords"]["low"]["said"] == 3 and figures["keywords"]["low"]["missed"] == 0
    assert figures["keywords"]["low"]["false_alarms"] == 0
    assert figures["keywords"]["high"]["false_alarms"] == 1
    assert figures["all"]["at_most"] == pytest.approx(poisson_bound(1) / found.hours)
    assert 0.0 < figures["keywords"]["low"]["delay_median"] + 0.4 < 0.8
    rates = [point["false_alarms_per_hour"] for point in figures["curve"]]
    assert rates == sorted(rates, reverse=True)
    assert (
        stream_figures(watcher, found, dict.fromkeys(("low", "high"), 1.01))["all"]["missed"] == 6
    )


def test_what_caused_an_alarm_is_written(keyword_model: Path, data: Path, tmp_path: Path) -> None:
    watcher, found = listening(keyword_model, data)
    assert save_alarms(found, watcher.thresholds, SAMPLE_RATE, tmp_path) == 1
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("high-0.") and path.suffix == ".flac"
    samples, _ = soundfile.read(path)
    assert np.abs(samples).max() > 0.3 and 1.0 < len(samples) / SAMPLE_RATE < 3.0


def test_calibration_keeps_the_budget_and_says_what_it_proves(
    keyword_model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    figures = calibrate_alarms(
        load(keyword_model), data / "words", out, [data / "radio"], budget=1.0
    )
    alarms = load(out).card.alarms
    assert alarms is not None and set(alarms.thresholds) == {"low", "high"}
    assert figures["all"]["false_alarms"] == figures["all"]["missed"] == 0
    assert alarms.thresholds["high"] > alarms.thresholds["low"]
    assert alarms.budget == 1.0 and alarms.hours == pytest.approx(figures["hours"])
    first, second = proof(alarms, 4)
    assert " s (4 streams" in first and "95 %" in first
    assert second.startswith("this does not prove the budget of 1 an hour")


def test_a_budget_may_cost_no_more_words_than_can_be_spared(
    keyword_model: Path, tmp_path: Path
) -> None:
    """Words that are no clearer than what is none of them: keeping silent there misses them."""
    for number in range(3):
        write(tmp_path / "words" / "high" / f"{number}.wav", np.pad(nearly(), 4_800))
    write(tmp_path / "radio" / "0.wav", np.concatenate([QUIET, nearly(0.8), QUIET]))
    watcher = Watcher(load(keyword_model))
    trials = read_trials(watcher.model, tmp_path / "words", "").trials
    found = listen(watcher, trials, [tmp_path / "radio"])
    deaf, _ = settle(watcher, found, 1.0)
    assert stream_figures(watcher, found, deaf)["all"]["missed"] == 3
    thresholds, alarms = settle(watcher, found, 1.0, spare=0.1)
    row = stream_figures(watcher, found, thresholds)["all"]
    assert row["missed"] == 0 < row["false_alarms"] == alarms.count


def test_a_budget_of_nothing_or_without_sound_is_refused(
    keyword_model: Path, data: Path, tmp_path: Path
) -> None:
    model, out = load(keyword_model), tmp_path / "out.onnx"
    with pytest.raises(EvaluationError, match=r"cannot be proved .* for example 0\.1"):
        calibrate_alarms(model, data / "words", out, [data / "radio"], budget=0.0)
    with pytest.raises(EvaluationError, match="no negatives"):
        calibrate_alarms(model, data / "words", out, [], budget=0.5)
    assert not out.exists()


@pytest.mark.parametrize(("count", "bound"), [(0, 2.996), (1, 4.744), (10, 16.96)])
def test_the_bound_of_a_count_is_that_of_tables(count: int, bound: float) -> None:
    """Upper 95 % limits of a Poisson expectation, as in tables of the chi-squared distribution."""
    assert poisson_bound(count) == pytest.approx(bound, abs=0.005)


@pytest.mark.slow
def test_the_commands_measure_and_calibrate_streams(
    keyword_model: Path, data: Path, tmp_path: Path
) -> None:
    negative = ("--negative", data / "radio")
    out, figures = tmp_path / "out.onnx", tmp_path / "figures.json"
    budget = ("--false-alarms-per-hour", "0.5")
    result = run_asr("calibrate", keyword_model, data / "words", out, *negative, *budget)
    assert result.returncode == 0, result.stderr
    plot = ("--plot", tmp_path / "det.png", "--json", figures)
    result = run_asr("evaluate", out, data / "words", "--stream", *negative, *plot)
    assert result.returncode == 0, result.stderr
    assert json.loads(figures.read_text())["all"]["false_alarms"] == 0
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")
