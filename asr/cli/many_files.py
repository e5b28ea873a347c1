"""Commands on many files: shared out, in order, with progress; what failed is said at the end."""

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from asr.cli.errors import FAILED
from asr.cli.terminal import complain, print_text, progress
from features.errors import EarshotError
from features.paths import shown

if TYPE_CHECKING:
    from asr.batch.sources import Source
    from asr.batch.workers import Start


def process_all(
    sources: "Sequence[Source | EarshotError]",
    start: "Start",
    jobs: int | None,
    take: "Callable[[Source, str], None]",
    ordered: bool,
) -> None:
    """Call take(source, text) with the result of each. Raises typer.Exit if one has none."""
    from asr.batch.sources import Source
    from asr.batch.workers import in_order, process_files
    from asr.cores import cores

    failures = {n: source for n, source in enumerate(sources) if not isinstance(source, Source)}
    files = [(n, source) for n, source in enumerate(sources) if isinstance(source, Source)]
    paths = [source.path for _, source in files]
    try:
        with progress(paths) as bar:
            report = bar.report if bar else None
            results = process_files(start, paths, min(jobs or cores(), len(paths)), report)
            with contextlib.closing(results):
                for index, result in in_order(results) if ordered else results:
                    place, source = files[index]
                    if isinstance(result, str):
                        take(source, result)
                    else:
                        failures[place] = result
                    if bar:
                        bar.done(index)
    finally:
        for _, failure in sorted(failures.items()):
            complain(failure)
        if failures and len(sources) > 1:
            complain(f"{len(failures)} of {len(sources)} files failed")
    if failures:
        raise typer.Exit(FAILED)


def printer(named: bool) -> "Callable[[Source, str], None]":
    """Return what prints a file's results, each line after its name if `named`."""

    def show(source: "Source", text: str) -> None:
        if named:
            name = shown(str(source.path))
            text = "".join(f"{name}: {line}\n" for line in text.splitlines())
        print_text(text)

    return show
