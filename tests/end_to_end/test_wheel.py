"""The wheel: what it holds, and that it works where there is no checkout."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.commands import ROOT

pytestmark = pytest.mark.slow


def pip(*arguments: object, python: str = sys.executable) -> None:
    """Run pip to its end; what it prints is the message if it fails."""
    command = [python, "-m", "pip", "--quiet", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", ROOT, source], check=True)
    pip("wheel", "--no-deps", "--wheel-dir", folder, source)
    [path] = folder.glob("*.whl")
    return path


def test_wheel_holds_models_recipes_and_the_typing_marker(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name.startswith("earshot_asr-")
    for recipe in (ROOT / "asr" / "training" / "recipes").iterdir():
        assert f"asr/training/recipes/{recipe.name}" in names
    assert {"asr/models/english.onnx", "asr/models/commands.onnx", "asr/py.typed"} <= names
    assert not any(name.startswith("tests/") for name in names)


def test_installed_wheel_transcribes_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip("install", wheel, python=str(scripts / "python"))
    sample = tmp_path / "digits.ogg"
    sample.write_bytes((ROOT / "samples" / "digits.ogg").read_bytes())
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [scripts / "asr", "transcribe", sample.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "three one four one five" in result.stdout
