"""The microphone for real: what is played on a virtual speaker is recognised by the programs."""

import contextlib
import io
import json
import os
import pty
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import soundfile

from tests.support import tiny_models
from tests.support.commands import ASR, DEMO, environment, run_asr, run_python
from tests.support.tiny_models import FREQUENCIES, SAMPLE_RATE, tones
from tests.support.virtual_sound import VirtualSound, missing, virtual_sound

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

WAIT_SECONDS = 30.0
INTERRUPTED = 130


@pytest.fixture
def sound() -> Iterator[VirtualSound]:
    with tempfile.TemporaryDirectory() as home, virtual_sound(Path(home)) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and recordings that the speaker plays."""
    folder = tmp_path_factory.mktemp("sound")
    tiny_models.streaming_ctc(folder / "speech.onnx")
    tiny_models.streaming_classify(folder / "keywords.onnx")
    soundfile.write(folder / "keywords.wav", tones("low", "high", seconds=0.4, pause=0.6), 16000)
    pause = np.zeros(2 * SAMPLE_RATE, np.float32)
    soundfile.write(folder / "low.wav", tones("low", seconds=0.4, pause=0.6), SAMPLE_RATE)
    soundfile.write(folder / "speech.wav", np.concatenate([tones("a", "b"), pause]), SAMPLE_RATE)
    return folder


class Lines:
    """The lines of a pipe as they come."""

    def __init__(self, pipe: IO[str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        with contextlib.suppress(OSError):  # how a terminal says that its other end is closed
            for line in pipe:
                self._lines.put(line)

    def until(self, pattern: str) -> str:
        """Wait for a line that matches and return it."""
        while True:
            line = self._lines.get(timeout=WAIT_SECONDS)
            if re.search(pattern, line):
                return line

    def rest(self) -> list[str]:
        """Return what comes until the program closes the pipe."""
        self._reader.join(WAIT_SECONDS)
        return list(self._lines.queue)


@contextlib.contextmanager
def running(
    command: list[str], sound: VirtualSound
) -> Iterator[tuple[subprocess.Popen[str], Lines, Lines]]:
    """Run a program to where it listens; give it, its stdout and its stderr."""
    with subprocess.Popen(
        command,
        env=environment(**sound.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stderr
        out, problems = Lines(process.stdout), Lines(process.stderr)
        try:
            problems.until("listening to")
            yield process, out, problems
        finally:
            if process.poll() is None:
                process.kill()


def stop(process: subprocess.Popen[str]) -> int:
    """Press Ctrl-C and return the exit code."""
    process.send_signal(signal.SIGINT)
    return process.wait(WAIT_SECONDS)


@pytest.mark.slow
def test_listen_keeps_the_sound_of_keywords_only_where_it_is_asked_to(
    sound: VirtualSound, folder: Path, tmp_path: Path
) -> None:
    played, kept = tmp_path / "played.wav", tmp_path / "kept"
    quiet = tones("low", seconds=0.5, pause=2.5, level=0.037)
    soundfile.write(played, np.concatenate([quiet, tones("high", pause=2.5)]), SAMPLE_RATE)
    command = [*ASR, "listen", "-m", str(folder / "keywords.onnx"), "-f", "json"]
    command += ["--keywords", "low=1, high", "--save", str(kept)]
    with running(command, sound) as (process, out, _):
        sound.play(played)
        assert json.loads(out.until("label"))["label"] == "high"
        assert stop(process) == INTERRUPTED
    rows = [json.loads(line) for line in (kept / "moments.jsonl").read_text().splitlines()]
    assert [(row["label"], row["fired"]) for row in rows] == [("low", False), ("high", True)]
    assert "below the threshold" in rows[0]["reason"]
    for row in rows:
        samples, rate = soundfile.read(kept / row["audio"])
        assert row["moment"] == pytest.approx(2.0, abs=0.1) and len(samples) <= 4 * rate
        assert np.abs(samples[rate : 3 * rate]).max() > 0.03
    assert len(list(kept.glob("*.wav"))) == 2


@pytest.mark.slow
def test_listen_spots_what_is_played_and_runs_a_program_for_each_event(
    sound: VirtualSound, folder: Path, tmp_path: Path
) -> None:
    script, log = tmp_path / "act.py", tmp_path / "log"
    script.write_text(
        f"import os; print(os.environ['EARSHOT_LABEL'], file=open({str(log)!r}, 'a'))"
    )
    command = [*ASR, "listen", "-m", str(folder / "keywords.onnx"), "-f", "json"]
    with running([*command, "--exec", f"{sys.executable} '{script}'"], sound) as (process, out, _):
        sound.play(folder / "keywords.wav")
        first, second = (json.loads(out.until("label")) for _ in range(2))
        assert (first["label"], second["label"]) == ("low", "high")
        assert second["time"] - first["time"] == pytest.approx(1.0, abs=0.1)
        assert stop(process) == INTERRUPTED
    assert log.read_text() == "low\nhigh\n"


@pytest.mark.slow
def test_listen_writes_down_what_is_played(sound: VirtualSound, folder: Path) -> None:
    command = [*ASR, "listen", "-m", str(folder / "speech.onnx"), "-f", "json"]
    with running(command, sound) as (process, out, _):
        sound.play(folder / "speech.wav")
        assert json.loads(out.until('"final": false'))["text"] == "a"
        assert json.loads(out.until('"final": true'))["text"] == "ab"
        assert stop(process) == INTERRUPTED


@pytest.mark.slow
def test_listen_spots_typed_keywords(sound: VirtualSound, folder: Path) -> None:
    command = [*ASR, "listen", "-m", str(folder / "speech.onnx"), "-f", "json"]
    with running([*command, "--keywords", "ab, bc", "--near-misses"], sound) as (process, out, _):
        sound.play(folder / "speech.wav")
        assert json.loads(out.until('"label": "ab"')).keys() > {"time", "score", "start", "end"}
        assert stop(process) == INTERRUPTED


@pytest.mark.slow
def test_listen_prints_text_for_people(sound: VirtualSound, folder: Path) -> None:
    command = [*ASR, "listen", "-m", str(folder / "speech.onnx"), "-d", "default"]
    with running(command, sound) as (process, out, _):
        sound.play(folder / "speech.wav")
        assert re.fullmatch(r" *\d+\.\d\d s  ab\n", out.until(" s "))
        assert stop(process) == INTERRUPTED


PITCH = """
import sys
import numpy as np
from asr.microphone import Microphone

