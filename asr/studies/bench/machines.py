"""What `asr bench --json` wrote on several machines, as one table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr.files import parse_json, read_text
from asr.studies.bench.timing import BenchmarkError

LIVE_MS = 80  # of the blocks whose figures are shown
HEADS = (
    "processor",
    "free",
    "threads",
    "onnxruntime",
    "model",
    "M multiplications per second",
    "real-time factor, a file",
    f"blocks of {LIVE_MS} ms",
    "their p99",
    "cold start",
    "peak memory",
)


def machine_table(files: Sequence[Path]) -> str:
    """Return a table in Markdown with a row for each file.

    Raises ReadError for a file that cannot be read, BenchmarkError for one that holds no figures
    of a model.
    """
    rows = [HEADS, ("---",) * len(HEADS), *map(_row, files)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(file: Path) -> tuple[str, ...]:
    text = read_text(file, "figures")
    try:
        return _cells(parse_json(text))
    except (ValueError, KeyError, TypeError):
        raise BenchmarkError(
            f"{file}: holds no figures of a model; 'asr bench MODEL --json {file}' writes them"
        ) from None


def _cells(figures: dict[str, Any]) -> tuple[str, ...]:
    live = {each["push_ms"]: each for each in figures["streaming"]}.get(LIVE_MS)
    memory = figures["peak_memory"]
    return (
        str(figures["processor"]).replace("|", "/"),
        f"{figures['processor_share']:.0%}",
        str(figures["threads"]),
        str(figures["onnxruntime"]),
        str(figures["model"]).replace("|", "/"),
        f"{figures['macs_per_second'] / 1e6:.0f}",
        f"{figures['offline_rtf']:.4f}",
        f"{live['rtf']:.4f}" if live else "-",
        f"{live['p99_ms']:.2f} ms" if live else "-",
        f"{figures['cold_start_seconds']:.2f} s",
        f"{memory / 1e6:.0f} MB" if memory is not None else "-",
    )
