"""A sound card for machines that have none: what is played on `speaker` the microphone records.

A private PulseAudio daemon with its own HOME; ALSA, and so PortAudio, is pointed at it.
"""

import ctypes.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SPEAKER = "speaker"
MODULES = (
    f"module-null-sink sink_name={SPEAKER} rate=48000",
    f"module-remap-source source_name=microphone master={SPEAKER}.monitor",
    "module-native-protocol-unix",
)
ASOUNDRC = "pcm.!default pulse\nctl.!default pulse\n"
START_SECONDS = 60.0  # on a machine that is busy with other tests


@dataclass(frozen=True)
class VirtualSound:
    """`environment` makes a program record and play here; `daemon` is what a test may kill."""

    environment: dict[str, str]
    daemon: subprocess.Popen[bytes]

    def play(self, wav: Path) -> None:
        """Play a file on the speaker, to its end."""
        subprocess.run(
            ["paplay", "-d", SPEAKER, str(wav)], env=self.environment, check=True, timeout=60
        )


def missing() -> str:
    """Name what the machine lacks for a virtual microphone, "" if nothing."""
    if not shutil.which("pulseaudio") or not shutil.which("paplay"):
        return "pulseaudio is not installed"
    return "" if ctypes.util.find_library("portaudio") else "PortAudio is not installed"


@contextmanager
def virtual_sound(home: Path) -> Iterator[VirtualSound]:
    """Run the daemon, its files under `home`, which must be a short path (it holds a socket)."""
    runtime = home / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)  # a daemon that comes back finds it
    (home / ".asoundrc").write_text(ASOUNDRC)
    hidden = ("PULSE_", "XDG_", "DBUS_", "HOME")
    environment = {name: v for name, v in os.environ.items() if not name.startswith(hidden)}
    environment |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime)}
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--disallow-exit"]
    command += [argument for module in MODULES for argument in ("-L", module)]
    with (home / "pulseaudio.log").open("wb") as log:
        daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_up(environment, daemon, home / "pulseaudio.log")
            yield VirtualSound(environment, daemon)
        finally:
            daemon.terminate()
            daemon.wait(timeout=10)


def _wait_until_up(environment: dict[str, str], daemon: subprocess.Popen[bytes], log: Path) -> None:
    ask = ["pactl", "set-default-source", "microphone"]
    deadline = time.monotonic() + START_SECONDS
    while subprocess.run(ask, env=environment, capture_output=True).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"pulseaudio did not start:\n{log.read_text()}")
        time.sleep(0.1)
