"""Typed keywords that every decoder is asked for in `samples/digits.ogg`: Python, the page, C."""

import asr

TYPED = {"three": 0.5, "one five": 0.3, "four": None, "for one": 0.2, "hello": 0.05}
TEXT = ",".join(text if score is None else f"{text}={score}" for text, score in TYPED.items())
OPTIONS = asr.SpotOptions(keywords=tuple(asr.Keyword(*item) for item in TYPED.items()))
