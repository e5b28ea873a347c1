"""Archives: results in shards that are written once, whatever is killed, from paths and URLs."""

import contextlib
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.batch import shards as shards_module
from asr.batch.locations import Url, public
from asr.batch.shards import ArchiveError, Sink, plan
from asr.batch.sources import Source, find_sources
from asr.batch.store import LOCK, LockError, Store
from asr.batch.workers import TRIES, Report, Work, Workers
from asr.transcripts.formats import ShardFormat
from tests.support.commands import ASR, environment, hide_packages, run_asr, run_python
from tests.support.tiny_models import SAMPLE_RATE, tones

pytest.importorskip("fsspec", reason="comes with the extra ray")


def write_archive(folder: Path, count: int) -> Path:
    """Write `count` recordings, each with letters of its own, and a file that is no sound."""
    for number in range(count):
        letters = ["abc"[number // 3**place % 3] for place in range(3)]
        path = folder / f"{number % 3}" / f"{number:04}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tones(*letters), SAMPLE_RATE)
    (folder / "poisoned.wav").write_bytes(b"RIFF____WAVE")
    return folder


def rows_of(folder: Path) -> list[dict]:
    """The rows of all shards of JSON lines, in order."""
    parts = sorted(folder.glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive") / "in", 130)


def test_shards_hold_a_row_for_each_file(archive: Path, speech_model: Path, tmp_path: Path) -> None:
    command = ("transcribe", archive, "-m", speech_model, "-o", tmp_path / "out")
    first = run_asr(*command, "--shards", "jsonl", "--jobs", 2)
    assert first.returncode == 2 and first.stderr.endswith("error: 1 of 131 files failed\n")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["manifest.jsonl", "part-000000.jsonl", "part-000001.jsonl"]
    rows = rows_of(tmp_path / "out")
    assert [row["file"] for row in rows] == sorted(map(str, archive.rglob("*.wav")))
    texts = {Path(row["file"]).stem: row["text"] for row in rows if "text" in row}
    assert len(texts) == 130 and texts["0005"] == "cba"
    [poisoned] = [row for row in rows if "error" in row]
    assert poisoned["file"].endswith("poisoned.wav") and "cannot be decoded" in poisoned["error"]
    again = run_asr(*command, "--shards", "jsonl")
    assert (again.returncode, again.stderr) == (0, "131 of 131 files were done before\n")


@pytest.mark.slow
def test_parquet_has_the_same_rows(archive: Path, speech_model: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="comes with the extra ray")
    for format in ShardFormat:
        run_asr(
            *("transcribe", archive / "1", "-m", speech_model),
            *("-o", tmp_path / format, "--shards", format),
        )
    [part] = (tmp_path / "parquet").glob("part-*.parquet")
    rows = parquet.read_table(part).to_pylist()
    for row, line in zip(rows, rows_of(tmp_path / "jsonl"), strict=True):
        assert {name: row[name] for name in ("file", "text", "duration")} == {
            name: line[name] for name in ("file", "text", "duration")
        }
        assert row["segments"][0]["words"] == line["segments"][0]["words"] and row["error"] is None


def test_keywords_come_in_a_row_for_each_file(keyword_model: Path, tmp_path: Path) -> None:
    for name, word in (("one", "low"), ("two", "high")):
        path = tmp_path / "in" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, tones(word, seconds=0.5, pause=0.3), SAMPLE_RATE)
    options = ("-m", keyword_model, "-o", tmp_path / "out", "--shards", "jsonl")
    assert run_asr("spot", tmp_path / "in", *options).returncode == 0
    found = [[find["label"] for find in row["detections"]] for row in rows_of(tmp_path / "out")]
    assert found == [["low"], ["high"]]


def test_new_files_come_into_new_shards(speech_model: Path, tmp_path: Path) -> None:
    write_archive(tmp_path / "in", 3)
    command = ("transcribe", tmp_path / "in", "-m", speech_model, "-o", tmp_path / "out")
    run_asr(*command, "--shards", "jsonl")
    first = (tmp_path / "out" / "part-000000.jsonl").read_bytes()
    soundfile.write(tmp_path / "in" / "0" / "later.wav", tones("b"), SAMPLE_RATE)
    again = run_asr(*command, "--shards", "jsonl")
    assert again.stderr.startswith("4 of 5 files were done before\n1 files, ")
    assert (tmp_path / "out" / "part-000000.jsonl").read_bytes() == first
    assert [row["text"] for row in rows_of(tmp_path / "out")[4:]] == ["b"]


def test_results_of_something_else_are_refused(
    speech_model: Path, keyword_model: Path, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in", 2)
    command = ("transcribe", tmp_path / "in", "-o", tmp_path / "out", "--shards", "jsonl")
    run_asr(*command, "-m", speech_model)
    other = run_asr(*command, "-m", speech_model, "--beam", 4)
    assert other.returncode == 2 and other.stderr.count("\n") == 1
    assert "holds results of another model, other options" in other.stderr
    soundfile.write(tmp_path / "in" / "0" / "0000.wav", tones("c", "c", "c", "c"), SAMPLE_RATE)
    changed = run_asr(*command, "-m", speech_model)
    assert "0000.wav: has changed since" in changed.stderr and changed.returncode == 2


@pytest.mark.parametrize("victim", [pytest.param("driver", marks=pytest.mark.slow), "workers"])
def test_nothing_is_lost_or_doubled_by_kills(
    archive: Path, speech_model: Path, tmp_path: Path, victim: str
) -> None:
    """Kill the driver again and again, and give the same command until it is done; or kill
    processes under it, less often than a file is tried."""
    out = tmp_path / "out"
    command = [*ASR, "transcribe", str(archive), "-m", str(speech_model), "-o", str(out)]
    command += ["--shards", "jsonl", "--jobs", "2"]
    rng = np.random.default_rng(1)
    kills = 6 if victim == "driver" else TRIES - 1
    for _ in range(20):
        with subprocess.Popen(
            command, env=environment(), stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            while process.poll() is None and kills:
                time.sleep(float(rng.uniform(0.5, 1.5)))
                kills -= _kill(process.pid, victim, rng)
            process.communicate(timeout=300)
        if process.returncode in (0, 2):
            break
    rows = rows_of(out)
    assert sorted(row["file"] for row in rows) == sorted(map(str, archive.rglob("*.wav")))
    assert [Path(row["file"]).name for row in rows if "error" in row] == ["poisoned.wav"]


def _kill(driver: int, victim: str, rng: np.random.Generator) -> bool:
    """Kill the driver or a process under it, once it has some; return whether that was done."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
        if children:
            os.kill(driver if victim == "driver" else int(rng.choice(children)), signal.SIGKILL)
            return True
    return False


def counted(folder: Path) -> Work:
    """Give the names of files; "kill" takes its process down, the first time only."""

    def work(file: object, _: Report) -> str:
        mark = folder / "killed"
        if str(file) == "kill" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return str(file)

    return work


def test_a_file_whose_process_was_killed_is_tried_again(tmp_path: Path) -> None:
    with contextlib.closing(Workers(functools.partial(counted, tmp_path), 1)) as workers:
        for names in (["a", "kill", "b"], ["c"]):
            results = workers.process([Path(name) for name in names])
            assert sorted(result for _, result in results if isinstance(result, str)) == sorted(
                names
            )


# Folders that somebody else writes to


def test_a_folder_that_another_run_writes_to_is_refused(
    archive: Path, speech_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for options in (("--shards", "jsonl"), ()):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(out)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holder:
            assert holder.stdout and holder.stdout.readline() == b"held\n"
            result = run_asr("transcribe", archive, "-m", speech_model, "-o", out, *options)
            assert (result.returncode, result.stderr.count("\n")) == (2, 1)
            assert f"{out}: another run is writing there" in result.stderr
            assert [path.name for path in out.iterdir()] == [LOCK]
            holder.kill()  # which leaves the file, and holds nothing any more
    with Store(str(out)).locked():
        assert (out / LOCK).exists()
    assert not (out / LOCK).exists()


HOLDER = """
import sys
from asr.batch.store import Store
with Store(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_behind_a_url_goes_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://locks/out")
    with store.locked():
        with pytest.raises(LockError, match="another run is writing there"), store.locked():
            pass
        monkeypatch.setattr("asr.batch.store.STALE_SECONDS", -1.0)
        with store.locked():
            pass


# URLs


def test_results_and_recordings_may_be_in_memory(tmp_path: Path, speech_model: Path) -> None:
    """`memory://` lives in one process only: all of it happens in one."""
    wav = tmp_path / "a.wav"
    soundfile.write(wav, tones("a", "b"), SAMPLE_RATE)
    result = run_python(
        f"""
import json, sys
import fsspec
memory = fsspec.filesystem("memory")
memory.pipe_file("/talks/deep/a.wav", open({str(wav)!r}, "rb").read())
memory.pipe_file("/talks/notes.txt", b"none")
sys.argv = ["asr", "transcribe", "memory://talks", "-m", {str(speech_model)!r},
            "-o", "memory://out", "--shards", "jsonl", "--jobs", "1"]
from asr.cli import main
try:
    main()
finally:
    print(sorted(memory.ls("/out", detail=False)))
    print(json.loads(memory.cat_file("/out/part-000000.jsonl"))["file"])
"""
    )
    assert result.stdout.splitlines() == [
        "['/out/manifest.jsonl', '/out/part-000000.jsonl']",
        "memory:///talks/deep/a.wav",
    ], result.stderr


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a server on this machine, of the files in `tmp_path`."""
    pytest.importorskip("aiohttp", reason="comes with the extra ray")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_recordings_may_be_on_a_server(tmp_path: Path, speech_model: Path, web: str) -> None:
    (tmp_path / "talks").mkdir()
    soundfile.write(tmp_path / "talks" / "a.flac", tones("a", "c"), SAMPLE_RATE)
    (tmp_path / "talks" / "b.wav").write_bytes(b"none")
    both = run_asr("transcribe", f"{web}/talks/", "-m", speech_model)
    assert both.stdout == f"{web}/talks/a.flac: ac\n" and both.returncode == 2
    assert f"error: {web}/talks/b.wav: cannot be decoded" in both.stderr
    secret = f"{web}/talks/a.flac?token=very-secret"
    one = run_asr("transcribe", secret, "-m", speech_model, "-f", "json")
    assert json.loads(one.stdout)["file"] == f"{web}/talks/a.flac", one.stderr
    gone = run_asr("transcribe", f"{web}/nothing.wav?token=very-secret", "-m", speech_model)
    assert gone.returncode == 2 and gone.stderr.count("\n") == 1
    assert "very-secret" not in one.stdout + one.stderr + gone.stderr


def test_secrets_in_urls_are_not_shown() -> None:
    url = Url("https://user:password@host/talks/a.wav?X-Signature=abc#part", 1, "v")
    assert str(url) == "https://host/talks/a.wav" == public(url.full)
    assert "password" not in repr(url) and "abc" not in repr(url)


def test_urls_that_nothing_can_open_are_one_line(tmp_path: Path) -> None:
    result = run_asr("transcribe", "nonsense://talks")
    assert result.returncode == 2 and "no such kind of address" in result.stderr
    hidden = hide_packages(tmp_path / "hidden", "fsspec")
    result = run_asr("transcribe", "s3://talks", **hidden)
    assert 'fsspec is not installed; pip install "earshot-asr[ray]"' in result.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--engine", "ray"], "name their folder with --output"),
        (["--shards", "jsonl"], "name their folder with --output"),
        (["--address", "localhost:6379"], "add --engine ray"),
        (["--shards", "jsonl", "-o", "x", "-f", "srt"], "srt is a file for each"),
        (["--shards", "jsonl", "-o", "x", "--overwrite"], "shards are written once"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str], problem: str) -> None:
    result = run_asr("transcribe", "talks", *options)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and problem in result.stderr


# The plan


def test_shards_are_cut_by_files_and_by_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "BYTES", 1000)
    sources = [
        Source(Url(f"memory://in/{n:03}.wav", size), Path())
        for n, size in enumerate([400, 400, 400, 5000, *[1] * 150])
    ]
    store = Store(str(tmp_path))
    sink = Sink(store, ShardFormat.jsonl)
    todo, done = plan(store, sink, sources, "model")
    assert [len(shard.files) for shard in todo] == [2, 1, 1, 100, 50] and done == 0
    sink.write(1, ['{"file": "x"}\n'])
    todo, done = plan(store, sink, sources, "model")
    assert [shard.number for shard in todo] == [0, 2, 3, 4] and done == 1
    with pytest.raises(ArchiveError, match="was begun with it"):
        plan(store, sink, sources[1:], "model")


def test_sources_have_their_places_below_what_was_asked_for(archive: Path) -> None:
    found = find_sources([f"file://{archive}/1"])
    places = [source.place.as_posix() for source in found if isinstance(source, Source)]
    assert len(places) == len(found) == 43 and places[0] == "0001.wav"
