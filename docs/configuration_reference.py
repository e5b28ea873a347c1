"""Writes the tables of configuration.md from the dataclasses that a training is configured by."""

import dataclasses
import inspect
import re
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
    return "\n\n".join(_section(*table) for table in _tables(Config, "", None))


def _tables(kind: type, name: str, default: Any) -> Iterator[tuple[type, str, Any]]:
    """Yield dataclass, dotted name and default, if there is one, of each table, outermost first."""
    yield kind, name, default
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        for inner in (hints[field.name], *typing.get_args(hints[field.name])):
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                dotted = f"{name}.{field.name}".lstrip(".")
                yield from _tables(inner, dotted, _default(field, default))


def _section(kind: type, name: str, default: Any) -> str:
    hints = typing.get_type_hints(kind)
    rows = [
        f"| `{field.name}` | `{_type(hints[field.name])}` | {_shown(_default(field, default))} |"
        for field in dataclasses.fields(kind)
    ]
    heading = f"## `{name}`" if name else "## The file"
    table = ["| setting | type | default |", "|---|---|---|", *rows]
    return "\n".join([heading, "", _listed(inspect.getdoc(kind) or ""), "", *table])


def _listed(text: str) -> str:
    """Make a list of the lines that begin with a setting and a colon."""
    items = re.sub(r'^("?[a-z_]+"?(?:, [a-z_]+)*): ', r"\n- **\1**: ", text, flags=re.M)
    return items.replace("\n\n\n", "\n\n")


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f'"{choice}"' for choice in typing.get_args(hint))
    if dataclasses.is_dataclass(hint):
        return "table"
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    if any(dataclasses.is_dataclass(inner) for inner in typing.get_args(hint)):
        return "list of tables"
    return text.replace("typing.", "").replace(" | ", " or ")


def _default(field: dataclasses.Field[Any], table: Any) -> Any:
    """Return the default of a setting, MISSING if there is none; `table`: that of its table."""
    if dataclasses.is_dataclass(table):
        return getattr(table, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _shown(default: Any) -> str:
    if default is dataclasses.MISSING:
        return "required"
    return "its own defaults" if dataclasses.is_dataclass(default) else f"`{default!r}`"
