"""The `asr` command. Thin: each command says what it wants, the library does it."""

import io
import logging
import sys

import typer

from asr.cli.hear import devices, listen, spot, transcribe
from asr.cli.language_models import lm
from asr.cli.models import bench, export, frontier, info, soak
from asr.cli.terminal import complain
from asr.cli.training import calibrate, compare, evaluate, explain, synthesise, train, tune
from features.errors import EarshotError

__all__ = ["app", "devices", "main", "run"]

COMMANDS = {
    "Hear": (transcribe, spot, listen, devices),
    "Models": (
        info,
        train,
        synthesise,
        export,
        frontier,
        compare,
        explain,
        evaluate,
        tune,
        calibrate,
        bench,
        soak,
    ),
}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(lm, name="lm", rich_help_panel="Models")


@app.callback()
def _about() -> None:
    """Speech and keyword recognition on your own machine. Nothing you say leaves it.

    [bold]asr transcribe[/] talk.wav     write down what is said in a file
    [bold]asr spot[/] clip.wav           find yes, no, stop, go and other commands in it
    [bold]asr listen[/]                  do either, live, from the microphone
    """


def main() -> None:
    """Run the `asr` command."""
    run(app)


def run(command: typer.Typer) -> None:
    """Run a command line; a failure is one line on stderr and exit code 2."""
    logging.basicConfig(format="warning: %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):  # any file name and any word can be printed
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command()
    except EarshotError as error:
        complain(error)
        sys.exit(2)
