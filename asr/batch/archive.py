"""An archive: sources, recognise, sink. Engines share out the shards; what they do is the same."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from asr.batch.shards import Shard, Sink
from asr.batch.workers import Result, Start, process_files
from asr.cores import cores
from asr.transcripts.formats import error_line

Report = Callable[[int, float], None]


@dataclass(frozen=True)
class Outcome:
    """A shard that is done: its files, what was wrong with some, and the seconds of its audio."""

    number: int
    files: int
    failures: tuple[str, ...]
    seconds: float


class Collector:
    """Gathers the results of shards, in any order, and writes each shard when it is whole."""

    def __init__(self, sink: Sink, shards: Sequence[Shard]) -> None:
        self._sink = sink
        self._shards = shards
        self._places = [(s, k) for s, shard in enumerate(shards) for k in range(len(shard.files))]
        self._rows: dict[int, dict[int, str]] = {}
        self._failures: dict[int, dict[int, str]] = {}
        self._seconds: dict[int, float] = {}

    @property
    def files(self) -> list:
        """All files, in the order in which results name them."""
        return [file for shard in self._shards for file in shard.files]

    def report(self, index: int, seconds: float) -> None:
        """Take note that this much of a file is done."""
        self._seconds[index] = seconds

    def take(self, results: Iterator[Result]) -> Iterator[Outcome]:
        """Yield each shard once it is written. Raises WriteError, LocationError."""
        sounds: dict[int, float] = {}
        for index, result in results:
            which, place = self._places[index]
            shard = self._shards[which]
            rows = self._rows.setdefault(which, {})
            if isinstance(result, str):
                rows[place] = result
                sounds[which] = sounds.get(which, 0.0) + self._seconds.pop(index, 0.0)
            else:
                rows[place] = error_line(str(shard.files[place]), str(result))
                self._failures.setdefault(which, {})[place] = str(result)
            if len(rows) == len(shard.files):
                del self._rows[which]
                self._sink.write(shard.number, [row for _, row in sorted(rows.items())])
                failures = tuple(f for _, f in sorted(self._failures.pop(which, {}).items()))
                yield Outcome(shard.number, len(rows), failures, sounds.pop(which, 0.0))


def run_local(
    start: Start, sink: Sink, shards: Sequence[Shard], jobs: int | None, report: Report
) -> Iterator[Outcome]:
    """Recognise in processes of this machine, as many as there are cores if `jobs` is None.

    Raises what is wrong for all files: ModelError, WorkerError.
    """
    collector = Collector(sink, shards)
    files = collector.files

    def note(index: int, seconds: float) -> None:
        collector.report(index, seconds)
        report(index, seconds)

    results = process_files(start, files, min(jobs or cores(), len(files)), note)
    with contextlib.closing(results):
        yield from collector.take(results)
