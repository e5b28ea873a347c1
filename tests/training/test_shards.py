"""Training from tar files: the same recordings, in an order that reads each at a stretch."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from asr.training.config import read_config
from asr.training.data import shards as shards_module
from asr.training.data.corpus import Corpus, load_corpus
from asr.training.data.plan import SHARDS_AT_ONCE, plan_epoch
from asr.training.data.shards import TarPcm, shard_name
from tests.support.commands import run_asr
from tests.support.tiny_training import EXACT, write_speech_recipe

SHARDED = ('data.sources=[{path="%s/sentences", name="Sentences", kind="shards", licence="CC0", '
           'attribution="a machine", validation=25}]')  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of sentences, and the shards of its recordings, many of them."""
    folder = tmp_path_factory.mktemp("shards")
    recipe = write_speech_recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards_module, "SHARD_BYTES", 40_000)
        for _ in shards_module.write_shards(read_config(recipe, []), folder / "out"):
            pass
    return folder


def corpus_of(folder: Path, *overrides: str) -> Corpus:
    return load_corpus(read_config(folder / "speech.toml", list(overrides)))


def sharded(folder: Path) -> Corpus:
    return corpus_of(folder, SHARDED % (folder / "out"))


def test_shards_hold_the_same_recordings(folder: Path) -> None:
    one, other = corpus_of(folder), sharded(folder)
    assert one.labels.names == other.labels.names
    for before, after in ((one.train, other.train), (one.validation, other.validation)):
        assert len(before) == len(after) > 0
        for a, b in zip(before, after, strict=True):
            assert (a.targets, a.samples) == (b.targets, b.samples)
            assert a.recording.speaker == b.recording.speaker
            np.testing.assert_array_equal(a.waveform(), b.waveform())


def test_shards_have_the_layout_of_webdataset(folder: Path) -> None:
    with tarfile.open(folder / "out" / "sentences" / shard_name(0)) as tar:
        names = tar.getnames()
        assert names[:4] == [f"{n:09}.{suffix}" for n in (0, 1) for suffix in ("json", "flac")]
        member = tar.extractfile(names[0])
        assert member is not None and json.load(member)["text"]


def test_an_epoch_reads_a_few_shards_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.training.data.plan.POOL_BATCHES", 1)
    config = read_config(folder / "speech.toml", [SHARDED % (folder / "out"), "data.join=0"])
    corpus = load_corpus(config)
    plans = [plan_epoch(config, corpus, epoch) for epoch in (5, 5, 6)]
    read = [[item.example for batch in plan for item in batch] for plan in plans]
    assert read[0] == read[1] != read[2]
    used = []
    for example in read[0]:
        assert example is not None and isinstance(example.pcm, TarPcm)
        used.append(example.pcm.shard(example.number))
    many = len(set(used))
    assert many > 2 * SHARDS_AT_ONCE
    spans = [len(used) - used[::-1].index(s) - used.index(s) for s in set(used)]
    assert max(spans) < 0.8 * len(used)  # not all over the epoch
    assert sorted(e.number for e in read[0] if e) == sorted(e.number for e in corpus.train)


@pytest.mark.slow
def test_training_from_shards_learns(folder: Path) -> None:
    written = run_asr("shard", folder / "speech.toml", folder / "command")
    assert written.returncode == 0 and 'kind = "shards"' in written.stderr
    result = run_asr(
        *("train", folder / "speech.toml", SHARDED % (folder / "command"), "name=sharded"),
        *("optimisation.epochs=2", *EXACT),
    )
    assert result.returncode == 0, result.stderr


def test_a_shard_that_is_cut_off_is_one_line(folder: Path, tmp_path: Path) -> None:
    for name in ("index.jsonl", shard_name(0)):
        (tmp_path / "sentences").mkdir(exist_ok=True)
        content = (folder / "out" / "sentences" / name).read_bytes()
        (tmp_path / "sentences" / name).write_bytes(content if name[0] == "i" else content[:-512])
    result = run_asr("train", folder / "speech.toml", SHARDED % tmp_path, "name=cut_off")
    assert result.returncode == 2
    [error] = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert "shard-000000.tar: is cut off (" in error and "asr shard" in error
    missing = run_asr("train", folder / "speech.toml", SHARDED % "nowhere", "name=missing")
    assert "holds no index.jsonl; name a folder that 'asr shard' wrote" in missing.stderr
