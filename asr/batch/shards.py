"""Results of an archive: shards of many files each, written once, and the manifest that plans them.

The folder of results holds

    manifest.jsonl      which files belong to which shard, and what the results are made with
    part-000000.jsonl   the results of the first shard, a line of JSON for each file; or .parquet

A line is what `asr transcribe -f json` prints of a file, or `file` and its `detections`; a file
that cannot be used has `file` and `error`. A shard that is there is done, whatever was killed
after it was written; the same command again does those that are missing, and plans more for new
files.
"""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from asr.batch.sources import Source
from asr.batch.store import Store
from asr.batch.workers import File
from asr.transcripts.formats import ShardFormat, json_line
from features.errors import EarshotError

MANIFEST = "manifest.jsonl"
SCHEMA = 1
FILES = 100  # the most in a shard: what a process that is killed has to do again
BYTES = 256 * 1024 * 1024  # of sound in a shard, so that none takes much longer than another


class ArchiveError(EarshotError, ValueError):
    """A folder of results that this run cannot go on with."""


@dataclass(frozen=True)
class Shard:
    """Files whose results are written together."""

    number: int
    files: tuple[File, ...]


@dataclass(frozen=True)
class Planned:
    """A file as the manifest has it."""

    name: str
    size: int
    version: int | str


class Sink:
    """Writes shards into a store. Can be pickled."""

    def __init__(self, store: Store, format: ShardFormat) -> None:
        self._store = store
        self._format = format
        if format is ShardFormat.parquet:
            _parquet()

    def name(self, number: int) -> str:
        """Return the name of a shard's file."""
        return f"part-{number:06}.{self._format}"

    def is_done(self, number: int) -> bool:
        """Return whether a shard has been written."""
        return self._store.exists(self.name(number))

    def write(self, number: int, rows: Sequence[str]) -> None:
        """Write a shard of rows, JSON a file. Raises WriteError, LocationError."""
        if self._format is ShardFormat.jsonl:
            content = "".join(rows).encode("utf-8", "backslashreplace")
        else:
            content = _table([json.loads(row) for row in rows])
        self._store.write(self.name(number), content)


def plan(
    store: Store, sink: Sink, sources: Iterable[Source], made_by: str
) -> tuple[list[Shard], int]:
    """Return the shards that are to do, and how many files are in those that are done.

    made_by: a fingerprint of model and options. The manifest is written first: new files come into
    new shards, those that it has stay where they are. Raises ArchiveError if results of another
    model are in the folder, or of files that have changed since.
    """
    given = {planned.name: (planned, source) for source in sources for planned in [_of(source)]}
    shards = _read_manifest(store, made_by)
    known = {planned.name: planned for shard in shards for planned in shard}
    for name, planned in known.items():
        if name in given and given[name][0] != planned:
            raise ArchiveError(
                f"{name}: has changed since {store} was begun, where results are written once; "
                "name another folder"
            )
    new = [planned for name, (planned, _) in given.items() if name not in known]
    added = _cut(new)
    if added or not shards:
        _write_manifest(store, made_by, shards + added)
    shards += added
    there = store.names()
    todo, done = [], 0
    for number, shard in enumerate(shards):
        if sink.name(number) in there:
            done += len(shard)
            continue
        _check_given(store, shard, given)
        todo.append(Shard(number, tuple(given[planned.name][1].path for planned in shard)))
    return todo, done


def _of(source: Source) -> Planned:
    return Planned(*source.state())


def _check_given(store: Store, shard: Sequence[Planned], given: dict[str, Any]) -> None:
    for planned in shard:
        if planned.name not in given:
            raise ArchiveError(
                f"{planned.name}: {store} was begun with it, and it is not among the files now; "
                "give the same files and more, or name another folder"
            )


def _cut(files: Sequence[Planned]) -> list[list[Planned]]:
    """Cut a list of files into shards."""
    shards: list[list[Planned]] = []
    size = 0
    for planned in files:
        if not shards or len(shards[-1]) >= FILES or size + planned.size > BYTES:
            shards.append([])
            size = 0
        shards[-1].append(planned)
        size += planned.size
    return shards


def _write_manifest(store: Store, made_by: str, shards: Sequence[Sequence[Planned]]) -> None:
    lines = [json_line({"schema": SCHEMA, "made_by": made_by})]
    for number, shard in enumerate(shards):
        files = [[planned.name, planned.size, planned.version] for planned in shard]
        lines.append(json_line({"shard": number, "files": files}))
    store.write(MANIFEST, "".join(lines).encode("utf-8", "backslashreplace"))


def _read_manifest(store: Store, made_by: str) -> list[list[Planned]]:
    content = store.read(MANIFEST)
    if content is None:
        return []
    try:
        head, *lines = [json.loads(line) for line in content.decode().splitlines()]
        shards = [[Planned(*fields) for fields in line["files"]] for line in lines]
        schema, before = head["schema"], head["made_by"]
    except (ValueError, KeyError, TypeError):
        raise ArchiveError(
            f"{store}: its {MANIFEST} is none of this program; name another folder"
        ) from None
    if schema != SCHEMA or before != made_by:
        raise ArchiveError(
            f"{store}: holds results of another model, other options or another version; name "
            "another folder"
        )
    return shards


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ArchiveError(
            'Parquet needs pyarrow; pip install "earshot-asr[ray]", or --shards jsonl'
        ) from None
    return pyarrow


def _table(rows: list[dict[str, Any]]) -> bytes:
    """Rows as a Parquet file whose columns are the same whatever the rows have."""
    arrow = _parquet()
    text, real = arrow.string(), arrow.float64()
    span = [("text", text), ("start", real), ("end", real)]
    word = arrow.struct([*span, ("confidence", real)])
    alternative = arrow.struct([("text", text), ("score", real)])
    segment = [*span, ("words", arrow.list_(word)), ("n_best", arrow.list_(alternative))]
    detection = [
        ("time", real),
        ("label", text),
        ("score", real),
        ("start", real),
        ("end", real),
        ("reason", text),
    ]
    schema = arrow.schema(
        [
            ("schema", arrow.int32()),
            ("file", text),
            ("text", text),
            ("duration", real),
            ("segments", arrow.list_(arrow.struct(segment))),
            ("detections", arrow.list_(arrow.struct(detection))),
            ("error", text),
        ]
    )
    target = io.BytesIO()
    arrow.parquet.write_table(arrow.Table.from_pylist(rows, schema), target)
    return target.getvalue()
