"""What recognisers write, as it is said: one form for all, so that spelling is no error.

Whisper writes "Mr. Smith paid $20." where a transcript of LibriSpeech has "mister smith paid twenty
dollars". Numbers become words, abbreviations and signs too; then `plain_text`. What is in brackets,
as [Music], is not said. A number of four digits from 1100 to 1999 is read as a year. British and
American spelling stay apart.
"""

import re

from asr.training.data.texts import plain_text

ABBREVIATIONS = {
    "mr": "mister",
    "mrs": "missus",
    "ms": "miss",
    "dr": "doctor",
    "st": "saint",
    "vs": "versus",
    "etc": "et cetera",
    "okay": "ok",
}
SIGNS = {"&": " and ", "%": " percent ", "+": " plus ", "=": " equals "}
CURRENCIES = {"$": "dollar", "£": "pound", "€": "euro"}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = (
    "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
SMALL = DIGITS + TEENS
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
LARGE = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
YEARS = range(1100, 2000)
LARGEST = 10**12  # a number from here on is read digit by digit

BRACKETS = re.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>")
AMOUNT = re.compile(r"([$£€])\s*(\d+(?:,\d{3})*)(?:\.(\d\d))?")
NUMBER = re.compile(r"(\d+(?:,\d{3})*)(?:\.(\d+))?(st|nd|rd|th|s)?(?![\d])", re.IGNORECASE)


def as_said(text: str) -> str:
    """Return a text in lower-case words, without digits, signs and punctuation."""
    text = AMOUNT.sub(_amount, BRACKETS.sub(" ", text))
    text = NUMBER.sub(_number, text)
    for sign, word in SIGNS.items():
        text = text.replace(sign, word)
    return " ".join(ABBREVIATIONS.get(word, word) for word in plain_text(text).split())


def cardinal(number: int) -> str:
    """Return a number from 0 on in words: 21 is "twenty one"."""
    if number >= LARGEST:
        return " ".join(SMALL[int(digit)] for digit in str(number))
    if number < 20:
        return SMALL[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return f"{TENS[tens]} {SMALL[rest]}" if rest else TENS[tens]
    size, name = next((size, name) for size, name in LARGE if number >= size)
    count, rest = divmod(number, size)
    return f"{cardinal(count)} {name}" + (f" {cardinal(rest)}" if rest else "")


def _year(number: int) -> str:
    century, rest = divmod(number, 100)
    if not rest:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' * (rest < 10)}{cardinal(rest)}"


def _ordinal(number: int) -> str:
    *before, last = cardinal(number).split()
    return " ".join([*before, ORDINALS.get(last) or re.sub("y$", "ie", last) + "th"])


def _amount(found: re.Match[str]) -> str:
    unit, whole, part = CURRENCIES[found[1]], int(found[2].replace(",", "")), int(found[3] or 0)
    said = f" {cardinal(whole)} {unit}{'s' * (whole != 1)} "
    return said + (f"{cardinal(part)} " if part else "")


def _number(found: re.Match[str]) -> str:
    """A number amid text, with blanks around it."""
    digits, decimals, ending = found[1], found[2], (found[3] or "").lower()
    value = int(digits.replace(",", ""))
    if decimals is not None:
        said = f"{cardinal(value)} point {' '.join(SMALL[int(digit)] for digit in decimals)}"
    elif ending in ("st", "nd", "rd", "th"):
        said = _ordinal(value)
    elif value in YEARS and "," not in digits:
        said = _year(value)
    else:
        said = cardinal(value)
    if ending == "s":  # 1850s, 20s
        said = re.sub("y$", "ie", said) + "s"
    elif decimals is not None:
        said += ending
    return f" {said} "
