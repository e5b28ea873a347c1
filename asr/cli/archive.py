"""Commands on archives: results in shards, by processes of this machine or by a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.errors import FAILED, CommandError
from asr.cli.terminal import complain, note, progress
from asr.transcripts.formats import ShardFormat, clock

if TYPE_CHECKING:
    from asr.batch.archive import Outcome
    from asr.batch.shards import Shard, Sink
    from asr.batch.sources import Source
    from asr.batch.workers import Start
    from features.errors import EarshotError

NAMED_FAILURES = 20  # the others are in the shards


class Engine(StrEnum):
    """What shares out the files."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[
    Engine,
    typer.Option("--engine", help="What shares out the files: this machine, or a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="Of a Ray cluster that runs; without it one is started here."
    ),
]
Shards = Annotated[
    ShardFormat | None,
    typer.Option(
        "--shards",
        help="With --output: files with the results of many recordings each. "
        "[default with --engine ray: jsonl]",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Archive:
    """How an archive is worked on, as it was given."""

    engine: Engine
    address: str | None
    shards: ShardFormat | None
    output: str | None
    jobs: int | None

    def __post_init__(self) -> None:
        if self.address is not None and self.engine is not Engine.ray:
            raise CommandError("--address is about a Ray cluster; add --engine ray")
        if self.wanted and self.output is None:
            option = "--engine ray" if self.engine is Engine.ray else "--shards"
            raise CommandError(f"{option} writes shards; name their folder with --output")

    @property
    def wanted(self) -> bool:
        """Whether results come in shards."""
        return self.shards is not None or self.engine is Engine.ray


def process_archive(
    sources: "Sequence[Source | EarshotError]",
    start: "Start",
    made_by: "Callable[[], str]",
    archive: Archive,
) -> None:
    """Write the results of all sources into shards. Raises typer.Exit if a file has none."""
    from asr.batch.shards import Sink, plan
    from asr.batch.sources import Source
    from asr.batch.store import Store

    store = Store(archive.output or "")
    found = [source for source in sources if isinstance(source, Source)]
    missing = [source for source in sources if not isinstance(source, Source)]
    failures = [str(failure) for failure in missing]
    with store.locked():
        sink = Sink(store, archive.shards or ShardFormat.jsonl)
        todo, done = plan(store, sink, found, wanted := made_by())
        if done:
            note(f"{done} of {len(found)} files were done before")
        began, files, seconds = monotonic(), 0, 0.0
        outcomes = _outcomes(archive, start, sink, todo, made_by, wanted) if todo else iter(())
        for outcome in outcomes:
            files, seconds = files + outcome.files, seconds + outcome.seconds
            failures += outcome.failures
        took = monotonic() - began
    if files:
        note(
            f"{files} files, {clock(seconds)} of audio in {clock(took)}, "
            f"{seconds / max(took, 1e-9):.0f} x real time, into {len(todo)} shards"
        )
    for failure in failures[:NAMED_FAILURES]:
        complain(failure)
    if failures:
        complain(f"{len(failures)} of {len(sources)} files failed")
        raise typer.Exit(FAILED)


def _outcomes(
    archive: Archive,
    start: "Start",
    sink: "Sink",
    todo: "Sequence[Shard]",
    made_by: "Callable[[], str]",
    wanted: str,
) -> "Iterator[Outcome]":
    from asr.batch.archive import run_local

    if archive.engine is Engine.ray:
        from asr.batch.ray_engine import Job, run_on_ray

        start()  # so that a model or options are refused here, before machines are asked
        job = Job(start, sink, made_by, wanted)
        yield from run_on_ray(job, todo, archive.jobs, archive.address)
        return
    paths = [file for shard in todo for file in shard.files]
    with progress(paths) as bar:
        yield from run_local(
            start, sink, todo, archive.jobs, bar.report if bar else lambda index, seconds: None
        )
