"""The `asr` command. Thin: each command reads its options, the library does the work."""

from typing import Annotated

import typer

from asr.cli.assist import assist
from asr.cli.errors import run
from asr.cli.help import PlainCommand, PlainGroup
from asr.cli.language_models import lm
from asr.cli.models import bench, export, frontier, info, soak
from asr.cli.own_words import adapt, new, record
from asr.cli.recognise import devices, listen, spot, transcribe
from asr.cli.review import review
from asr.cli.serve import serve
from asr.cli.training import (
    calibrate,
    compare,
    cut,
    evaluate,
    explain,
    report,
    shard,
    synthesise,
    train,
    tune,
)
from asr.cli.web import web

__all__ = ["app", "main"]

COMMANDS = {
    "Recognise": (transcribe, spot, listen, assist, serve, devices),
    "Models": (
        info,
        train,
        new,
        adapt,
        record,
        review,
        synthesise,
        cut,
        shard,
        export,
        frontier,
        compare,
        explain,
        evaluate,
        report,
        tune,
        calibrate,
        bench,
        soak,
        web,
    ),
}

app = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(cls=PlainCommand, rich_help_panel=panel)(command)
app.add_typer(lm, name="lm", rich_help_panel="Models")


def _print_version(wanted: bool) -> None:
    if wanted:
        from asr import __version__

        print(f"asr {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Speech and keyword recognition on your own machine. Nothing you say leaves it.

    [bold]asr transcribe[/] talk.wav     transcribe a file
    [bold]asr spot[/] clip.wav           find yes, no, stop, go and other commands in it
    [bold]asr listen[/]                  do either, live, from the microphone
    """


def main() -> None:
    """Run the `asr` command."""
    run(app)
