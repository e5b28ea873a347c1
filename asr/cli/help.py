"""How the pages of --help are laid out."""

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup

EXAMPLE = "[bold]"  # begins a line that stays one


def _flowing(text: str | None) -> str | None:
    """Make each paragraph that is no list of examples one line, which a terminal of any width can
    wrap."""
    if text is None:
        return None
    paragraphs = inspect.cleandoc(text).split("\n\n")
    flowing = (p if EXAMPLE in p else " ".join(p.split()) for p in paragraphs)
    return "\n\n".join(flowing)


class _Plain:
    """A command whose flags are listed without a type: there is nothing to give after them."""

    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:
        super().__init__(*args, help=_flowing(help), **options)  # type: ignore[call-arg]

    def get_params(self, ctx: Any) -> list[Any]:
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and parameter.metavar is None:
                parameter.metavar = ""
        return parameters


class PlainCommand(_Plain, TyperCommand):
    """A command whose help names no type of its flags."""


class PlainGroup(_Plain, TyperGroup):
    """A group of such commands."""
