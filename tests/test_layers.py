"""The house is built one way up: no module imports from above it, and none in a circle."""

import ast
from pathlib import Path

import pytest

from tests.support.commands import ROOT

# From the ground up. A module belongs to the longest prefix of its name; within a layer any import
# that closes no circle is allowed.
LAYERS = (
    ("features",),
    ("asr.events", "asr.files", "asr.card", "asr.cores", "asr.phonemes"),
    ("asr.runtime", "asr.microphone"),
    ("asr.model",),
    ("asr.decode",),
    ("asr.stream",),
    ("asr.recognise", "asr.gate", "asr.assist"),
    ("asr",),  # the public interface
    ("asr.transcripts",),
    ("asr.batch",),
    ("asr.serve", "asr.ovos"),
    ("asr.training",),
    ("asr.evaluation", "export"),
    ("asr.studies",),
    ("asr.cli", "asr.__main__"),
    ("demo_mic",),
)
LAYER_OF = {prefix: number for number, layer in enumerate(LAYERS) for prefix in layer}


def source_files() -> dict[str, Path]:
    """Module names of the project and their files."""
    found: dict[str, Path] = {}
    for top in ("features", "asr", "export"):
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found | {"demo_mic": ROOT / "demo_mic.py"}


MODULES = source_files()


def layer(module: str) -> int:
    parts = module.split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(LAYER_OF[prefix] for prefix in prefixes if prefix in LAYER_OF)


def imports(module: str) -> set[str]:
    """Modules of the project that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in whole}
    return {name for name in names if name in MODULES} - {module}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_imports_from_a_higher_layer(module: str) -> None:
    higher = {name for name in imports(module) if layer(name) > layer(module)}
    assert not higher


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: imports(module) for module in MODULES}
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in finished:
            for name in sorted(graph[module]):
                visit(name, (*path, module))
            finished.add(module)

    for module in sorted(graph):
        visit(module, ())
