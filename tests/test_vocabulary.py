"""Source, help, messages, tests and documents use the words of the field."""

import re
from pathlib import Path

import pytest

from tests.support.commands import ROOT

BANNED = re.compile(
    r"(?<![a-z])(hears?|heard|hearing|told|foretells?|utmost|surest|lively|wish(es)?|doubts?|belies"
    r"|sought)(?![a-z])",
    re.IGNORECASE,
)
FOLDERS = ("asr", "docs", "export", "features", "samples", "tests")
FILES = sorted(
    path
    for path in [
        *ROOT.glob("*.py"),
        *ROOT.glob("*.md"),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")),
    ]
    if path.suffix in {".py", ".md", ".toml"} and path != Path(__file__)
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_uses_the_words_of_the_field(path: Path) -> None:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    assert [f"{number}: {line.strip()}" for number, line in lines if BANNED.search(line)] == []
