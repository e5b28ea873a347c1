"""A language model whose words can be recognised by their phonemes."""

from asr.decode.lm.lexicon import Pronunciations
from asr.decode.lm.ngrams import MARKS, NgramModel
from asr.training.pronounce import pronunciations
from features.errors import EarshotError


class UnpronouncedError(EarshotError, ValueError):
    """A language model of which no word can be said."""


def pronounce(model: NgramModel) -> tuple[NgramModel, list[str]]:
    """Return a model with the pronunciations of its words, and the words that have none.

    Raises UnpronouncedError if all have none.
    """
    said: dict[str, list[int]] = {}
    unsaid: list[str] = []
    for number, word in enumerate(model.vocabulary, start=len(MARKS)):
        several = pronunciations(word)
        unsaid += [] if several else [word]
        for pronunciation in several:
            said.setdefault(pronunciation, []).append(number)
    if not said:
        raise UnpronouncedError(
            f"{model.path}: none of its words can be pronounced; give a model of English words"
        )
    log_p = model.levels[0].log_p[:]
    built = Pronunciations.build(said, log_p, len(MARKS))
    return NgramModel(model.lexicon, model.levels, model.path, model.look_ahead, built), unsaid
