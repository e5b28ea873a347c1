"""Settings as TOML text: the inverse of `parse_toml` for what a configuration holds."""

import json
import re
from collections.abc import Iterator
from typing import Any

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def write_toml(tree: dict[str, Any]) -> str:
    """Return nested tables as TOML; a value of None, which TOML lacks, is left out.

    Lists of tables become arrays of tables. A value is a string, bool, int, finite float, or a list
    or tuple of these.
    """
    return "\n".join(_table(tree, ())).lstrip("\n") + "\n"


def _table(table: dict[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    inner = {name: value for name, value in table.items() if _is_table(value)}
    for name, value in table.items():
        if name not in inner and value is not None:
            yield f"{_key(name)} = {_value(value)}"
    for name, value in inner.items():
        place = (*path, name)
        head = ".".join(map(_key, place))
        for row in [value] if isinstance(value, dict) else value:
            yield ""
            yield f"[{head}]" if isinstance(value, dict) else f"[[{head}]]"
            yield from _table(row, place)


def _is_table(value: Any) -> bool:
    rows = isinstance(value, list | tuple) and len(value) > 0
    return isinstance(value, dict) or (rows and all(isinstance(row, dict) for row in value))


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):  # JSON escapes all that TOML does, but for delete
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
