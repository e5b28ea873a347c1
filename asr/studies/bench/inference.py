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
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import soundfile
from rich.console import Console
from rich.table import Table

from asr.evaluation.intervals import percent
from asr.files import write_figures
from asr.model import Model, session_options
from asr.studies.bench.cost import macs_per_second, time_by_operator
from features.audio import find_audio, stream_audio
from features.errors import EarshotError

if TYPE_CHECKING:
    from asr.studies.bench.peers import Peers

SECONDS = 60.0  # of audio in a pass; the longest that a whole-utterance ctc model takes
PUSHES_MS = (20, 40, 80, 160)
REPEATS = 5
GEMM_SIZES = (256, 384, 512, 1024)
GEMM_SECONDS = 0.3  # for each of these
IDLE_SHARE = 0.95  # below this, other programs have slowed down what was measured
SEED = 7

# A command, and at its end what it took of memory; only Linux keeps such a file.
COLD_START = """
import atexit, sys
from pathlib import Path
from asr.cli import main
status = Path("/proc/self/status")
atexit.register(lambda: sys.stderr.write(status.read_text() if status.exists() else ""))
main()
"""


class BenchmarkError(EarshotError, ValueError):
    """The model cannot be measured as asked."""


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
    sound = _sound(audio, model.card.sample_rate)
    others = _peers(model, threads) if peers else None
    console = Console(stderr=True)
    with console.status(f"measuring {model.card.name}"):
        figures = _size(model) | _cold_start(model)
        figures |= {"processor": _processor(), "onnxruntime": ort.__version__, "threads": threads}
        figures |= _offline(model, sound, threads)
        figures["streaming"] = [_streaming(model, sound, ms) for ms in PUSHES_MS if _lives(model)]
        figures["peers"] = others.compare(sound, audio) if others else None
    _print(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    return figures


def _peers(model: Model, threads: int) -> "Peers":
    """What to compare with; if that is impossible, it is said before anything is measured."""
    from asr.studies.bench.peers import Peers

    return Peers(model, threads)


def best_seconds(run: Callable[[], object]) -> float:
    """Return the least wall time of REPEATS runs, after one that warms up."""
    run()
    return min(_seconds(run) for _ in range(REPEATS))


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


# The audio


def _sound(path: Path | None, sample_rate: int) -> np.ndarray:
    """SECONDS of audio, float32 (samples,)."""
    samples = round(SECONDS * sample_rate)
    if path is None:
        return speech_shaped_noise(samples, sample_rate)
    pieces, length = [], 0
    for block in chain.from_iterable(stream_audio(file, sample_rate) for file in find_audio(path)):
        pieces.append(block)
        length += len(block)
        if length >= samples:
            break
    return np.resize(np.concatenate(pieces), samples)


def speech_shaped_noise(samples: int, sample_rate: int) -> np.ndarray:
    """Noise like many voices at once, the same at every call, float32 (samples,).

    Its spectrum falls by 9 dB an octave above 500 Hz, as that of speech does on average (Byrne et
    al., 1994), and its level sways four times a second, as syllables do (Houtgast & Steeneken,
    1985).
    """
    white = np.random.default_rng(SEED).standard_normal(samples)
    frequencies = np.fft.rfftfreq(samples, 1.0 / sample_rate)
    coloured = np.fft.irfft(np.fft.rfft(white) / (1.0 + (frequencies / 500.0) ** 1.5), samples)
    level = 1.0 + 0.9 * np.sin(2.0 * np.pi * 4.0 * np.arange(samples) / sample_rate)
    noise = level * coloured
    return (0.5 * noise / np.abs(noise).max()).astype(np.float32)


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
    times = np.array([_push_all(model, blocks) for _ in range(REPEATS)])
    p50, p99 = np.median(np.percentile(times, [50, 99], axis=1), axis=1)
    return {
        "push_ms": milliseconds,
        "rtf": float(times.sum(axis=1).min()) * model.card.sample_rate / len(sound),
        "p50_ms": 1e3 * float(p50),
        "p99_ms": 1e3 * float(p99),
    }


def _push_all(model: Model, blocks: list[np.ndarray]) -> list[float]:
    """Seconds that each block took in a new stream."""
    stream = model.stream()
    return [_seconds(lambda block=block: stream.push(block)) for block in blocks]


def gemm_peak(threads: int) -> float:
    """Return the float32 FLOP/s of the runtime's own matrix product, at the best of GEMM_SIZES."""
    session = ort.InferenceSession(
        _matrix_product(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(SEED)
    best = 0.0
    for n in GEMM_SIZES:
        factors = {name: rng.standard_normal((n, n), np.float32) for name in "ab"}
        ends = time.perf_counter() + GEMM_SECONDS
        while time.perf_counter() < ends:
            best = max(best, 2.0 * n**3 / _seconds(lambda f=factors: session.run(None, f)))
    return best


def _matrix_product() -> bytes:
    """The ONNX file of c = a @ b.

    Written out field by field as onnx.proto numbers them, for the onnx package is not there where
    a model merely runs.
    """

    def part(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3, content])
        return bytes([number << 3 | 2, len(content)]) + content

    real = part(2, part(1, part(1, 1) + part(2, 2 * part(1, b""))))  # FLOAT, two open axes
    node = part(1, b"a") + part(1, b"b") + part(2, b"c") + part(4, b"MatMul")
    values = [part(11, part(1, b"a") + real), part(11, part(1, b"b") + real)]
    graph = part(1, node) + part(2, b"product") + b"".join(values) + part(12, part(1, b"c") + real)
    return part(1, 8) + part(7, graph) + part(8, part(2, 17))  # IR version 8, operator set 17


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


# The report


def _print(figures: dict[str, Any]) -> None:
    console = Console(markup=False, highlight=False)
    console.print(figure_table(("figure", "value"), _summary(figures), figures["model"]))
    if figures["streaming"]:
        heads = ("pushed block", "real-time factor", "p50 ms", "p99 ms")
        rows = (
            (f"{f['push_ms']} ms", f"{f['rtf']:.5f}", f"{f['p50_ms']:.3f}", f"{f['p99_ms']:.3f}")
            for f in figures["streaming"]
        )
        console.print(figure_table(heads, rows, "streaming"))
    if figures["peers"]:
        heads = ("", "version", "offline factor", "streaming factor")
        console.print(figure_table(heads, _peer_rows(figures), "on the same audio"))
        if figures["peers"]["beams"]:
            heads = ("", "version", "same text", "real-time factor")
            title = "beam search, on the same scores"
            console.print(figure_table(heads, _beam_rows(figures), title))
        if figures["peers"]["files"]:
            heads = ("", "recordings", "right % (95 % interval)", "real-time factor")
            console.print(figure_table(heads, _file_rows(figures), "on the same files"))


def figure_table(heads: Iterable[str], rows: Iterable[tuple[str, ...]], title: str) -> Table:
    """A table of figures as text, row by row."""
    table = Table(*heads, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def _summary(figures: dict[str, Any]) -> Iterable[tuple[str, str]]:
    memory, factor = figures["peak_memory"], figures["offline_rtf"]
    yield "processor", f"{figures['processor']}, threads: {figures['threads']}"
    share, crowded = figures["processor_share"], "; measure again when others leave it alone"
    yield "share of it that was free", f"{100 * share:.0f} %{crowded * (share < IDLE_SHARE)}"
    yield "file", f"{figures['file_size'] / 1e6:.2f} MB"
    yield "parameters", f"{figures['parameters'] / 1e6:.2f} M"
    yield "multiplications per second of audio", f"{figures['macs_per_second'] / 1e6:.1f} M"
    yield "cold start, a file of one second", f"{figures['cold_start_seconds']:.3f} s"
    yield "peak memory of that", "-" if memory is None else f"{memory / 1e6:.0f} MB"
    yield "real-time factor, offline", f"{factor:.5f} ({1 / factor:.0f} times real time)"
    peak = figures["gemm_peak_flops"] / 1e9
    yield "share of GEMM peak, offline", f"{figures['gemm_share']:.2f} of {peak:.0f} GFLOP/s"
    large = [(name, share) for name, share in figures["operators"].items() if share >= 0.03]
    shown = [f"{name} {100 * share:.0f} %" for name, share in large]
    yield "time by operator, offline", ", ".join(shown)


def _peer_rows(figures: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    streaming = {entry["push_ms"]: entry["rtf"] for entry in figures["streaming"]}
    own = {
        "version": f"onnxruntime {figures['onnxruntime']}",
        "offline_rtf": figures["offline_rtf"],
        "streaming_rtf": streaming.get(80),
    }
    rows = {figures["model"]: own} | {k: figures["peers"][k] for k in ("torch", "pocketsphinx")}
    for name, row in rows.items():
        if row is None:
            yield name, 'not installed: pip install "earshot[bench]"', "-", "-"
        else:
            factors = (row["offline_rtf"], row["streaming_rtf"])
            yield name, row["version"], *("-" if f is None else f"{f:.5f}" for f in factors)


def _beam_rows(figures: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    beams = figures["peers"]["beams"]
    same = f"{beams['same']} of {beams['n']}"
    yield "asr.decode.beam", "", "", f"{beams['own_rtf']:.5f}"
    yield "ctc-beam-decoder", beams["version"], same, f"{beams['native_rtf']:.5f}"


def _file_rows(figures: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    files = figures["peers"]["files"]
    for name, key in ((figures["model"], "model"), ("pocketsphinx", "pocketsphinx")):
        right = percent(files[key]["accuracy"], files[key]["accuracy_interval"])
        yield name, str(files["n"]), right, f"{files[key]['rtf']:.5f}"
