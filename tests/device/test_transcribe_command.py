"""`asr transcribe` and `asr spot` on many files, into folders, and through pipes."""

import fcntl
import json
import multiprocessing
import os
import pty
import re
import resource
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.batch.workers import File, Report, Work, WorkerError, in_order, process_files
from asr.cli.terminal import CLEAR_LINE, Progress
from features.audio import AudioError
from tests.support import tiny_models
from tests.support.commands import ASR, environment, run_asr
from tests.support.tiny_models import SAMPLE_RATE, tones

PAUSE = np.zeros(SAMPLE_RATE, np.float32)
SPEECH = np.concatenate([tones("a", "b", " ", "c"), PAUSE, tones("b", "a")])
FULL = 1000  # bytes that fit on the full disk


@pytest.fixture
def model(speech_model: Path) -> Path:
    return speech_model


@pytest.fixture
def keywords(keyword_model: Path) -> Path:
    return keyword_model


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three recordings in folders, each with words of its own."""
    for name, words in (("one.wav", "a"), ("b/two.flac", "b"), ("b/deep/three.ogg", "ac")):
        path = tmp_path / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tones(*words), SAMPLE_RATE)
    return tmp_path / "recordings"


def wav(path: Path, audio: np.ndarray = SPEECH) -> Path:
    soundfile.write(path, audio, SAMPLE_RATE)
    return path


def piped(data: bytes, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    command = [*ASR, *map(str, arguments)]
    return subprocess.run(
        command, input=data, env=environment(), capture_output=True, timeout=120, check=False
    )


def contents(folder: Path) -> dict[str, str]:
    """What is in a folder, the journal apart."""
    files = (path for path in folder.rglob("*") if path.is_file())
    texts = {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in files}
    texts.pop(".earshot.jsonl", None)
    return texts


def test_subtitles_and_ctm_of_a_file(tmp_path: Path, model: Path) -> None:
    path = wav(tmp_path / "my talk.wav")
    srt = run_asr("transcribe", path, "-m", model, "-f", "srt")
    assert srt.stdout == (
        "1\n00:00:00,100 --> 00:00:01,200\nab c\n\n2\n00:00:02,400 --> 00:00:03,400\nba\n\n"
    )
    vtt = run_asr("transcribe", path, "-m", model, "-f", "vtt")
    assert vtt.stdout.startswith("WEBVTT\n\n00:00:00.100 --> 00:00:01.200\nab c\n\n")
    ctm = run_asr("transcribe", path, path, "-m", model, "-f", "ctm").stdout.splitlines()
    assert ctm[:3] == [
        "my_talk 1 0.100 0.500 ab 1.0000",
        "my_talk 1 1.000 0.200 c 1.0000",
        "my_talk 1 2.400 0.500 ba 1.0000",
    ]
    assert ctm[3:] == ctm[:3]


@pytest.mark.parametrize(
    ("format", "text"), [("txt", "b\n"), ("ctm", "two 1 0.100 0.200 b 1.0000\n")]
)
def test_a_folder_is_mirrored(
    tmp_path: Path, recordings: Path, model: Path, format: str, text: str
) -> None:
    out = tmp_path / "deep" / "out"
    result = run_asr("transcribe", recordings, "-m", model, "-f", format, "-o", out)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    found = contents(out)
    assert found.keys() == {f"one.{format}", f"b/two.{format}", f"b/deep/three.{format}"}
    assert found[f"b/two.{format}"] == text


def test_a_file_is_what_would_have_been_printed(
    tmp_path: Path, recordings: Path, model: Path
) -> None:
    for format in ("txt", "json", "vtt"):
        arguments = ("transcribe", recordings / "one.wav", "-m", model, "-f", format)
        run_asr(*arguments, "-o", tmp_path / "out")
        assert contents(tmp_path / "out")[f"one.{format}"] == run_asr(*arguments).stdout


@pytest.mark.slow
def test_what_is_done_and_unchanged_is_not_done_again(
    tmp_path: Path, recordings: Path, model: Path
) -> None:
    out = tmp_path / "out"

    def redone(*more: object, model: Path = model) -> tuple[set[str], str]:
        """The transcripts that a run writes: each is marked before it."""
        for path in out.rglob("*.txt"):
            path.write_text("old")
        result = run_asr("transcribe", recordings, "-m", model, "-o", out, *more)
        assert (result.returncode, result.stdout) == (0, "")
        return {name for name, text in contents(out).items() if text != "old"}, result.stderr

    everything = {"one.txt", "b/two.txt", "b/deep/three.txt"}
    assert redone() == (everything, "")
    assert redone() == (set(), "3 of 3 files were done before\n")
    assert redone("--overwrite") == (everything, "")
    wav(recordings / "one.wav", tones("c", "c"))
    assert redone() == ({"one.txt"}, "2 of 3 files were done before\n")
    (out / "b" / "two.txt").unlink()
    assert redone()[0] == {"b/two.txt"}
    other = tiny_models.with_card(model, tmp_path / "other.onnx", name="other")
    assert redone(model=other)[0] == everything
    assert redone(model=other)[0] == set()
    assert redone("--beam", 4)[0] == everything
    assert redone("--beam", 4)[0] == set()
    assert redone()[0] == everything
    journal = out / ".earshot.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]) + lines[-1][:40])  # the power went
    assert len(redone()[0]) == 1
    assert redone()[0] == set()


def test_another_file_of_the_same_name_is_not_taken_for_done(tmp_path: Path, model: Path) -> None:
    for name, word in (("x", "a"), ("y", "b")):
        (tmp_path / name).mkdir()
        wav(tmp_path / name / "talk.wav", tones(word))
        run_asr("transcribe", tmp_path / name, "-m", model, "-o", tmp_path / "out")
        assert contents(tmp_path / "out") == {"talk.txt": f"{word}\n"}
    both = run_asr("transcribe", tmp_path / "x", tmp_path / "y", "-m", model, "-o", tmp_path / "o")
    assert contents(tmp_path / "o") == {"talk.txt": "a\n"}
    assert both.returncode == 2
    assert both.stderr.startswith(f"error: {tmp_path}/y/talk.wav: its transcript would be ")


def test_processes_print_the_same_in_the_same_order(tmp_path: Path, model: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        words = rng.choice(["a", "b", "c"], size=rng.integers(1, 40))
        wav(tmp_path / f"{number:02}.wav", tones(*words))
    one, three = (run_asr("transcribe", tmp_path, "-m", model, "-j", jobs) for jobs in (1, 3))
    assert one.stdout == three.stdout and one.stdout.count("\n") == 12
    assert (three.returncode, three.stderr) == (0, "")


def test_spotting_with_processes_prints_the_same(tmp_path: Path, keywords: Path) -> None:
    for number in range(3):
        words = ("low", "high", "low")[number:]
        wav(tmp_path / f"{number}.wav", tones(*words, seconds=0.4, pause=0.6))
    one, two = (run_asr("spot", tmp_path, "-m", keywords, "-j", jobs) for jobs in (1, 2))
    assert one.stdout == two.stdout and one.stdout.count("\n") == 6


@pytest.mark.parametrize("jobs", [1, 2])
def test_broken_files_are_reported_at_the_end(tmp_path: Path, model: Path, jobs: int) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(10):
        path = wav(folder / f"{number}.wav", tones("a"))
        if number % 3 == 0:
            path.write_bytes(b"RIFF" + bytes(number))
    (folder / "dangling.wav").symlink_to(tmp_path / "nowhere.wav")
    flac = folder / "damaged.flac"
    soundfile.write(flac, 0.1 * np.random.default_rng(0).standard_normal(32000), SAMPLE_RATE)
    flac.write_bytes(flac.read_bytes()[:20_000])
    result = run_asr("transcribe", folder, "-m", model, "-o", out, "-j", jobs)
    assert result.returncode == 2
    warnings, *errors, total = result.stderr.splitlines()
    assert warnings.startswith(f"warning: {flac}: damaged: only its first ")
    bad = ["0.wav", "3.wav", "6.wav", "9.wav", "dangling.wav"]
    assert [line.removeprefix("error: ").partition(": ")[0] for line in errors] == [
        str(folder / name) for name in bad
    ]
    assert total == "error: 5 of 12 files failed"
    assert contents(out).keys() == {f"{n}.txt" for n in (1, 2, 4, 5, 7, 8, "damaged")}


def test_output_is_a_folder(tmp_path: Path, recordings: Path, model: Path) -> None:
    out = tmp_path / "text.txt"
    out.write_text("mine")
    result = run_asr("transcribe", recordings / "one.wav", "-m", model, "-o", out)
    message = f"error: {out} is a file and --output names a folder; write one transcript to a file"
    assert (result.returncode, result.stdout) == (2, "") and result.stderr.startswith(message)
    assert out.read_text() == "mine"
    result = run_asr("transcribe", recordings / "one.wav", "-m", model, "-o", tmp_path / "new.srt")
    assert result.returncode == 2 and "new.srt is a file and --output names" in result.stderr
    assert not (tmp_path / "new.srt").exists()


def test_a_pipe_is_not_shared_out(model: Path) -> None:
    result = piped(b"", "transcribe", "-", "-m", model, "--jobs", 2)
    assert result.stderr == b"error: --jobs shares out files; leave it out with standard input\n"


@pytest.mark.parametrize("format", ["txt", "json"])
def test_control_characters_in_names_are_shown_escaped(
    tmp_path: Path, model: Path, format: str
) -> None:
    names = ["a\nb.wav", "c\x1b[31m.wav"]
    for name in names:
        wav(tmp_path / name, tones("a"))
    result = run_asr("transcribe", tmp_path, "-m", model, "-f", format)
    lines = result.stdout.splitlines()
    if format == "txt":
        assert lines == [f"{tmp_path}/a\\nb.wav: a", f"{tmp_path}/c\\x1b[31m.wav: a"]
    else:
        assert [json.loads(line)["file"] for line in lines] == [f"{tmp_path}/{n}" for n in names]
    assert "\x1b" not in result.stdout


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, model: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    wav(folder / "1 short.wav", tones("a"))
    wav(folder / "2 long.wav", np.concatenate([tones("a", "b"), PAUSE] * 30))
    command = [*ASR, "transcribe", str(folder), "-m", str(model), "-f", "srt", "-j", "1"]
    result = subprocess.run(
        [*command, "-o", str(out)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL)),
    )
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {out}/2 long.srt: cannot be written (File too large); make ro")
    assert contents(out).keys() == {"1 short.srt"}
    again = run_asr(*command[len(ASR) :], "-o", out)
    assert (again.returncode, again.stderr) == (0, "1 of 2 files were done before\n")
    assert contents(out)["2 long.srt"].endswith("ab\n\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_full_file_system(tmp_path: Path, recordings: Path, model: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "earshot", str(out)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        (out / "filler").write_bytes(bytes(12_288))
        result = run_asr("transcribe", recordings, "-m", model, "-o", out, "-j", 1)
        assert result.returncode == 2
        assert "No space left on device" in result.stderr and "\n" not in result.stderr[:-1]
        assert not any(name.endswith(".part") for name in contents(out))
        assert all(contents(out).values())
    finally:
        subprocess.run(["umount", str(out)], check=True)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, recordings: Path, model: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for out in (tmp_path / "file" / "sub", Path("/proc/earshot")):
        result = run_asr("transcribe", recordings, "-m", model, "-o", out)
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {out}") and "cannot be written (" in line
        assert (result.returncode, result.stdout) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-f", "docx"), "'docx' is not one of"),
        (("-f", "srt"), "srt is for one file; name a folder to write to with --output"),
        (("--overwrite",), "--overwrite is about the files of --output"),
        (("--raw-rate", "16000"), "--raw-rate is about standard input; give - as the PATH"),
        (("-",), "- is standard input and stands alone"),
        (("--jobs", "0"), "--jobs"),
        (("--n-best", "3"), "--n-best is about JSON and txt has one text; add -f json"),
        (("--lm-weight", "0.5"), "--lm-weight is about a language model; name one with --lm"),
        (("--word-bonus", "1"), "--word-bonus is about a language model; name one with --lm"),
    ],
)
def test_options_without_effect_are_refused(
    recordings: Path, model: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run_asr("transcribe", recordings, "-m", model, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_ctrl_c_stops_at_once_and_the_same_command_goes_on(tmp_path: Path, model: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(40):
        wav(folder / f"{number}.wav", np.resize(tones("a"), 20 * SAMPLE_RATE))
    command = ["transcribe", str(folder), "-m", str(model), "-o", str(out), "-j", "2"]
    with subprocess.Popen(
        [*ASR, *command],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of processes of its own, as a terminal makes one
    ) as process:
        while len(list(out.rglob("*.txt"))) < 2:  # so that one is in the journal
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "")
    done = contents(out)
    assert 0 < len(done) < 40 and all(name.endswith(".txt") for name in done)
    again = run_asr(*command)
    known = int(again.stderr.removesuffix(" of 40 files were done before\n"))
    assert known in (len(done), len(done) - 1)  # one may not have come into the journal
    assert len(contents(out)) == 40


def on_a_terminal(*arguments: object, both: bool = False) -> str:
    """Run a command whose standard error is a terminal, `both`: its output too; what that shows."""
    terminal, end = pty.openpty()
    shown: list[bytes] = []

    def watch() -> None:
        try:
            while data := os.read(terminal, 4096):
                shown.append(data)
        except OSError:  # how Linux says that the other end is closed
            return

    watcher = threading.Thread(target=watch)
    watcher.start()
    command, out = [*ASR, *map(str, arguments)], end if both else subprocess.DEVNULL
    terminal_kind = environment(TERM="xterm")
    subprocess.run(command, env=terminal_kind, stdout=out, stderr=end, check=True, timeout=120)
    os.close(end)
    watcher.join()
    os.close(terminal)
    return b"".join(shown).decode()


@pytest.mark.slow
def test_progress_within_a_long_file_is_shown_on_a_terminal(tmp_path: Path, model: Path) -> None:
    path = wav(tmp_path / "long.wav", np.resize(SPEECH, 400 * SAMPLE_RATE))
    shown = on_a_terminal("transcribe", path, "-m", model)
    assert re.search(
        r"\[#*\.*\]   0:\d\d:\d\d of 0:06:40   \d+ x real time   0:00:\d\d left", shown
    )
    assert shown.endswith("\r\x1b[K") and "files" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_of_several_files_is_shown_on_a_terminal(
    tmp_path: Path, model: Path, jobs: int
) -> None:
    for name in ("a", "b", "c"):
        wav(tmp_path / f"{name}.wav", np.resize(SPEECH, 100 * SAMPLE_RATE))
    shown = on_a_terminal("transcribe", tmp_path, "-m", model, "-j", jobs, both=True)
    *lines, rest = shown.split(CLEAR_LINE)
    assert any(
        re.match(r"\[#*\.*\]   \d/3 files   0:\d\d:\d\d of audio   ", line) for line in lines
    )
    results = [line for line in (*lines, rest) if line.startswith(str(tmp_path))]
    assert sum(line.count("\r\n") for line in results) == 3  # and nothing else is on their lines


def test_progress_counts_the_parts_of_files() -> None:
    files = [Path("a.wav"), Path("b.wav")]
    progress = Progress(files, lambda path: 3600.0 if path == files[0] else None)
    progress.report(0, 1800.0)
    progress.report(1, 60.0)
    assert progress.line(62.0) == (
        "[######..................]   0/2 files   0:31:00 of audio   30 x real time   0:03:06 left"
    )
    progress.done(0)
    assert "[############............]   1/2 files   " in progress.line(62.0)
    alone = Progress(files[1:], lambda _: None)
    alone.report(0, 60.0)
    assert alone.line(2.0) == "0:01:00 of audio   30 x real time"


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_file_through_a_pipe(tmp_path: Path, model: Path, suffix: str) -> None:
    path = tmp_path / f"talk.{suffix}"
    soundfile.write(path, SPEECH, SAMPLE_RATE)
    result = piped(path.read_bytes(), "transcribe", "-", "-m", model)
    assert (result.stdout, result.stderr, result.returncode) == (b"ab c\nba\n", b"", 0)


def test_raw_samples_through_a_pipe(model: Path, keywords: Path) -> None:
    samples = (SPEECH[::2] * 32767).astype("<i2").tobytes()
    result = piped(samples + b"\0", "transcribe", "-", "-m", model, "--raw-rate", 8000)
    assert result.stdout == b"ab c\nba\n" and result.returncode == 0
    assert result.stderr.startswith(b"warning: standard input: damaged: it ends inside a sample")
    words = (tones("low", "high", seconds=0.4, pause=0.6) * 32767).astype("<i2").tobytes()
    found = piped(words, "spot", "-", "-m", keywords, "--raw-rate", SAMPLE_RATE, "-f", "json")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [(line["file"], line["label"]) for line in lines] == [("-", "low"), ("-", "high")]


@pytest.mark.parametrize(
    ("format", "first"),
    [
        ("txt", "ab c\n"),
        ("ctm", "- 1 0.100 0.500 ab 1.0000\n"),
        ("json", '{"schema": 1, "file": "-", "text": "ab c", "start": 0.1, "end": 1.2, "words": ['),
    ],
)
def test_an_utterance_is_written_as_soon_as_it_ends(model: Path, format: str, first: str) -> None:
    command = [*ASR, "transcribe", "-", "-m", str(model), "-f", format]
    with subprocess.Popen(
        [*command, "--raw-rate", str(SAMPLE_RATE)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdin and process.stdout
        speech = np.concatenate([tones("a", "b", " ", "c"), PAUSE])
        process.stdin.write((speech * 32767).astype("<i2").tobytes())
        assert process.stdout.readline().decode().startswith(first)  # and the pipe is still open
        process.stdin.close()
        process.stdout.read()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("format", ["txt", "json", "srt"])
def test_ctrl_c_ends_the_utterance_that_is_open(model: Path, format: str) -> None:
    command = [*ASR, "transcribe", "-", "-m", str(model), "-f", format]
    with subprocess.Popen(
        [*command, "--raw-rate", str(SAMPLE_RATE)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write((SPEECH * 32767).astype("<i2").tobytes())
        while any(fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output = process.stdout.read()
        assert (process.wait(timeout=60), process.stderr.read()) == (130, b"")
    texts = {
        "txt": lambda: output.decode().splitlines(),
        "json": lambda: [json.loads(line)["text"] for line in output.splitlines()],
        "srt": lambda: output.decode().splitlines()[2::4],
    }
    assert texts[format]() == ["ab c", "ba"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "standard input: nothing comes from it; pipe a recording into it"),
        (b"no sound " * 99, "standard input: cannot be decoded ("),
    ],
)
def test_a_pipe_without_audio(model: Path, data: bytes, message: str) -> None:
    for command, other in (("transcribe", model), ("spot", None)):
        arguments = ("-m", other) if other else ()
        result = piped(data, command, "-", *arguments)
        (line,) = result.stderr.decode().splitlines()
        assert line.startswith(f"error: {message}") and result.returncode == 2
        assert result.stdout == b""


def test_a_pipe_has_no_name_for_an_output_file(tmp_path: Path, model: Path) -> None:
    result = piped(b"", "transcribe", "-", "-m", model, "-o", tmp_path)
    assert result.stderr.startswith(b"error: standard input has no name to write to; use > FILE")


def fragile() -> Work:
    """Give a file's name as its result; "kill" takes the process down, "endless" has no end."""

    def work(file: File, _: Report) -> str:
        assert isinstance(file, Path)
        if file.name == "kill":
            os._exit(3)
        if file.name == "endless":
            time.sleep(1e6)
        if file.name == "bad":
            raise AudioError("bad: no audio")
        return file.name

    return work


