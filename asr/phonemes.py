"""The sounds of English as labels, and pronunciations as people write them.

A phoneme is one letter, by the one-letter form of ARPAbet, so that a pronunciation is a text as a
word is; people write the names that CMUdict has.
"""

from features.errors import EarshotError

BOUNDARY = " "  # between two words
LETTERS = {
    "AA": "a",
    "AE": "@",
    "AH": "A",
    "AO": "c",
    "AW": "W",
    "AY": "Y",
    "EH": "E",
    "ER": "R",
    "EY": "e",
    "IH": "I",
    "IY": "i",
    "OW": "o",
    "OY": "O",
    "UH": "U",
    "UW": "u",
    "B": "b",
    "D": "d",
    "G": "g",
    "K": "k",
    "P": "p",
    "T": "t",
    "CH": "C",
    "JH": "J",
    "DH": "D",
    "F": "f",
    "S": "s",
    "SH": "S",
    "TH": "T",
    "V": "v",
    "Z": "z",
    "ZH": "Z",
    "HH": "h",
    "L": "l",
    "M": "m",
    "N": "n",
    "NG": "G",
    "R": "r",
    "W": "w",
    "Y": "y",
}
NAMES = {letter: name for name, letter in LETTERS.items()}
SOUNDS = ("<blank>", BOUNDARY, *LETTERS.values())  # the labels of a model's second output


class PronunciationError(EarshotError, ValueError):
    """A pronunciation that is not written in the phonemes of CMUdict."""


def parse_pronunciation(text: str) -> str:
    """Read phonemes in the notation of CMUdict, "IH1 R SH AA2 T"; stress is not needed.

    Returns a letter for each. Raises PronunciationError.
    """
    names = [name.rstrip("012") for name in text.upper().split()]
    unknown = [name for name in names if name not in LETTERS]
    if unknown or not names:
        what = f"'{unknown[0]}' is no phoneme" if unknown else "a pronunciation is empty"
        raise PronunciationError(f"{what}; write those of CMUdict: {' '.join(LETTERS)}")
    return "".join(LETTERS[name] for name in names)


def shown_pronunciation(said: str) -> str:
    """A pronunciation in the names of CMUdict, without stress."""
    return " ".join(NAMES[letter] for letter in said)
