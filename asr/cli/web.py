"""The command that makes a page of a model."""

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import ModelArgument
from asr.cli.terminal import note


def web(
    model: ModelArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")
    ],
    runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Files of onnxruntime-web. [default: node_modules/onnxruntime-web/dist]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a page that runs a model in the browser, for any host of static files.

    [bold]npm install[/] onnxruntime-web
    [bold]asr web[/] commands -o site/
    [bold]python -m http.server[/] -d site/ 8000     then open http://localhost:8000

    Sound from the microphone or from files that are dropped on the page. Nothing is sent; after
    the first visit the page needs no network. The model must stream.
    """
    from asr.model import load
    from export.web import write_site

    files = write_site(load(model), output, runtime)
    size = sum(file.stat().st_size for file in files)
    note(f"wrote {len(files)} files, {size / 1e6:.1f} MB, to {output}")
