"""How the pages of --help are laid out."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class _Plain:
    """A command whose flags are listed without a type: there is nothing to give after them."""

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