with Microphone(500_000) as microphone:  # a rate that no sound server offers
    print("listening to", microphone.name, file=sys.stderr, flush=True)
    loud = np.zeros(0, np.float32)
    for block in microphone:
        if np.abs(block).mean() > 0.2:
            loud = np.append(loud, block)
        if len(loud) > 100_000:
            break
tone = loud[np.abs(loud) > 0.01]  # the first block may begin before the tone does
crossings = np.count_nonzero(np.diff(np.signbit(tone)))
print(f"pitch {crossings / 2 / (len(loud) / 500_000):.0f} Hz")
"""


@pytest.mark.slow
def test_a_device_that_refuses_the_rate_is_resampled(sound: VirtualSound, folder: Path) -> None:
    with running([sys.executable, "-c", PITCH], sound) as (process, out, _):
        sound.play(folder / "keywords.wav")
        pitch = int(out.until("pitch").split()[1])
        assert pitch == pytest.approx(FREQUENCIES["low"], rel=0.05)
        assert process.wait(WAIT_SECONDS) == 0


@pytest.mark.slow
def test_the_demo_shows_what_is_recognised_and_measures(sound: VirtualSound, folder: Path) -> None:
    terminal, end = pty.openpty()
    command = [*DEMO, "--model", str(folder / "keywords.onnx")]
    variables = environment(**sound.environment | {"TERM": "xterm", "LINES": "30"})
    with subprocess.Popen(command, env=variables, stdout=end, stderr=end) as process:
        os.close(end)
        view = Lines(io.TextIOWrapper(io.FileIO(terminal), errors="replace"))
        view.until("say something")
        sound.play(folder / "keywords.wav")
        view.until(r"s +\d+%  high")
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECONDS) == INTERRUPTED
    last = "".join(view.rest())
    assert re.search(
        r"\d+%  low .*\d+%  high .*latency \d+ ms   real-time factor 0\.\d+", last, re.S
    )


SLOW = """
import sys, time
import asr.microphone, asr.stream

asr.microphone.QUEUE_SECONDS = 0.5
push, slow = asr.stream.Stream.push, 12  # blocks that each take as long as five

def push_slowly(stream, block):
    global slow
    slow -= 1
    time.sleep(0.1 if slow > 0 else 0.0)
    return push(stream, block)

