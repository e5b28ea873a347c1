"""Writes the tables of configuration.md from the dataclasses that a training is configured by."""

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from typing import Any

from asr.training.config import Config

MARK = "<!-- the settings -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the reference where a page has the mark (called by mkdocs for each page)."""
    return markdown.replace(MARK, reference()) if MARK in markdown else markdown


def reference() -> str:
    """Return a section of Markdown for each table of a configuration file."""
    return "\n\n".join(_section(kind, name) for kind, name in _tables(Config, ""))


def _tables(kind: type, name: str) -> Iterator[tuple[type, str]]:
    """Yield the dataclass and dotted name of each table, outermost first."""
    yield kind, name
    for field, hint in typing.get_type_hints(kind).items():
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                yield from _tables(inner, f"{name}.{field}".lstrip("."))


def _section(kind: type, name: str) -> str:
    hints = typing.get_type_hints(kind)
    rows = [
        f"| `{field.name}` | `{_type(hints[field.name])}` | {_default(field)} |"
        for field in dataclasses.fields(kind)
    ]
    heading = f"## `{name}`" if name else "## The file"
    text = inspect.getdoc(kind) or ""
    return "\n".join(
        [heading, "", text, "", "| setting | type | default |", "|---|---|---|", *rows]
    )


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f'"{choice}"' for choice in typing.get_args(hint))
    if dataclasses.is_dataclass(hint):
        return "table"
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return text.replace("typing.", "").replace("|", "or")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    return "required" if field.default_factory is dataclasses.MISSING else "its own defaults"
