"""What all decoders share."""

from features.errors import EarshotError


class DecodeError(EarshotError, ValueError):
    """A language model, word list, grammar or hotword that decoding cannot use."""