asr.stream.Stream.push = push_slowly
"""
RUN = "from asr.cli import main; main()"
ASSIST = ("assist", "--wake", "high", "--then", "commands", "--then-model")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["listen", "assist"])
def test_a_program_that_is_too_slow_says_so_and_goes_on(
    command: str, sound: VirtualSound, folder: Path
) -> None:
    model = str(folder / "keywords.onnx")
    options = ["listen"] if command == "listen" else [*ASSIST, model]
    started = [sys.executable, "-c", SLOW + RUN, *options, "-m", model]
    with running(started, sound) as (process, out, problems):
        warning = problems.until("^warning: ")
        figures = r"too slow: a second of sound takes it (\d+\.\d\d) s, and (\d+\.\d\d) s were lost"
        found = re.search(figures, warning)
        assert found and 4.9 < float(found[1]) < 10.0 and 0.0 <= float(found[2]) < 2.0
        sound.play(folder / "keywords.wav")
        assert ("low" if command == "listen" else "high") in out.until("%")
        assert stop(process) == INTERRUPTED
        said = [line for line in problems.rest() if "too slow" in line]
        # Once while it happens, and what became of it in the end.
        assert len(said) == 1 and re.search(figures, said[0])


@pytest.mark.slow
def test_a_device_that_goes_away_is_an_error(sound: VirtualSound, folder: Path) -> None:
    command = [*ASR, "listen", "-m", str(folder / "keywords.onnx")]
    with running(command, sound) as (process, _, problems):
        sound.daemon.kill()
        line = problems.until("^error: ")
        assert line.startswith("error: 'default' delivers no sound; plug it in again")
        assert process.wait(WAIT_SECONDS) == 2


@pytest.mark.slow
def test_assist_waits_for_a_device_that_went_away(sound: VirtualSound, folder: Path) -> None:
    model = str(folder / "keywords.onnx")
    command = [*ASR, "assist", "--retry", "--wake", "low", "-m", model, "-f", "json"]
    command += ["--then", "commands", "--then-model", model]
    with running(command, sound) as (process, out, problems):
        sound.play(folder / "low.wav")
        assert json.loads(out.until("type"))["type"] == "wake"
        sound.daemon.kill()
        sound.daemon.wait(WAIT_SECONDS)
        assert "'default' delivers no sound" in (line := problems.until("^warning: "))
        assert line.endswith("; waiting for it\n")
        out.until('"type": "sleep"')
        with virtual_sound(Path(sound.environment["HOME"])) as again:
            problems.until("listening to 'default'")
            again.play(folder / "keywords.wav")
            assert json.loads(out.until("type"))["label"] == "low"
            out.until('"type": "detection"')
            assert stop(process) == INTERRUPTED


@pytest.mark.slow
def test_devices_are_listed_and_chosen_by_name(sound: VirtualSound, folder: Path) -> None:
    table = run_asr("devices", **sound.environment)
    assert re.search(r"\* +│ \d+ +│ default +│ ALSA", table.stdout)
    model = folder / "keywords.onnx"
    unknown = run_asr("listen", "-m", model, "-d", "gramophone", **sound.environment)
    (line,) = unknown.stderr.splitlines()
    assert line.startswith("error: there is no input device 'gramophone'; choose one of: 0 '")
    assert "'default'" in line and unknown.returncode == 2


@pytest.mark.skipif(Path("/dev/snd").exists(), reason="this machine has a sound card")
def test_no_microphone_is_an_error(tmp_path: Path, folder: Path) -> None:
    for command in (["devices"], ["listen", "-m", str(folder / "keywords.onnx")]):
        result = run_asr(*command, HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path))
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: no microphone found; plug one in")
        assert (result.stdout, result.returncode) == ("", 2)


def test_a_missing_portaudio_names_its_packages() -> None:
    result = run_python(
        """
import ctypes.util, sys
ctypes.util.find_library = lambda name: None  # as on a machine without the library
sys.argv = ["asr", "devices"]
from asr.cli import main
main()
"""
    )
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: the microphone needs the PortAudio library: apt install ")
    assert result.returncode == 2


@pytest.mark.slow
def test_the_demo_plays_a_file(folder: Path) -> None:
    command = [*DEMO, "-m", str(folder / "keywords.onnx"), "--wav", str(folder / "keywords.wav")]
    result = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=WAIT_SECONDS
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"0\.68 s   67%  low .*1\.68 s   67%  high .*latency", result.stdout, re.S)


def test_what_is_wrong_with_the_demo_is_one_line(folder: Path) -> None:
    command = [*DEMO, "-m", str(folder / "keywords.onnx"), "--wav", str(folder / "none.wav")]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
