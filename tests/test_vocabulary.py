"""Source, help and messages use the words of the field."""

import re

import pytest

from tests.support.commands import ROOT

BANNED = re.compile(
    r"\b(hears?|heard|hearing|told|foretells?|utmost|surest|lively|wish(es)?|doubts?|belies|sought)\b",
    re.IGNORECASE,
)
FILES = [ROOT / "demo_mic.py"] + [
    path
    for folder in ("asr", "export", "features")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_uses_the_words_of_the_field(path) -> None:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    assert [f"{number}: {line.strip()}" for number, line in lines if BANNED.search(line)] == []
