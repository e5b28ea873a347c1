"""Figures of benchmarks as tables in a terminal."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from asr.evaluation.report import percent

IDLE_SHARE = 0.95  # below this, other programs have slowed down what was measured


def print_benchmark(figures: dict[str, Any]) -> None:
    """Print the figures of `asr.studies.bench.inference.benchmark`."""
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
            yield name, 'not installed: pip install "earshot-asr[bench]"', "-", "-"
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
