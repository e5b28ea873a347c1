"""Words as a tree of their labels."""

from collections.abc import Sequence

ROOT = 0


class Trie:
    """Words by their label numbers. Nodes are numbers, `ROOT` is the first."""

    def __init__(self) -> None:
        self.children: list[dict[int, int]] = [{}]
        self.words: list[str | None] = [None]

    def add(self, labels: Sequence[int], word: str) -> None:
        """Add a word."""
        node = ROOT
        for label in labels:
            node = self.children[node].setdefault(label, len(self.children))
            if node == len(self.children):
                self.children.append({})
                self.words.append(None)
        self.words[node] = word
