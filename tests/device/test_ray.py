"""Archives by Ray: a cluster on this machine, and what can be wrong with one that is elsewhere."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from asr.batch.ray_engine import EngineError, Job
from asr.batch.shards import Sink
from asr.batch.store import Store
from asr.transcripts.formats import ShardFormat
from tests.support.commands import ASR, environment, hide_packages, run_asr
from tests.support.tiny_models import SAMPLE_RATE, tones

on_a_cluster = pytest.mark.skipif(
    "EARSHOT_RAY" not in os.environ, reason="starts Ray's nodes; set EARSHOT_RAY=1 to run it"
)

FILES = 120
FAIR = {
    "RAY_worker_niceness": "0"
}  # else whatever runs beside the tests comes before Ray's workers


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for number in range(FILES):
        soundfile.write(folder / f"{number:03}.wav", tones("a", "b"), SAMPLE_RATE)
    (folder / "poisoned.wav").write_bytes(b"RIFF____WAVE")
    return folder


def check(out: Path, archive: Path) -> None:
    """Each file has a row, once, and only the poisoned one failed."""
    lines = [line for part in out.glob("part-*") for line in part.read_text().splitlines()]
    rows = [json.loads(line) for line in lines]
    assert sorted(row["file"] for row in rows) == sorted(map(str, archive.iterdir()))
    [failed] = [row["file"] for row in rows if "error" in row]
    assert failed.endswith("poisoned.wav")
    assert {row["text"] for row in rows if "text" in row} == {"ab"}


@pytest.mark.slow
@on_a_cluster
def test_ray_writes_the_same_rows(archive: Path, speech_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="comes with the extra ray")
    command = ("transcribe", archive, "-m", speech_model, "-o", tmp_path / "out")
    result = run_asr(*command, "--engine", "ray", "--jobs", 2, **FAIR)
    assert result.returncode == 2, result.stderr
    assert f"error: 1 of {FILES + 1} files failed" in result.stderr
    check(tmp_path / "out", archive)
    again = run_asr(*command, "--shards", "jsonl")  # any engine goes on with what another began
    assert f"{FILES + 1} of {FILES + 1} files were done before" in again.stderr


@pytest.mark.slow
@on_a_cluster
@pytest.mark.parametrize("victim", ["MapWorker", "driver"])
def test_ray_loses_and_doubles_nothing_when_it_is_killed(
    archive: Path, speech_model: Path, tmp_path: Path, victim: str
) -> None:
    pytest.importorskip("ray", reason="comes with the extra ray")
    out = tmp_path / "out"
    command = [*ASR, "transcribe", str(archive), "-m", str(speech_model), "-o", str(out)]
    command += ["--engine", "ray", "--jobs", "1"]
    with subprocess.Popen(command, env=environment(**FAIR), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(out.glob("part-*")):  # in the second shard
            time.sleep(0.05)
        victims = [process.pid] if victim == "driver" else _below(process.pid, victim)
        assert victims and process.poll() is None
        _kill(victims)
        process.wait(timeout=500)
    if victim == "driver":
        assert subprocess.run(command, env=environment(**FAIR), timeout=500).returncode in (0, 2)
    check(out, archive)


@pytest.mark.slow
@on_a_cluster
def test_a_cluster_that_loses_a_machine_loses_and_doubles_nothing(
    archive: Path, speech_model: Path, tmp_path: Path, cluster: Any
) -> None:
    """Two nodes of one core each, of which one is killed with all that runs on it, for good."""
    many, out = tmp_path / "in", tmp_path / "out"
    copy_many(archive, many, 9)
    command = [*ASR, "transcribe", str(many), "-m", str(speech_model), "-o", str(out)]
    command += ["--engine", "ray", "--address", cluster.address]
    with started(command) as process:
        wait_for_shards(process, out, 3)
        [node] = cluster.worker_nodes
        raylet = node.all_processes["raylet"][0].process.pid
        victims = _below(raylet)
        assert any("MapWorker" in _title(victim) for victim in victims)
        _kill(victims)
        _, errors = process.communicate(timeout=500)
    assert process.returncode == 2, errors
    check(out, many)


@pytest.mark.slow
@on_a_cluster
def test_a_cluster_that_loses_its_head_ends_in_one_line_and_the_next_one_goes_on(
    archive: Path, speech_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, out = tmp_path / "in", tmp_path / "out"
    copy_many(archive, many, 9)
    command = [*ASR, "transcribe", str(many), "-m", str(speech_model), "-o", str(out)]
    command += ["--engine", "ray", "--address"]
    with two_nodes(monkeypatch) as cluster, started([*command, cluster.address]) as process:
        wait_for_shards(process, out, 3)
        head = cluster.head_node.all_processes
        _kill([head["gcs_server"][0].process.pid, *_below(head["raylet"][0].process.pid)])
        _, errors = process.communicate(timeout=500)
    assert process.returncode == 2 and errors.count("\n") == 1, errors
    assert "error: Ray has ended, " in errors and "what is done is kept" in errors
    with two_nodes(monkeypatch) as cluster, started([*command, cluster.address]) as process:
        _, errors = process.communicate(timeout=500)
    assert process.returncode == 2 and " files were done before" in errors, errors
    check(out, many)


def copy_many(archive: Path, folder: Path, times: int) -> None:
    """Put each file of an archive into a folder so many times, the poisoned one once."""
    folder.mkdir()
    for number, path in itertools.product(range(times), archive.iterdir()):
        if number == 0 or path.name != "poisoned.wav":
            (folder / f"{number}-{path.name}").hardlink_to(path)


def started(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)


def wait_for_shards(process: "subprocess.Popen[str]", out: Path, count: int) -> None:
    while process.poll() is None and len(list(out.glob("part-*"))) < count:
        time.sleep(0.05)
    assert process.poll() is None


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine."""
    with two_nodes(monkeypatch) as cluster:
        yield cluster


