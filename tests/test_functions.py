"""Functions can be read at one go, and what others call says what it does."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.commands import ROOT

MOST_LINES = 50  # of statements: the options and the help of a command are no part of them
PACKAGES = [path for top in ("asr", "export", "features") for path in (ROOT / top).rglob("*.py")]
PROGRAMS = [ROOT / "demo_mic.py", *(ROOT / "docs").glob("*.py"), *(ROOT / "tests").rglob("*.py")]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def lines_of_statements(function: Function) -> int:
    first = function.body[1 if ast.get_docstring(function) and len(function.body) > 1 else 0]
    return (function.end_lineno or 0) - first.lineno + 1


def methods(path: Path) -> Iterator[Function]:
    """The public methods of public classes."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for function in node.body:
                if isinstance(function, Function) and not function.name.startswith("_"):
                    yield function


# A method that implements a protocol, or overrides one, is described where that is declared.
DESCRIBED = {f.name for path in PACKAGES for f in methods(path) if ast.get_docstring(f)}
OF_LIBRARIES = {"emit", "forward", "handle_connect", "seekable"}  # what logging, torch, ... declare


def test_functions_stay_under_fifty_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {function.name}"
        for path in PACKAGES + PROGRAMS
        for function in functions(path)
        if lines_of_statements(function) >= MOST_LINES
    ]
    assert long == []


def test_public_methods_are_described_where_they_are_declared() -> None:
    bare = [
        f"{path.relative_to(ROOT)}: {method.name}"
        for path in PACKAGES
        for method in methods(path)
        if not ast.get_docstring(method) and method.name not in DESCRIBED | OF_LIBRARIES
    ]
    assert bare == []
