"""Files of random weights that several tests look at: an export takes seconds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from export.export import export_run
from tests.support.tiny_runs import ENCODERS, HEADS, MFCC, save_run


@pytest.fixture(scope="session")
def exported_run(made_once: Callable[..., Path]) -> Callable[[str, str], Path]:
    """A function that exports a run of an encoder and a head, once: `run` and `new/tiny.onnx`."""

    def folder_of(encoder: str, head: str) -> Path:
        def export(folder: Path) -> None:
            save_run(folder / "run", ENCODERS[encoder], HEADS[head], MFCC.get(encoder))
            export_run(folder / "run", folder / "new" / "tiny.onnx")

        return made_once(f"{encoder} {head}".replace(" ", "_"), export)

    return folder_of