@contextlib.contextmanager
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each."""
    utils = pytest.importorskip("ray.cluster_utils", reason="comes with the extra ray")
    for name, value in FAIR.items():
        monkeypatch.setenv(name, value)
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def _kill(processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _title(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


def _below(ancestor: int, title: str = "") -> list[int]:
    """`ancestor` and the processes under it, by whichever thread, whose command line has `title`
    in it."""
    found, waiting = [], [ancestor]
    while waiting:
        process = waiting.pop()
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                waiting += map(int, children.read_text().split())
        if title in _title(process):
            found.append(process)
    return found


def test_a_missing_engine_is_one_line(archive: Path, speech_model: Path, tmp_path: Path) -> None:
    hidden = hide_packages(tmp_path / "hidden", "ray")
    command = ("transcribe", archive, "-m", speech_model, "-o", tmp_path / "out")
    result = run_asr(*command, "--engine", "ray", **hidden)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert '--engine ray needs ray, which is not installed; pip install "earshot-asr[ray]"' in (
        result.stderr
    )


@pytest.mark.slow
def test_an_address_that_does_not_answer_is_one_line(
    archive: Path, speech_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="comes with the extra ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address, problem in (
        (f"127.0.0.1:{port}", "no Ray cluster answers there"),
        ("somewhere", "is no --address of a Ray cluster"),
    ):
        result = run_asr(
            *("transcribe", archive, "-m", speech_model, "-o", tmp_path / "out"),
            *("--engine", "ray", "--address", address),
        )
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
        assert f"error: {address}: " in result.stderr and problem in result.stderr


def start() -> None:
    """Stands for what would open a model."""


def fingerprint() -> str:
    return "this model"


@pytest.mark.parametrize(
    ("version", "wanted", "problem"),
    [("0.0.0", "this model", "and the driver has 0.0.0"), (None, "that model", "another model")],
)
def test_a_machine_with_something_else_installed_is_refused(
    tmp_path: Path, version: str | None, wanted: str, problem: str
) -> None:
    sink = Sink(Store(str(tmp_path)), ShardFormat.jsonl)
    versions = {} if version is None else {"version": version}
    job = Job(start, sink, fingerprint, wanted, **versions)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=problem):
        job.check()
