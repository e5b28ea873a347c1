"""Grammars as guides: a beam search that recognises what a grammar says, and nothing else."""

import functools

import numpy as np

from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.guides.jsgf import Expansion, Grammar
from asr.decode.lm.fusion import CACHED_ROWS, CachedRows


class Network:
    """A grammar as a finite automaton over labels (Thompson's construction, 1968).

    Every word ends with a separator if the labels have one. Nodes are numbers, 0 is the first.
    """

    def __init__(self, alphabet: Alphabet, grammar: Grammar) -> None:
        self._alphabet = alphabet
        self._grammar = grammar
        self._arcs: list[list[tuple[int, int]]] = []
        self._free: list[list[int]] = []
        self.end = self._build(grammar.start, self._node())

    def reach(self, nodes: set[int]) -> frozenset[int]:
        """All that can be reached from nodes without a label."""
        found, todo = set(nodes), list(nodes)
        while todo:
            new = set(self._free[todo.pop()]) - found
            found |= new
            todo += new
        return frozenset(found)

    def follow(self, nodes: frozenset[int], label: int) -> frozenset[int]:
        """Where a label leads."""
        return self.reach({to for node in nodes for by, to in self._arcs[node] if by == label})

    def labels(self, nodes: frozenset[int]) -> list[int]:
        """The labels that lead anywhere."""
        return sorted({by for node in nodes for by, _ in self._arcs[node]})

    def _node(self) -> int:
        self._arcs.append([])
        self._free.append([])
        return len(self._arcs) - 1

    def _build(self, expansion: Expansion, source: int) -> int:
        """Lead from `source` through an expansion; return where it ends."""
        match expansion.kind:
            case "word":
                return self._spell(expansion.text, source)
            case "rule":
                return self._build(self._grammar.rules[expansion.text], source)
            case "all":
                return functools.reduce(
                    lambda at, part: self._build(part, at), expansion.parts, source
                )
            case "any":
                end = self._node()
                for part in expansion.parts:
                    self._free[self._build(part, source)].append(end)
                return end
            case "many":
                begin = self._node()
                self._free[source].append(begin)
                end = self._build(expansion.parts[0], begin)
                self._free[end].append(begin)
                return end

    def _spell(self, word: str, source: int) -> int:
        labels = self._alphabet.must_spell(word, self._grammar.path)
        separator = self._alphabet.separator
        for label in labels if separator is None else (*labels, separator):
            target = self._node()
            self._arcs[source].append((label, target))
            source = target
        return source


class GrammarGuide(CachedRows):
    """Allows what a grammar says only. The state is all nodes where the text can be."""

    def __init__(self, alphabet: Alphabet, grammar: Grammar) -> None:
        super().__init__()
        self._alphabet = alphabet
        self._network = Network(alphabet, grammar)
        self._follow = functools.lru_cache(CACHED_ROWS)(self._network.follow)
        if not self._network.labels(self.start()):
            raise DecodeError(f"{grammar.path}: says nothing at all; give it a word")

    def start(self) -> frozenset[int]:
        return self._network.reach({0})

    def _row(self, nodes: frozenset[int]) -> np.ndarray:
        row = np.full(len(self._alphabet.labels), -np.inf)
        row[self._network.labels(nodes)] = 0.0
        row[self._alphabet.blank] = 0.0
        return row

    def advance(self, nodes: frozenset[int], label: int) -> frozenset[int]:
        return self._follow(nodes, label)

    def final(self, nodes: frozenset[int]) -> float:
        separator = self._alphabet.separator
        ends = nodes if separator is None else nodes | self._follow(nodes, separator)
        return 0.0 if self._network.end in ends else -np.inf
