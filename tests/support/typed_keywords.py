"""Typed keywords that every decoder is asked for in `samples/digits.ogg`: Python, the page, C.

Some are found by letters and phonemes, by several pronunciations of one; some by letters alone.
"""

import shutil
from pathlib import Path

import asr
from asr.decode.keywords.typed import parse_keywords

TEXT = (
    "three (TH R IY1)=0.5, one five (W AH1 N F AY1 V) (HH W AA N F AY V)=0.3, four, "
    "for one (f ao r w ah n) (F ER W AH N)=0.2, hello=0.05"
)
OPTIONS = asr.SpotOptions(keywords=parse_keywords(TEXT))
FOUND = ("three", "four", "one five")


def without_dictionary(folder: Path) -> Path:
    """Return a copy of `english` that has no language model beside it, as the page and C have it:
    they know of no pronunciation but what is written."""
    return Path(shutil.copy(asr.load("english").path, folder))
