"""The sounds of English as labels, and pronunciations as people write them."""

from features.errors import EarshotError

BOUNDARY = " "  # between two words
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
STOPS = ("B", "D", "G", "K", "P", "T", "CH", "JH")
FRICATIVES = ("DH", "F", "S", "SH", "TH", "V", "Z", "ZH", "HH")
SONORANTS = ("L", "M", "N", "NG", "R", "W", "Y")
PHONEMES = (*VOWELS, *STOPS, *FRICATIVES, *SONORANTS)
SOUNDS = ("<blank>", BOUNDARY, *PHONEMES)  # the labels of a model's second output


class PronunciationError(EarshotError, ValueError):
    """A pronunciation that is not written in the phonemes of CMUdict."""


def parse_pronunciation(text: str) -> tuple[str, ...]:
    """Read phonemes in the notation of CMUdict, "IH1 R SH AA2 T"; stress is not needed.

    Raises PronunciationError.
    """
    said = tuple(phoneme.rstrip("012") for phoneme in text.upper().split())
    unknown = [phoneme for phoneme in said if phoneme not in PHONEMES]
    if unknown or not said:
        what = f"'{unknown[0]}' is no phoneme" if unknown else "a pronunciation is empty"
        raise PronunciationError(f"{what}; write those of CMUdict: {' '.join(PHONEMES)}")
    return said
