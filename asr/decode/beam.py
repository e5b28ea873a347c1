"""CTC prefix beam search: the most probable texts, over all the paths that read each of them.

Sources: Graves, "Supervised Sequence Labelling with Recurrent Neural Networks" (2012), section
7.5.2; Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using
Bi-Directional Recurrent DNNs" (2014), for the language model in it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.card import ENDPOINT, Endpoint
from asr.decode.alphabet import Alphabet, Span
from asr.decode.ctc_paths import align
from asr.decode.endpoint import Endpointer
from asr.decode.lm.fusion import Fusion
from asr.events import Alternative, Event, Partial, Utterance
from asr.runtime.scorers import Scores

# A label less probable than this in a frame begins nothing there. All such labels together hold
# less of a frame's probability than the 1e-4 to which a streamed score is exact.
LEAST_LOG_PROB = -14.0
MARGIN = 16.0
# Once in this time, what the best text had in it for as long is settled: others are given up.
SETTLE_SECONDS = 1.0
KEY_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit of a key is lost


@dataclass(slots=True, eq=False)
class Prefix:
    """The text of a hypothesis as a chain of labels, shared between hypotheses.

    frame: where it entered the beam; key: a hash of all labels, equal for equal texts (64 bits
    over at most some thousand texts alive at once: a chance meeting is out of the question).
    """

    parent: "Prefix | None"
    label: int
    frame: int
    key: int
    length: int
    state: Any

    def chain(self) -> list["Prefix"]:
        """The prefixes from the first label to this one."""
        chain: list[Prefix] = []
        prefix = self
        while prefix.parent is not None:
            chain.append(prefix)
            prefix = prefix.parent
        return chain[::-1]

    def begins_with(self, other: "Prefix") -> bool:
        """Whether the other text is a beginning of this one."""
        prefix = self
        while prefix.parent is not None and prefix.length > other.length:
            prefix = prefix.parent
        return prefix.key == other.key

    def labels(self) -> list[int]:
        """Its label numbers."""
        return [prefix.label for prefix in self.chain()]


class BeamDecoder:
    """Turns the frames of a CTC model into words, following the `beam` best texts at once.

    The interface and the ends of utterances are those of the GreedyDecoder. A separator at the
    beginning, or after a separator, reads nothing, just as a blank. With a beam wider than the
    number of possible texts the scores of a second are exact; what is longer is settled bit by bit.

    margin: a text so much less probable than the best one, guides included, is given up at once,
        unless several are asked for.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        beam: int,
        fusion: Fusion | None = None,
        n_best: int = 1,
        rules: Endpoint = ENDPOINT,
        margin: float = MARGIN,
    ) -> None:
        self._alphabet = alphabet
        self._margin = margin if n_best == 1 else np.inf
        self._endpointer = Endpointer(alphabet, rules)
        separator = alphabet.separator
        self._separator = -1 if separator is None else separator
        self._everyone = np.arange(beam)
        self._settle_frames = round(SETTLE_SECONDS / alphabet.frame_seconds)
        self._beam = beam
        self._fusion = fusion
        self._n_best = n_best
        self.reset()

    def reset(self) -> None:
        """Go back to the initial state; the next frame is frame 0."""
        self._endpointer.reset()
        self._frame = 0
        self._begin_utterance()

    def push(self, scores: Scores) -> list[Event]:
        """Decode; at most one Partial, the newest, follows the utterances."""
        log_probs = scores.log_probs
        events: list[Event] = []
        best = log_probs.argmax(axis=1).tolist()
        pauses = self._pauses(log_probs)
        usable = np.where(log_probs > LEAST_LOG_PROB, log_probs, -np.inf).astype(float)
        nothing = self._nothing_begins(usable)
        for frame, label in enumerate(best):
            self._seen.append(log_probs[frame])
            if nothing[frame]:
                self._pause(pauses[frame])
            else:
                self._advance(log_probs[frame], usable[frame], pauses[frame])
            self._frame += 1
            if self._endpointer.ends(label):
                events += self._end_utterance()
            elif (self._frame - self._first) % self._settle_frames == 0:
                self._settle()
        return [*events, *self._partial()]

    def _nothing_begins(self, usable: np.ndarray) -> list[bool]:
        """Whether a frame has nothing but the blank, for each of (frames, labels)."""
        others = np.delete(usable, self._alphabet.blank, axis=1)
        return (others.max(axis=1, initial=-np.inf) == -np.inf).tolist()

    def _pause(self, pauses: np.ndarray) -> None:
        """Take a frame in which nothing begins or goes on."""
        apart = (self._last == self._separator).astype(int)
        self._in_blank = np.logaddexp(self._in_blank, self._in_label) + pauses[apart]
        self._in_label = np.full(len(apart), -np.inf)

    def _pauses(self, log_probs: np.ndarray) -> np.ndarray:
        """Log-probabilities of no label, (frames, 2): inside a word, and after a separator."""
        blank = log_probs[:, self._alphabet.blank]
        if self._alphabet.separator is None:
            return np.stack([blank, blank], axis=1)
        return np.stack(
            [blank, np.logaddexp(blank, log_probs[:, self._alphabet.separator])], axis=1
        )

    def finish(self) -> list[Event]:
        """End the utterance that is open, if one is."""
        self._endpointer.reset()
        return self._end_utterance()

    def _begin_utterance(self) -> None:
        blank, separator = self._alphabet.blank, self._alphabet.separator
        state = self._fusion.start() if self._fusion else None
        self._first = self._frame
        self._seen: list[np.ndarray] = []
        self._reported = (0, 0)
        # One entry for each hypothesis. The log-probability of the paths that end in a blank, and
        # in the last label; what the fusion has added; keys of the text and of the text before.
        self._prefixes = [Prefix(None, blank, self._frame, 0, 0, state)]
        self._in_blank = np.zeros(1)
        self._in_label = np.full(1, -np.inf)
        self._fused = np.zeros(1)
        self._rows = self._fusion.rows([state]) if self._fusion else np.zeros(0)
        self._keys = np.zeros(1, np.uint64)
        self._parents = np.full(1, np.iinfo(np.uint64).max, np.uint64)
        self._last = np.array([blank if separator is None else separator])

    def _advance(self, log_probs: np.ndarray, usable: np.ndarray, pauses: np.ndarray) -> None:
        """Take one frame: its log-probabilities (labels,), and those that may begin something.

        In the matrix of all growth, growing by the blank stands for staying the same text.
        """
        last = self._last
        before = np.logaddexp(self._in_blank, self._in_label)
        apart = last == self._separator
        here = log_probs[last]
        in_blank = before + pauses[apart.astype(int)]
        in_label = np.where(apart, -np.inf, self._in_label + here)
        again = np.where(apart, -np.inf, self._in_blank)

        # A text that is the growth of another one in the beam is reached from there as well.
        child, parent = np.nonzero(self._parents[:, None] == self._keys)
        label = last[child]
        reached = np.where(label == last[parent], again[parent], before[parent]) + here[child]
        in_label[child] = np.logaddexp(in_label[child], reached)

        grown = before[:, None] + usable
        grown[self._everyone[: len(last)], last] = again + usable[last]
        grown[parent, label] = -np.inf
        grown[:, self._alphabet.blank] = np.logaddexp(in_blank, in_label)
        self._keep_best(grown, in_blank, in_label)

    def _keep_best(self, grown: np.ndarray, in_blank: np.ndarray, in_label: np.ndarray) -> None:
        """Keep the best of all texts. grown: log-probabilities, (hypotheses, labels)."""
        scores = grown
        if self._fusion:
            scores = grown + self._rows + self._fused[:, None]
        scores = scores.ravel()
        chosen = (
            np.argpartition(scores, -self._beam)[-self._beam :]
            if len(scores) > self._beam
            else np.arange(len(scores))
        )
        kept = scores[chosen]
        chosen = chosen[(kept > -np.inf) & (kept >= kept.max() - self._margin)]
        source, label = np.divmod(chosen, grown.shape[1])
        new = label != self._alphabet.blank
        keys = self._keys[source]
        self._in_blank = np.where(new, -np.inf, in_blank[source])
        self._in_label = np.where(new, grown.ravel()[chosen], in_label[source])
        self._last = np.where(new, label, self._last[source])
        self._parents = np.where(new, keys, self._parents[source])
        self._keys = np.where(new, (keys + label.astype(np.uint64) + 1) * KEY_FACTOR, keys)
        self._prefixes = [self._prefixes[k] for k in source.tolist()]
        if self._fusion:
            self._fused = self._fused[source] + self._rows[source, label]
            self._rows = self._rows[source]
        self._grow_prefixes(np.flatnonzero(new))

    def _grow_prefixes(self, places: np.ndarray) -> None:
        """Put what grew by a label in place of what it grew from."""
        labels, keys = self._last[places].tolist(), self._keys[places].tolist()
        for place, label, key in zip(places.tolist(), labels, keys, strict=True):
            parent = self._prefixes[place]
            state = self._fusion.advance(parent.state, label) if self._fusion else None
            grown = Prefix(parent, label, self._frame, key, parent.length + 1, state)
            self._prefixes[place] = grown
        if self._fusion and len(places):
            self._rows[places] = self._fusion.rows([self._prefixes[k].state for k in places])

    def _settle(self) -> None:
        """Drop the texts that begin otherwise than the best one did a while ago."""
        settled = self._prefixes[int(self._totals().argmax())]
        while settled.parent and settled.frame >= self._frame - self._settle_frames:
            settled = settled.parent
        kept = [k for k, prefix in enumerate(self._prefixes) if prefix.begins_with(settled)]
        self._prefixes = [self._prefixes[k] for k in kept]
        self._in_blank, self._in_label = self._in_blank[kept], self._in_label[kept]
        self._keys, self._parents = self._keys[kept], self._parents[kept]
        self._last = self._last[kept]
        if self._fusion:
            self._fused, self._rows = self._fused[kept], self._rows[kept]

    def _totals(self) -> np.ndarray:
        return np.logaddexp(self._in_blank, self._in_label) + self._fused

    def _partial(self) -> list[Partial]:
        """What is new about the open utterance; its times are those of the labels' discovery."""
        tip, stable_tip = self._prefixes[int(self._totals().argmax())], self._stable()
        if (tip.key, stable_tip.key) == self._reported:
            return []
        self._reported = (tip.key, stable_tip.key)
        best = tip.chain()
        text, stable = self._texts(best, stable_tip.chain())
        spans = [Span(p.label, p.frame, p.frame + 1) for p in best]
        words = self._alphabet.words(spans, self._first)
        now = self._frame * self._alphabet.frame_seconds
        start, end = (words[0].start, words[-1].end) if words else (now, now)
        return [Partial(text, start, end, stable)]

    def _texts(self, best: list[Prefix], stable: list[Prefix]) -> tuple[str, str]:
        """What the best hypothesis reads, and what of it is settled."""
        text, settled = ([prefix.label for prefix in chain] for chain in (best, stable))
        return self._alphabet.text(text), self._alphabet.text(settled)

    def _stable(self) -> Prefix:
        """The whole words that all hypotheses share, as far as the text could end there."""
        tips = {prefix.key: prefix for prefix in self._prefixes}
        while len(tips) > 1:
            longest = max(prefix.length for prefix in tips.values())
            lifted = (p.parent if p.parent and p.length == longest else p for p in tips.values())
            tips = {prefix.key: prefix for prefix in lifted}
        (prefix,) = tips.values()
        while prefix.parent and not (self._ends_word(prefix) and self._may_end(prefix)):
            prefix = prefix.parent
        return prefix

    def _ends_word(self, prefix: Prefix) -> bool:
        return not self._alphabet.spells or prefix.label == self._alphabet.separator

    def _may_end(self, prefix: Prefix) -> bool:
        return self._final(prefix) > -np.inf

    def _final(self, prefix: Prefix) -> float:
        """What the fusion says to an end here. To say nothing is always allowed."""
        if self._fusion is None or prefix.parent is None:
            return 0.0
        return self._fusion.final(prefix.state)

    def _end_utterance(self) -> list[Event]:
        ranked = self._ranked()
        utterances: list[Event] = []
        if ranked[0][0]:
            utterances += self._utterance(ranked[: self._n_best], np.stack(self._seen))
        self._begin_utterance()
        return utterances

    def _utterance(
        self, ranked: list[tuple[str, float, Prefix]], log_probs: np.ndarray
    ) -> list[Utterance]:
        """That of the first of ranked texts. log_probs: (frames, labels) since it began."""
        spans = align(log_probs, ranked[0][2].labels(), self._alphabet, self._first)
        best = tuple(Alternative(text, score) for text, score, _ in ranked)
        return self._alphabet.utterance(spans, log_probs, self._first, best)

    def _ranked(self) -> list[tuple[str, float, Prefix]]:
        """The texts of the beam that are whole, best first, with their scores.

        If a word list or a grammar lets none of them end, the unfinished is cut off.
        """
        endings = list(zip(self._prefixes, self._totals().tolist(), strict=True))
        if not any(prefix.parent and self._may_end(prefix) for prefix, _ in endings):
            endings = [(self._finished(prefix), total) for prefix, total in endings]
        texts: dict[str, tuple[float, float, Prefix]] = {}
        for prefix, total in endings:
            score = total + self._final(prefix)
            text = self._alphabet.text(prefix.labels())
            mass, best, chosen = texts.get(text, (-np.inf, -np.inf, prefix))
            chosen = prefix if score > best else chosen
            texts[text] = (float(np.logaddexp(mass, score)), max(best, score), chosen)
        ranked = [(t, mass, prefix) for t, (mass, _, prefix) in texts.items() if mass > -np.inf]
        return sorted(ranked, key=lambda entry: -entry[1])

    def _finished(self, prefix: Prefix) -> Prefix:
        while prefix.parent and not self._may_end(prefix):
            prefix = prefix.parent
        return prefix
