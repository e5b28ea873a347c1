"""An n-gram of words for labels that are phonemes: its words are spelled as they sound."""

from asr.decode.lm.lexicon import Pronunciations
from asr.decode.lm.ngrams import MARKS, Context, NgramModel


class PronouncedModel:
    """An n-gram as `WordModel` asks for one, over pronunciations in the place of words.

    A pronunciation is as likely as the likeliest word, in its context, that sounds so.
    """

    def __init__(self, model: NgramModel, pronunciations: Pronunciations) -> None:
        self._model = model
        self._pronunciations = pronunciations
        self.lexicon = pronunciations.lexicon
        self.look_ahead = pronunciations.look_ahead
        self.known = len(pronunciations)
        self.path = model.path
        self.start = model.start

    def follow(self, context: Context, number: int) -> tuple[float, Context]:
        """Return log p of the likeliest word that sounds so, and the context after it."""
        if number < len(MARKS):
            return self._model.follow(context, number)
        alike = self._pronunciations.alike(number)
        return max(self._model.follow(context, word) for word in alike)
