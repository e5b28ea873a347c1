"""Grammars as guides: a beam search that recognises what a grammar says, and nothing else."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.guides.jsgf import Grammar
from asr.decode.lm.fusion import CACHED_ROWS, CachedRows

T = TypeVar("T")
LARGEST = 500_000  # steps of building a network: some seconds, some hundred megabytes


class Network:
    """A grammar as a finite automaton over labels (Thompson's construction, 1968).

    Every word ends with a separator if the labels have one. Nodes are numbers, 0 is the first;
    nodes from which the end cannot be reached have no way out. Raises DecodeError if a word cannot
    be spelled, or if rules within rules unfold to more than `LARGEST` steps.
    """

    START, END = 0, 1

    def __init__(self, alphabet: Alphabet, grammar: Grammar) -> None:
        self._alphabet = alphabet
        self._grammar = grammar
        self._arcs: list[list[tuple[int, int]]] = [[], []]
        self._free: list[list[int]] = [[], []]
        self._build()
        self._trim()

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

    def _build(self) -> None:
        """Lead from the start through all that the grammar says to the end.

        A rule with the same end is built once: recursion at its end leads back to its beginning.
        """
        todo = [(self._grammar.start, self.START, self.END)]
        rules: dict[tuple[str, int], int] = {}
        for step in itertools.count(1):
            if not todo:
                return
            if step + len(self._arcs) > LARGEST:
                raise DecodeError(
                    f"{self._grammar.path}: its rules within rules unfold to more than {LARGEST} "
                    "steps; repeat with * or + instead"
                )
            expansion, source, target = todo.pop()
            match expansion.kind:
                case "word":
                    self._spell(expansion.text, source, target)
                case "rule":
                    name, known = expansion.text, len(rules)
                    begin = rules.setdefault((name, target), len(self._arcs))
                    if len(rules) > known:
                        todo.append((self._grammar.rules[name], self._node(), target))
                    self._free[source].append(begin)
                case "all":
                    if not expansion.parts:
                        self._free[source].append(target)
                    todo += self._chain(expansion.parts, source, target)
                case "any":
                    todo += ((part, source, target) for part in expansion.parts)
                case "many":
                    begin, end = self._node(), self._node()
                    self._free[source].append(begin)
                    self._free[end] += (begin, target)
                    todo.append((expansion.parts[0], begin, end))

    def _spell(self, word: str, source: int, target: int) -> None:
        labels = self._alphabet.must_spell(word, self._grammar.path)
        separator = self._alphabet.separator
        labels = labels if separator is None else (*labels, separator)
        for label, begin, end in self._chain(labels, source, target):
            self._arcs[begin].append((label, end))

    def _chain(self, parts: Sequence[T], source: int, target: int) -> Iterator[tuple[T, int, int]]:
        """Yield parts that follow each other with the nodes between which each one is."""
        nodes = [source, *(self._node() for _ in parts[1:]), target]
        return zip(parts, nodes, nodes[1:], strict=False)  # without parts there is no way

    def _trim(self) -> None:
        """Take out what leads to nodes from which the end cannot be reached."""
        back: list[list[int]] = [[] for _ in self._arcs]
        for source, (arcs, free) in enumerate(zip(self._arcs, self._free, strict=True)):
            for target in itertools.chain((to for _, to in arcs), free):
                back[target].append(source)
        alive, todo = {self.END}, [self.END]
        while todo:
            new = set(back[todo.pop()]) - alive
            alive |= new
            todo += new
        self._arcs = [[arc for arc in arcs if arc[1] in alive] for arcs in self._arcs]
        self._free = [[to for to in free if to in alive] for free in self._free]


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
        return self._network.reach({Network.START})

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
        return 0.0 if self._network.END in ends else -np.inf
