"""Run the project's programs as a user does: in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASR = [sys.executable, "-c", "from asr.cli import main; main()"]
DEMO = [sys.executable, str(ROOT / "demo_mic.py")]


def environment(**changes: str) -> dict[str, str]:
    """The environment with the project importable, terminal width fixed, and `changes`."""
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"} | changes


def run_asr(*arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `asr ARGUMENTS` to its end."""
    return subprocess.run(
        [*ASR, *map(str, arguments)],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=600,
    )


def run_python(code: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=600,
    )


def hide_packages(folder: Path, *names: str) -> dict[str, str]:
    """Return the environment in which importing `names` fails as if they were not installed."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(names)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""
    )
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
