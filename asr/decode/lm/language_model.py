"""What all language models share: how they are asked, and how they count in a search."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from asr.decode.base import DecodeError
from asr.decode.lm.ngrams import END

logger = logging.getLogger(__name__)
LEAST_KNOWN = 0.5  # the share of a language model's words that the labels must be able to spell


class LanguageModel(Protocol):
    """What says how likely the next word is. The type of contexts is its own affair."""

    path: str

    @property
    def vocabulary(self) -> Sequence[str]:
        """The words that it knows."""
        ...

    @property
    def of_characters(self) -> bool:
        """Whether all of its words are single characters."""
        ...

    @property
    def start(self) -> Any:
        """The context at the beginning of a sentence."""
        ...

    def knows(self, word: str, /) -> bool:
        """Whether a word is in the vocabulary."""
        ...

    def score(self, context: Any, word: str | None, /) -> tuple[float, Any]:
        """log p(word | context), None being a word that is not known, and the next context."""
        ...


def sentence_scores(model: LanguageModel, words: Iterable[str]) -> Iterator[tuple[float, bool]]:
    """Yield log p of each word of a sentence, then of its end, and whether the model knows it."""
    context = model.start
    for word in (*words, END):
        known = model.knows(word)
        score, context = model.score(context, word if known else None)
        yield score, known


class Weights(NamedTuple):
    """How a language model counts: score = alpha * log p + beta * words + oov * unknown words."""

    alpha: float
    beta: float
    oov: float


def check_alphabet(path: str, spelt: int, known: int) -> None:
    """Warn if not all words that a model knows are spelt by the labels.

    Raises DecodeError if most of them are not.
    """
    if spelt < LEAST_KNOWN * known:
        raise DecodeError(
            f"{path}: the labels of the acoustic model spell only {spelt} of its {known} words; "
            "give a language model of the same alphabet and case"
        )
    if lost := known - spelt:
        logger.warning(
            f"{path}: {lost} of its {known} words cannot be spelt with the "
            "labels of the acoustic model and are not recognised"
        )
