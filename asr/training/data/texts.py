"""What is said, as labels see it: one normal form for labels, folder names and transcripts."""

import unicodedata
from collections.abc import Container

APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'"})


def plain_text(text: str, keep: Container[str] = "") -> str:
    """Return a transcript as it is said: NFC, lower case, without punctuation, single spaces.

    Dashes and slashes part words; all other punctuation but the apostrophe inside a word is taken
    out. keep: punctuation that is a label, and so stays. Digits stay as they are: how a number is
    said is not known, so a text with one can only be left out by those whose labels lack it.
    """
    text = unicodedata.normalize("NFC", text).lower().translate(APOSTROPHES)
    said = "".join(character if character in keep else _spoken(character) for character in text)
    words = (word if word in keep or "'" in keep else word.strip("'") for word in said.split())
    return " ".join(word for word in words if word)


def _spoken(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Pd" or character in "/_\u2026":
        return " "
    return "" if category.startswith("P") and character != "'" else character


def plain_label(name: str) -> str:
    """Return the form in which labels, folders and texts of words meet: NFC, lower case, `_` and
    blanks alike. Names that begin with `_`, those of background labels, stay as they are."""
    name = unicodedata.normalize("NFC", name).lower()
    return name if name.startswith("_") else " ".join(name.replace("_", " ").split())
