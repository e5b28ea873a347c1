"""The labels of a model, and texts to label numbers."""

from collections.abc import Sequence

from asr.decode.lm.ngrams import END
from asr.training.config import Config
from asr.training.data.sources import Recording
from asr.training.data.texts import plain_label, plain_text

BLANK = "<blank>"
UNKNOWN = "_unknown_"
SILENCE = "_silence_"


class Labels:
    """The ordered labels of a model, and texts to label numbers.

    alike: words that sound like a label: a classifier learns nothing from texts with them.
    """

    def __init__(self, names: Sequence[str], *, task: str, alike: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self.task = task
        self._alike = frozenset(map(plain_label, alike))
        self._index = {self._normal(name): k for k, name in enumerate(self.names)}
        self.characters = all(len(name) == 1 for name in self.names if name not in (BLANK, END))

    @classmethod
    def build(cls, config: Config, recordings: Sequence[Recording]) -> "Labels":
        """The labels that the head asks for: given ones, or the characters of the texts."""
        head = config.model.head
        if head.kind == "classify":
            has_noise = any(source.kind == "noise" for source in config.data.sources)
            extra = [UNKNOWN] * (config.data.unknown > 0)
            extra += [SILENCE] * (config.data.silence > 0 and has_noise)
            return cls([*head.labels, *extra], task="classify", alike=head.alike)
        first = END if head.kind == "lm" else BLANK
        names = head.labels or sorted(set("".join(plain_text(r.text) for r in recordings)))
        return cls([first, *names], task=head.kind)

    @property
    def spaces(self) -> list[int]:
        """What stands between two words: the space of characters, nothing between whole words."""
        return [self._index[" "]] if self.characters and " " in self._index else []

    @property
    def background(self) -> tuple[str, ...]:
        """Labels that are scored but never reported."""
        return tuple(name for name in (UNKNOWN, SILENCE) if name in self._index)

    @property
    def unknown(self) -> int:
        """The number of the label of unknown words; -1 if there is none."""
        return self._index.get(UNKNOWN, -1)

    def _normal(self, name: str) -> str:
        return plain_label(name) if self.task == "classify" else name

    def plain(self, text: str) -> str:
        """The text as these labels say it: see `plain_text`, and `plain_label` for a classifier."""
        return plain_label(text) if self.task == "classify" else plain_text(text, self._index)

    def encode(self, text: str) -> list[int] | None:
        """Label numbers of a text; None if it cannot be said with these labels."""
        text = self.plain(text)
        if self.task == "classify":
            return self._encode_word(text)
        units = list(text) if self.characters else text.split()
        if not units or any(unit not in self._index for unit in units):
            return None
        return [self._index[unit] for unit in units]

    def _encode_word(self, text: str) -> list[int] | None:
        if text in self._index:
            return [self._index[text]]
        says_a_label = any(word in self._index or word in self._alike for word in text.split())
        if says_a_label or UNKNOWN not in self._index:
            return None
        return [self._index[UNKNOWN]]

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of label numbers without blanks and repeats (for evaluation while training)."""
        separator = "" if self.characters else " "
        return " ".join(separator.join(self.names[n] for n in numbers).split())