def broken() -> Work:
    os._exit(3)


def test_a_process_that_dies_fails_its_file_only() -> None:
    names = ["a", "kill", "bad", "b", "kill", *map(str, range(200)), "kill"]
    answers = list(process_files(fragile, [Path(name) for name in names], 2))
    assert sorted(index for index, _ in answers) == list(range(len(names)))
    results = dict(answers)
    for index, name in enumerate(names):
        if name == "kill":
            assert str(results[index]).startswith(
                "kill: the process that worked on it died; convert"
            )
        else:
            assert str(results[index]) == ("bad: no audio" if name == "bad" else name)


def test_processes_that_cannot_start_are_an_error() -> None:
    with pytest.raises(WorkerError, match="ended at once; try --jobs 1"):
        list(process_files(broken, [Path("a"), Path("b")], 2))


def timed() -> Work:
    """Report a second of audio for each letter of a file's name."""

    def work(file: File, report: Report) -> str:
        assert isinstance(file, Path)
        for seconds in range(len(file.name)):
            report(seconds + 1.0)
        return file.name

    return work


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_audio_that_is_done_is_reported(jobs: int) -> None:
    reports: dict[int, float] = {}
    for index, result in process_files(timed, [Path("a"), Path("bcd")], jobs, reports.__setitem__):
        assert isinstance(result, str) and reports[index] == len(result)
    assert reports == {0: 1.0, 1: 3.0}


def test_no_process_outlives_a_consumer_that_stops() -> None:
    before = set(multiprocessing.active_children())
    results = process_files(fragile, [Path("a"), *[Path("endless")] * 9], 2)
    assert next(results) == (0, "a")
    children = set(multiprocessing.active_children()) - before
    assert len(children) == 2
    results.close()
    for child in children:
        child.join(timeout=30)
        assert not child.is_alive()


@given(st.permutations(range(12)))
def test_results_in_order_come_as_early_as_they_can(order: list[int]) -> None:
    given_out: list[int] = []

    def results() -> Iterator[tuple[int, str | AudioError]]:
        for place, index in enumerate(order):
            yield index, str(index)
            ready = next(n for n in range(13) if n not in order[: place + 1])
            assert given_out == list(range(ready))

    for index, result in in_order(results()):
        given_out.append(index)
        assert result == str(index)
    assert given_out == list(range(12))
