"""The words of a language model by their letters: a tree, and how other words are spelled.

A node of the tree stands for the words that begin alike. Nodes are numbered by their depth, then by
their words, so that what continues a node lies together. Letters are numbers from 1 on, by their
code points; 0 is the edge of a word.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from asr.decode.lm.values import Values

ROOT = 0
EDGE = 0  # the letter before the first and after the last of a word
NO_WORD = 0  # the number of no word: that of <unk>
LONGEST_RUN = 4  # letters that a spelling looks at together, while their table stays small
LARGEST_TABLE = 2**20
CACHED_WORDS = 2**16


@dataclass(frozen=True)
class Spelling:
    """p(letter | the letters before it in a word), for words that are in no lexicon.

    log_p: natural logarithms, (runs * letters,): what follows each run of letters. A run is a
    number with a digit for each of its letters. letters: how many there are, the edge too.
    """

    log_p: Values
    letters: int

    START = 0  # the run of edges only

    def after(self, run: int, letter: int) -> int:
        """The run that ends in one more letter."""
        return (run * self.letters + letter) % (len(self.log_p) // self.letters)


def learn_spelling(letters: np.ndarray, lengths: np.ndarray, kinds: int) -> Spelling:
    """Learn p(letter | letters before it) from words, each as often as any other.

    letters: the numbers of the letters of all words in a row; lengths: of each word; kinds: how
    many letters there are, the edge too. Source: Witten & Bell, "The zero-frequency problem" (IEEE
    Transactions on Information Theory, 1991), method C, interpolated.
    """
    order = next(n for n in range(LONGEST_RUN, 0, -1) if kinds**n <= LARGEST_TABLE or n == 1)
    gap = max(order - 1, 1)  # edges around each word
    text = np.full(len(letters) + gap * (len(lengths) + 1), EDGE)
    text[np.arange(len(letters)) + gap * (np.repeat(np.arange(len(lengths)), lengths) + 1)] = (
        letters
    )
    predicted = gap + np.flatnonzero((text[gap:] != EDGE) | (text[gap - 1 : -1] != EDGE))
    p = np.full((1, kinds), 1.0 / kinds)
    runs = np.zeros(len(predicted), np.int64)
    for n in range(order):
        runs += text[predicted - n] * kinds**n
        counts = np.bincount(runs, minlength=kinds ** (n + 1)).reshape(-1, kinds)
        seen = (counts > 0).sum(axis=1, keepdims=True)
        shorter = np.tile(p, (len(counts) // len(p), 1))
        total = np.maximum(counts.sum(axis=1, keepdims=True) + seen, 1)
        p = np.where(seen > 0, (counts + seen * shorter) / total, shorter)
    return Spelling(np.log(p).ravel(), kinds)


class Lexicon:
    """Words as a tree of letters.

    letters: the characters of the words, by their numbers less one, in the order of code points.
    letter: of each node, (nodes,); first: where what continues it begins, (nodes + 1,); word: the
    number of the word that ends there, or `NO_WORD`, (nodes,). spelling: of all other words.
    """

    def __init__(
        self, letters: str, letter: Values, first: Values, word: Values, spelling: Spelling
    ) -> None:
        self.letters = letters
        self.letter = letter
        self.first = first
        self.word = word
        self.spelling = spelling
        self._letter_number = {character: k for k, character in enumerate(letters, start=1)}
        self.number = lru_cache(CACHED_WORDS)(self._number)

    @classmethod
    def build(cls, words: Sequence[str], number: int) -> "Lexicon":
        """Make the tree of distinct words, whose numbers are `number` and those after it."""
        order = sorted(range(len(words)), key=words.__getitem__)
        text = "".join(words[k] for k in order)
        lengths = np.array([len(words[k]) for k in order], np.int64)
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        alphabet, letters = np.unique(codes, return_inverse=True)
        spelling = learn_spelling(letters + 1, lengths, len(alphabet) + 1)
        nodes = _tree(letters + 1, lengths, np.array(order, np.int64) + number)
        return cls("".join(map(chr, alphabet)), *nodes, spelling)

    def _number(self, word: str) -> int | None:
        """The number of a word; None if it is not in the tree."""
        node = ROOT
        for character in word:
            letter = self._letter_number.get(character, EDGE)
            begin, end = int(self.first[node]), int(self.first[node + 1])
            node = begin + int(np.searchsorted(self.letter[begin:end], letter))
            if node == end or self.letter[node] != letter:
                return None
        return int(self.word[node]) or None

    def word_of(self, number: int) -> str:
        """The word of a number."""
        node, letters = int(self._nodes[number]), []
        while node != ROOT:
            letters.append(self.letters[int(self.letter[node]) - 1])
            node = int(np.searchsorted(self._first, node, "right")) - 1
        return "".join(reversed(letters))

    @cached_property
    def _nodes(self) -> np.ndarray:
        """The node in which each word ends, by the numbers of the words."""
        words = self.word[:]
        nodes = np.zeros(int(words.max(initial=0)) + 1, np.int64)
        ends = np.flatnonzero(words)
        nodes[words[ends]] = ends
        return nodes

    @cached_property
    def _first(self) -> np.ndarray:
        return self.first[:]

    def spelled(self, word: str) -> float:
        """log p of the letters of a word, whether it is in the tree or not."""
        run, total = Spelling.START, 0.0
        for letter in [*(self._letter_number.get(character, EDGE) for character in word), EDGE]:
            total += float(self.spelling.log_p[run * self.spelling.letters + letter])
            run = self.spelling.after(run, letter)
        return total

    @property
    def depths(self) -> Iterator[tuple[int, int]]:
        """Where the nodes of each depth begin and end, from the root on."""
        begin, end = ROOT, ROOT + 1
        while begin < end:
            yield begin, end
            begin, end = int(self.first[begin]), int(self.first[end])

    @property
    def depth(self) -> int:
        """How many letters the longest word has."""
        return sum(1 for _ in self.depths) - 1

    @cached_property
    def words(self) -> list[str]:
        """The words by their numbers."""
        parts = [""]
        numbered: list[tuple[int, str]] = []
        for begin, end in self.depths:
            grown: list[str] = []
            first, words = self.first[begin : end + 1].tolist(), self.word[begin:end].tolist()
            letters = self.letter[first[0] : first[-1]].tolist()
            for part, word, start, stop in zip(parts, words, first, first[1:], strict=False):
                if word != NO_WORD:
                    numbered.append((word, part))
                own = letters[start - first[0] : stop - first[0]]
                grown += (part + self.letters[letter - 1] for letter in own)
            parts = grown
        return [word for _, word in sorted(numbered)]

    def spelt_with(self, letters: set[str]) -> int:
        """How many of the words have these letters only."""
        known = np.array([False, *(letter in letters for letter in self.letters)])
        kept, count = np.ones(1, bool), 0
        for begin, end in self.depths:
            count += int(np.count_nonzero(kept & (self.word[begin:end] != NO_WORD)))
            first = self.first[begin : end + 1]
            kept = np.repeat(kept, np.diff(first)) & known[self.letter[first[0] : first[-1]]]
        return count

    def best_below(self, scores: np.ndarray) -> np.ndarray:
        """The best of the scores of all words, by their numbers, that begin as a node does."""
        best = np.where(self.word[:] == NO_WORD, -np.inf, scores[self.word[:]])
        for begin, end in [*self.depths][-2::-1]:
            first = self.first[begin : end + 1]
            parents = begin + np.flatnonzero(np.diff(first))
            below = np.maximum.reduceat(best[: first[-1]], self.first[parents])
            best[parents] = np.maximum(best[parents], below)
        return best


@dataclass(frozen=True)
class Pronunciations:
    """How the words of a model are said: their pronunciations in the place of words, as a tree.

    Several words may sound alike, and one may be said in several ways. lexicon: the different
    pronunciations, a letter for each phoneme, numbered after so many `marks`. first: where the
    words of each begin in `words`, (pronunciations + 1,); words: their numbers. look_ahead: the
    best log p, without a context, of the words below each node of the lexicon.
    """

    lexicon: Lexicon
    marks: int
    first: Values
    words: Values
    look_ahead: Values

    @classmethod
    def build(
        cls, said: Mapping[str, Sequence[int]], log_p: np.ndarray, marks: int
    ) -> "Pronunciations":
        """Make the tree of pronunciations and of the words that each is one of.

        log_p: of all words by their numbers, the marks first.
        """
        lexicon = Lexicon.build([*said], marks)
        words = np.array([word for several in said.values() for word in several])
        first = np.cumsum([0, *map(len, said.values())])
        best = np.maximum.reduceat(log_p[words], first[:-1])
        look_ahead = lexicon.best_below(np.concatenate([log_p[:marks], best]))
        return cls(lexicon, marks, first, words, look_ahead)

    def __len__(self) -> int:
        return len(self.first) - 1

    def alike(self, number: int) -> list[int]:
        """The numbers of the words that a pronunciation, by its number, is one of."""
        place = number - self.marks
        return self.words[int(self.first[place]) : int(self.first[place + 1])].tolist()

    def of(self, word: int) -> list[str]:
        """How a word, by its number, is said."""
        entries = np.flatnonzero(self.words[:] == word)
        places = np.searchsorted(self.first[:], entries, "right") - 1
        return [self.lexicon.word_of(int(place) + self.marks) for place in places]


def _tree(
    letters: np.ndarray, lengths: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The letter, first and word of all nodes, from sorted distinct words."""
    begins = np.cumsum(lengths) - lengths
    own_letter, own_parent = [np.zeros(1, np.int64)], [np.zeros(0, np.int64)]
    word = [np.zeros(1, np.int64)]
    alive, nodes, count = np.arange(len(lengths)), np.zeros(len(lengths), np.int64), 1
    for depth in range(int(lengths.max(initial=0))):
        longer = lengths[alive] > depth
        alive, nodes = alive[longer], nodes[longer]
        found = letters[begins[alive] + depth]
        new = np.ones(len(alive), bool)
        new[1:] = (found[1:] != found[:-1]) | (nodes[1:] != nodes[:-1])
        own_letter.append(found[new])
        own_parent.append(nodes[new])
        nodes = count + np.cumsum(new) - 1
        count += int(new.sum())
        ends = np.zeros(int(new.sum()), np.int64)
        done = lengths[alive] == depth + 1
        ends[nodes[done] - (count - len(ends))] = numbers[alive[done]]
        word.append(ends)
    parents = np.concatenate(own_parent)
    first = 1 + np.searchsorted(parents, np.arange(count + 1))
    return np.concatenate(own_letter), first, np.concatenate(word)
