"""How fast and how large a model is on this machine, all measured in one run.

Throughput is the best of REPEATS passes after one that warms up, because whatever else the machine
does can only add to it. Latencies are percentiles over the pushes of a pass, and of these the
median over the passes.
"""

import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
import soundfile
from rich.console import Console

from asr.files import write_figures
from asr.model import Model
from asr.runtime.session import session_options
from asr.stream import Stream
from asr.studies.bench import timing
from asr.studies.bench.cost import macs_per_second, time_by_operator
from asr.studies.bench.gemm import gemm_peak
from asr.studies.bench.report import print_benchmark
from asr.studies.bench.sounds import sound_of, speech_shaped_noise
from asr.studies.bench.timing import BenchmarkError, best_seconds, seconds_of

PUSHES_MS = (20, 40, 80, 160)

# A command, and at its end what it took of memory; only Linux keeps such a file.
COLD_START = """
import atexit, sys
from pathlib import Path
from asr.cli import main
status = Path("/proc/self/status")
atexit.register(lambda: sys.stderr.write(status.read_text() if status.exists() else ""))
main()
"""


def benchmark(
    model: Model,
    *,
    audio: Path | None = None,
    threads: int = 1,
    peers: bool = False,
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Print how fast a model is, and return the figures.

    audio: a file, or a folder of them, that is repeated or cut to SECONDS; noise with the spectrum
        and the rhythm of speech if not given. If it is a folder of words, the peers are compared
        on its files, too.
    threads: of one step, and of all that it is compared with.
    peers: measure torch, and pocketsphinx and ctc-beam-decoder if they are installed, on the same
        audio.
    Raises EarshotError.
    """
    model = Model(model.path, session_options(threads))
    sound = sound_of(audio, model.card.sample_rate)
    others = _peers(model, threads) if peers else None
    console = Console(stderr=True)
    with console.status(f"measuring {model.card.name}"):
        figures = _size(model) | _cold_start(model)
        figures |= {"processor": _processor(), "onnxruntime": ort.__version__, "threads": threads}
        figures |= _offline(model, sound, threads)
        figures["streaming"] = [_streaming(model, sound, ms) for ms in PUSHES_MS if _lives(model)]
        figures["peers"] = others.compare(sound, audio) if others else None
    print_benchmark(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    return figures


def _peers(model: Model, threads: int) -> Any:
    """What to compare with; if that is impossible, it is said before anything is measured."""
    from asr.studies.bench.peers import Peers  # torch, which a benchmark without peers does without

    return Peers(model, threads)


# Speed


def _offline(model: Model, sound: np.ndarray, threads: int) -> dict[str, Any]:
    duration = len(sound) / model.card.sample_rate
    wall, own = time.perf_counter(), time.thread_time()
    factor = best_seconds(lambda: model.log_probs(sound)) / duration
    share = (time.thread_time() - own) / (time.perf_counter() - wall)
    macs = macs_per_second(model, len(sound))
    peak = gemm_peak(threads)
    return {
        "audio_seconds": duration,
        "processor_share": share,
        "macs_per_second": macs,
        "offline_rtf": factor,
        "gemm_peak_flops": peak,
        "gemm_share": 2.0 * macs / factor / peak,
        "operators": time_by_operator(model, sound, threads),
    }


def _lives(model: Model) -> bool:
    """True if the model answers before the audio has ended."""
    return model.card.streaming or model.card.task == "classify"


def _streaming(model: Model, sound: np.ndarray, milliseconds: int) -> dict[str, float]:
    length = round(milliseconds * model.card.sample_rate / 1000)
    blocks = [sound[start : start + length] for start in range(0, len(sound), length)]
    _push_all(model, blocks)
    times = np.array([_push_all(model, blocks) for _ in range(timing.REPEATS)])
    p50, p99 = np.median(np.percentile(times, [50, 99], axis=1), axis=1)
    return {
        "push_ms": milliseconds,
        "rtf": float(times.sum(axis=1).min()) * model.card.sample_rate / len(sound),
        "p50_ms": 1e3 * float(p50),
        "p99_ms": 1e3 * float(p99),
    }


def _push_all(model: Model, blocks: list[np.ndarray]) -> list[float]:
    """Seconds that each block took in a new stream."""
    stream = Stream(model)
    return [seconds_of(lambda block=block: stream.push(block)) for block in blocks]


# Size


def _size(model: Model) -> dict[str, Any]:
    return {
        "model": model.card.name,
        "file_size": model.path.stat().st_size,
        "parameters": model.card.parameters,
    }


def _cold_start(model: Model) -> dict[str, Any]:
    """What `asr` takes for a file of one second, in a process of its own: seconds and bytes."""
    rate = model.card.sample_rate
    verb = "transcribe" if model.card.task == "ctc" else "spot"
    peaks = []
    with TemporaryDirectory() as folder:
        wav = Path(folder, "second.wav")
        soundfile.write(wav, speech_shaped_noise(rate, rate), rate)
        command = [sys.executable, "-c", COLD_START, verb, str(wav), "--model", str(model.path)]

        def run() -> None:
            finished = subprocess.run(command, capture_output=True, text=True, check=False)
            if finished.returncode:
                raise BenchmarkError(
                    f"{model.path}: fails in a new process; try 'asr {verb} -m {model.path}' on a "
                    "file to see why"
                )
            peaks.extend(1024 * int(kib) for kib in re.findall(r"VmHWM:\s*(\d+)", finished.stderr))

        seconds = best_seconds(run)
    return {"cold_start_seconds": seconds, "peak_memory": max(peaks, default=None)}


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    text = described.read_text() if described.exists() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()
