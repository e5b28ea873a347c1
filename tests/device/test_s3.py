"""Archives in S3: recordings and results behind a service that speaks its protocol."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from asr.batch.store import LockError, Store
from tests.support.commands import run_asr
from tests.support.tiny_models import SAMPLE_RATE, tones

server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
s3fs = pytest.importorskip("s3fs")
boto3 = pytest.importorskip("boto3")

SECRET = "very-secret-key"
TEXTS = {"a.wav": "ab", "deep/b.flac": "ca"}


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def keys(service: str) -> dict[str, str]:
    """What a user sets so that s3fs finds the service and may use it."""
    return {
        "AWS_ENDPOINT_URL": service,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture
def s3(keys: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A client, with a bucket of recordings, and one for results."""
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    for bucket in ("talks", "words"):
        client.create_bucket(Bucket=bucket)
        for found in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            client.delete_object(Bucket=bucket, Key=found["Key"])
    for name, text in TEXTS.items():
        path = tmp_path / Path(name).name
        soundfile.write(path, tones(*text), SAMPLE_RATE)
        client.upload_file(str(path), "talks", name)
    client.put_object(Bucket="talks", Key="notes.txt", Body=b"none")
    return client


def names(client: Any, bucket: str) -> list[str]:
    return [found["Key"] for found in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_recordings_in_s3_are_transcribed(s3: Any, speech_model: Path) -> None:
    result = run_asr("transcribe", "s3://talks", "-m", speech_model)
    lines = [f"s3://talks/{name}: {text}\n" for name, text in TEXTS.items()]
    assert (result.stdout, result.returncode) == ("".join(lines), 0), result.stderr
    one = run_asr("transcribe", "s3://talks/deep/b.flac", "-m", speech_model, "-f", "json")
    assert json.loads(one.stdout)["file"] == "s3://talks/deep/b.flac", one.stderr


@pytest.mark.slow
def test_results_are_written_to_s3_once(s3: Any, speech_model: Path) -> None:
    command = ("transcribe", "s3://talks", "-m", speech_model, "-o", "s3://words/run")
    first = run_asr(*command, "--shards", "jsonl")
    assert first.returncode == 0, first.stderr
    assert names(s3, "words") == ["run/manifest.jsonl", "run/part-000000.jsonl"]
    part = s3.get_object(Bucket="words", Key="run/part-000000.jsonl")["Body"].read().decode()
    rows = [json.loads(line) for line in part.splitlines()]
    assert [row["text"] for row in rows] == list(TEXTS.values())
    again = run_asr(*command, "--shards", "jsonl")
    assert (again.returncode, again.stderr) == (0, "2 of 2 files were done before\n")
    s3.put_object(Bucket="talks", Key="a.wav", Body=b"another")
    changed = run_asr(*command, "--shards", "jsonl")
    assert changed.returncode == 2 and "s3://talks/a.wav: has changed since" in changed.stderr


@pytest.mark.slow
def test_a_place_in_s3_that_another_run_writes_to_is_refused(s3: Any, speech_model: Path) -> None:
    with Store("s3://words/run").locked():
        with pytest.raises(LockError), Store("s3://words/run").locked():
            pass
        command = ("transcribe", "s3://talks", "-m", speech_model, "-o", "s3://words/run")
        refused = run_asr(*command, "--shards", "jsonl")
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert "another run is writing there" in refused.stderr
    assert names(s3, "words") == []


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_not_made(s3: Any, speech_model: Path) -> None:
    command = ("transcribe", "s3://talks", "-m", speech_model, "-o", "s3://typing-error/run")
    refused = run_asr(*command, "--shards", "jsonl")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "s3://typing-error/run: no such file or folder" in refused.stderr
    assert {"typing-error"}.isdisjoint(b["Name"] for b in s3.list_buckets()["Buckets"])


def test_what_is_not_allowed_is_one_line_without_the_keys(
    s3: Any, monkeypatch: pytest.MonkeyPatch, speech_model: Path
) -> None:
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)  # somebody is not known
    denied = run_asr("transcribe", "s3://talks", "-m", speech_model)
    assert denied.returncode == 2 and denied.stdout == ""
    assert denied.stderr.startswith("error: s3://talks: cannot be used (PermissionError); check")
    assert denied.stderr.count("\n") == 1
    assert SECRET not in denied.stderr and "somebody" not in denied.stderr
