"""What a server is deployed with passes the linters, where these are installed."""

import shutil
import subprocess

import pytest

from tests.support.commands import ROOT

SERVICE = ROOT / "export" / "service"
MOST_EXPOSURE = 2.0  # of 10, by systemd's own reckoning


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_container_file_passes_the_linter() -> None:
    done = subprocess.run(
        ["hadolint", SERVICE / "Containerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_unit_is_hardened() -> None:
    threshold = f"--threshold={round(10 * MOST_EXPOSURE)}"
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", threshold]
    unit = SERVICE / "earshot.service"
    done = subprocess.run([*command, unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
