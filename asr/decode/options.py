"""How a CTC model's scores become words: the choices, and the decoder that they make."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from asr.card import ModelCard
from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError, Decoder
from asr.decode.beam import BeamDecoder
from asr.decode.greedy import GreedyDecoder
from asr.decode.guides.grammar import GrammarGuide
from asr.decode.guides.hotwords import Hotwords
from asr.decode.guides.jsgf import Grammar
from asr.decode.guides.word_list import WordList
from asr.decode.keywords.trained import KeywordTrigger
from asr.decode.keywords.typed import KeywordSpotter, SpotOptions
from asr.decode.lm.arpa import NgramModel, read_arpa
from asr.decode.lm.fusion import Fusion, Sum
from asr.decode.lm.language_model import Weights
from asr.decode.lm.neural import NeuralGuide, NeuralModel
from asr.decode.lm.ngram import language_model
from asr.decode.native import NativeDecoder, NativeSearch
from asr.runtime.session import ModelError

BEAM = 16
COMPILED = 4  # guides that are kept ready, for models and options used in turn


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How to decode. With nothing chosen the best label of each frame is taken (greedy).

    beam: texts followed at once; None is `BEAM` if anything below is chosen.
    lm: a language model (`read_lm`), with `alpha` its weight, `beta` what each word adds, and
    `oov` what each word that it does not know adds; all in natural logarithms.
    words, grammar: nothing else can be recognised. hotwords: words and phrases that are raised by
    `boost` for each of their letters. n_best: how many texts an utterance is given.
    native: search in C++, with the package ctc-beam-decoder, guided by an n-gram of words or by
    nothing; an utterance is reported when it has ended.
    Raises DecodeError if a number makes no sense, or choices exclude each other.
    """

    beam: int | None = None
    lm: NgramModel | NeuralModel | None = None
    alpha: float = 0.4
    beta: float = 2.0
    oov: float = -4.0
    words: tuple[str, ...] | None = None
    grammar: Grammar | None = None
    hotwords: tuple[str, ...] = ()
    boost: float = 1.0
    n_best: int = 1
    native: bool = False

    def __post_init__(self) -> None:
        if self.beam is not None and self.beam < 1:
            raise DecodeError(f"beam {self.beam} follows nothing; give 1 or more")
        if self.n_best < 1:
            raise DecodeError(f"n_best {self.n_best} gives nothing; ask for 1 or more")
        if self.words is not None and self.grammar is not None:
            raise DecodeError("a word list and a grammar exclude each other; give one of them")
        if self.native and (self._expecting or isinstance(self.lm, NeuralModel)):
            raise DecodeError(
                "the native beam search knows no word list, grammar, hotwords or .onnx language "
                "model; leave these out, or --native"
            )

    @property
    def greedy(self) -> bool:
        """Whether nothing asks for a beam search."""
        searches = self.lm or self._expecting or self.native
        return self.beam is None and self.n_best == 1 and not searches

    @property
    def _expecting(self) -> bool:
        """Whether certain words are expected."""
        return self.words is not None or self.grammar is not None or bool(self.hotwords)

    @property
    def weights(self) -> Weights:
        """How the language model counts."""
        return Weights(self.alpha, self.beta, self.oov)


def build_decoder(card: ModelCard, options: DecodeOptions | SpotOptions | None = None) -> Decoder:
    """Return what makes events of the scores of a model.

    Raises ModelError if the options are about another kind of model, DecodeError if one does not
    fit its labels.
    """
    if card.task == "classify":
        return KeywordTrigger(card, _spotting(card, options))
    if isinstance(options, SpotOptions):
        return KeywordSpotter(card, options)
    return _transcriber(card, options or DecodeOptions())


def _spotting(card: ModelCard, options: DecodeOptions | SpotOptions | None) -> SpotOptions | None:
    if isinstance(options, DecodeOptions) and options != DecodeOptions():
        raise ModelError(
            f"{card.name}: this model spots keywords; language models, word lists and the "
            "like are for a model that transcribes"
        )
    return options if isinstance(options, SpotOptions) else None


def _transcriber(card: ModelCard, options: DecodeOptions) -> Decoder:
    alphabet = Alphabet.of(card)
    if options.greedy:
        return GreedyDecoder(alphabet)
    if options.native:
        return NativeDecoder(alphabet, _native_search(alphabet, options), options.n_best)
    return BeamDecoder(alphabet, options.beam or BEAM, _guide(alphabet, options), options.n_best)


@functools.lru_cache(COMPILED)
def _native_search(alphabet: Alphabet, options: DecodeOptions) -> NativeSearch:
    assert not isinstance(options.lm, NeuralModel)  # DecodeOptions refuses it
    return NativeSearch(alphabet, options.beam or BEAM, options.lm, options.weights)


@functools.lru_cache(COMPILED)
def _guide(alphabet: Alphabet, options: DecodeOptions) -> Fusion | None:
    """All that guides the search; it keeps no state of its own, so that streams can share it."""
    guides: list[Fusion] = []
    if options.words is not None:
        guides.append(WordList(alphabet, options.words))
    if options.grammar is not None:
        guides.append(GrammarGuide(alphabet, options.grammar))
    if options.hotwords:
        guides.append(Hotwords(alphabet, options.hotwords, options.boost))
    if options.lm is not None:
        if isinstance(options.lm, NeuralModel):
            guides.append(NeuralGuide(alphabet, options.lm, options.weights))
        else:
            guides.append(language_model(alphabet, options.lm, options.weights))
    return Sum(guides) if len(guides) > 1 else next(iter(guides), None)


def read_lm(path: str | os.PathLike[str]) -> NgramModel | NeuralModel:
    """Open a language model: an .onnx file that 'asr export' wrote, or an ARPA file.

    Raises DecodeError, ModelError or CardError.
    """
    return NeuralModel(path) if Path(path).suffix == ".onnx" else read_arpa(path)


def read_words(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a word list, separated by white space and lower-cased. Raises DecodeError."""
    try:
        words = Path(path).read_text(encoding="utf-8").lower().split()
    except (OSError, UnicodeDecodeError) as error:
        raise DecodeError(f"{path}: cannot be read as a word list ({error})") from None
    if not words:
        raise DecodeError(f"{path}: has no word; write one a line")
    return tuple(dict.fromkeys(words))
