"""What sounds nearly like a phrase and is none: from its pronunciation, phoneme by phoneme."""

from collections.abc import Iterator, Sequence

import numpy as np

from asr.training.voices.espeak import phonemes, spoken

STRESS = "',%="
VOWELS = ("a", "E", "I", "i:", "u:", "o:", "@")
CONSONANTS = ("p", "t", "k", "m", "n", "f", "s", "l", "b", "d", "g")
VOICING = ("pb", "td", "kg", "fv", "sz", "SZ", "TD")  # pairs that accents do not keep apart
FIRST_OF_VOWELS = "aeiouyAEIOUYV0Q3@&"
FILLERS = ("the", "and then", "so", "please", "not", "my", "now", "what")
EXCHANGES = 2  # of each phoneme
SHORTEST = 3  # phonemes of a part of a phrase that is worth a negative

Words = list[list[str]]


def near_misses(phrases: Sequence[str], language: str, rng: np.random.Generator) -> list[str]:
    """Texts for eSpeak NG that are none of the phrases: with a phoneme exchanged or left out, parts
    of them, their words in another order, among others, or interrupted."""
    found: dict[str, None] = {}
    taken = {spoken(phonemes(phrase, language)) for phrase in phrases}
    for phrase in phrases:
        words = phonemes(phrase, language)
        variants = [*_exchanged(words, rng), *_shortened(words), *_parts(words), *_turned(words)]
        texts = [spoken(variant) for variant in variants if sum(map(len, variant)) >= 2]
        texts += _among_others(phrase)
        found |= dict.fromkeys(text for text in texts if text not in taken)
    return list(found)


def _exchanged(words: Words, rng: np.random.Generator) -> Iterator[Words]:
    """Each phoneme exchanged for two others, which differ from it by more than voicing."""
    for k, word in enumerate(words):
        for j, phoneme in enumerate(word):
            stress, plain = _split(phoneme)
            kind = VOWELS if is_vowel(plain) else CONSONANTS
            others = [other for other in kind if not _alike(plain, other)]
            for other in rng.choice(others, size=EXCHANGES, replace=False):
                yield [
                    *words[:k],
                    [*word[:j], stress + str(other), *word[j + 1 :]],
                    *words[k + 1 :],
                ]


def _shortened(words: Words) -> Iterator[Words]:
    """Without the beginning or the end, by a third and by a half."""
    flat = [(k, phoneme) for k, word in enumerate(words) for phoneme in word]
    for share in (1 / 3, 1 / 2):
        cut = max(1, round(share * len(flat)))
        for rest in (flat[:-cut], flat[cut:]):
            if len(rest) >= SHORTEST:
                yield [[p for k, p in rest if k == number] for number in {k for k, _ in rest}]


def _parts(words: Words) -> Iterator[Words]:
    """Single words of a phrase, and the phrase without one of them."""
    if len(words) > 1:
        yield from ([word] for word in words if len(word) >= SHORTEST)
        yield from ([*words[:k], *words[k + 1 :]] for k in range(len(words)))


def _turned(words: Words) -> Iterator[Words]:
    """The words, or the halves of a single one, in the other order."""
    if len(words) > 1:
        yield words[::-1]
    elif len(words[0]) >= 2 * SHORTEST:
        half = len(words[0]) // 2
        yield [words[0][half:] + words[0][:half]]


def _among_others(phrase: str) -> Iterator[str]:
    """Its words, each with other words in place of the rest."""
    words = phrase.split()
    if len(words) < 2:
        return
    for filler in FILLERS:
        yield " ".join([*words[:-1], filler])
        yield " ".join([filler, *words[1:]])
        yield " ".join([words[0], filler, *words[1:]])  # interrupted


def _split(phoneme: str) -> tuple[str, str]:
    plain = phoneme.lstrip(STRESS)
    return phoneme[: len(phoneme) - len(plain)], plain


def is_vowel(plain: str) -> bool:
    """Whether a mnemonic of eSpeak NG, without its stress, is that of a vowel."""
    return plain[:1] in FIRST_OF_VOWELS


def _alike(plain: str, other: str) -> bool:
    pair = {plain[:1], other[:1]}
    return len(pair) == 1 or any(pair == set(voicing) for voicing in VOICING)
