"""Settings of all tests, and the models that many of them share."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.support import tiny_models
from tests.support.commands import run_asr
from tests.support.tiny_training import EXACT, write_words_recipe

# Test processes share the cores: torch, and whatever they start, takes one thread each.
os.environ["OMP_NUM_THREADS"] = "1"

# Where containers forbid Python to keep what it compiled, each of hundreds of programs that tests
# start would compile all of this anew, and each collection all tests: two minutes of the loop.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes says more about the machine than about the code.
settings.register_profile("earshot", deadline=None)
settings.load_profile("earshot")

# A shell starts what it puts in the background deaf to Ctrl-C, and programs that tests start and
# interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what uses a model that is trained for it: fixtures whose name says `trained`."""
    for item in items:
        if any(name.startswith("trained") for name in getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that fills a folder once, whichever of the test processes asks for it first."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of the folders of all processes

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


def _train_words(folder: Path) -> None:
    result = run_asr("train", write_words_recipe(folder), *EXACT)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="session")
def trained_words(made_once: Callable[..., Path]) -> Path:
    """The folder of a run of words.toml, two folders above, by the real command: trained once."""
    return made_once("trained_words", _train_words) / "runs" / "words"


@pytest.fixture(scope="session")
def trained_words_model(made_once: Callable[..., Path], trained_words: Path) -> Path:
    """The file of that run, by the real command: exported once."""

    def export(folder: Path) -> None:
        result = run_asr("export", trained_words, folder / "words.onnx")
        assert result.returncode == 0, result.stderr

    return made_once("trained_words_model", export) / "words.onnx"


@pytest.fixture(scope="session")
def exported_run(made_once: Callable[..., Path]) -> Callable[[str, str], Path]:
    """A function that exports a run of an encoder and a head with random weights, once: `run` and
    `new/tiny.onnx`. An export takes seconds."""
    from export.export import export_run
    from tests.support.tiny_runs import ENCODERS, HEADS, MFCC, save_run

    def folder_of(encoder: str, head: str) -> Path:
        def export(folder: Path) -> None:
            save_run(folder / "run", ENCODERS[encoder], HEADS[head], MFCC.get(encoder))
            export_run(folder / "run", folder / "new" / "tiny.onnx")

        return made_once(f"{encoder} {head}".replace(" ", "_"), export)

    return folder_of


@pytest.fixture(scope="session")
def speech_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.streaming_ctc(tmp_path_factory.mktemp("models") / "speech.onnx")


@pytest.fixture(scope="session")
def keyword_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.streaming_classify(tmp_path_factory.mktemp("models") / "keywords.onnx")
