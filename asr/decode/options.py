"""How a CTC model's scores become words: the choices, and the decoder that they make."""

import dataclasses
import functools
import math
import os
from dataclasses import dataclass
from pathlib import Path

from asr.card import ModelCard
from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError, Decoder, chosen
from asr.decode.beam import BeamDecoder
from asr.decode.greedy import GreedyDecoder
from asr.decode.guides.grammar import GrammarGuide
from asr.decode.guides.hotwords import Hotwords
from asr.decode.guides.jsgf import read_grammar
from asr.decode.guides.word_list import WordList
from asr.decode.keywords.trained import KeywordTrigger
from asr.decode.keywords.typed import KeywordSpotter, SpotOptions
from asr.decode.lm.arpa import read_arpa
from asr.decode.lm.compact import is_compact, read_compact
from asr.decode.lm.fusion import Fusion, Sum
from asr.decode.lm.language_model import Weights
from asr.decode.lm.neural import NeuralGuide, NeuralModel
from asr.decode.lm.ngram import WordModel, language_model
from asr.decode.lm.ngrams import NgramModel
from asr.decode.lm.pronounced import PronouncedModel
from asr.decode.native import NativeDecoder, NativeSearch
from asr.decode.spoken import SpokenDecoder
from asr.decode.writer import Writer
from asr.files import read_text
from asr.runtime.session import ModelError

FilePath = str | os.PathLike[str]

BEAM = 32
SPOKEN_BEAM = 96  # of a search over phonemes
DEFAULT_WEIGHTS = Weights(alpha=0.8, beta=1.5, oov=0.0)
SPOKEN_WEIGHTS = Weights(alpha=1.0, beta=0.5, oov=0.0)  # of a search over phonemes
BOOST = 1.0
COMPILED = 4  # guides that are kept ready, for models and options used in turn
NEURAL = ".onnx"  # the suffix of recurrent language models; all others are n-grams


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How to decode: plain data; files are named by their paths and opened by `build_decoder`.

    With nothing chosen, and no language model beside the acoustic model, the best label of each
    frame is taken (greedy). None stands for a default.

    beam: hypotheses followed at once; `BEAM` if anything below asks for a search, `SPOKEN_BEAM` if
        it is one over phonemes.
    lm: a language model, ARPA, compact or .onnx, with `lm_weight` its weight, `word_bonus` what
        each word adds and `unknown_bonus` what each word adds that it does not know; in natural
        logarithms.
    no_lm: use no language model, not even the one that stands beside the acoustic model.
    words: a list of words, or the path of one; grammar: the path of a JSGF grammar. Nothing else is
        recognised then.
    hotword: words and phrases that are raised by `boost` for each of their letters.
    n_best: how many texts an utterance is given.
    native: search in C++, with the package ctc-beam-decoder, guided by an n-gram of words or by
        nothing; an utterance is reported when it has ended.
    trailing_silence, soft_limit, hard_limit: seconds after which an utterance ends, see
        `Endpointer`.
    Raises DecodeError if a number makes no sense, choices exclude each other, or one is about
    something that is not there.
    """

    beam: int | None = None
    lm: FilePath | None = None
    no_lm: bool = False
    lm_weight: float | None = None
    word_bonus: float | None = None
    unknown_bonus: float | None = None
    words: tuple[str, ...] | FilePath | None = None
    grammar: FilePath | None = None
    hotword: tuple[str, ...] = ()
    boost: float | None = None
    n_best: int = 1
    native: bool = False
    trailing_silence: float | None = None
    soft_limit: float | None = None
    hard_limit: float | None = None

    def __post_init__(self) -> None:
        if self.beam is not None and self.beam < 1:
            raise DecodeError(f"beam {self.beam} follows nothing; give 1 or more")
        if self.n_best < 1:
            raise DecodeError(f"n_best {self.n_best} gives nothing; ask for 1 or more")
        if self.words is not None and self.grammar is not None:
            raise DecodeError("a word list and a grammar exclude each other; give one of them")
        if self.native and (self._restricted or self._neural):
            raise DecodeError(
                "the native beam search knows no word list, grammar, hotwords or .onnx language "
                "model; leave these out, or --native"
            )
        if self.lm is not None and self.no_lm:
            raise DecodeError("--lm and --no-lm exclude each other; give one of them")
        self._check_companions()

    def _check_companions(self) -> None:
        if self.boost is not None and not self.hotword:
            raise DecodeError("--boost is about hotwords; name one with --hotword")
        for name in ("trailing_silence", "soft_limit", "hard_limit"):
            seconds = getattr(self, name)
            if seconds is not None and not 0.0 < seconds < math.inf:
                raise DecodeError(f"{name} {seconds:g} is no time after which to end; give seconds")

    def beside(self, lm: Path | None) -> "DecodeOptions":
        """The same with the language model that stands beside the acoustic model, if it is wanted.

        What allows certain words only, and the native search, do without it.
        """
        without = self.no_lm or self.native or self.words is not None or self.grammar is not None
        return self if self.lm is not None or without else dataclasses.replace(self, lm=lm)

    @property
    def greedy(self) -> bool:
        """Whether nothing asks for a beam search."""
        searches = self.lm or self._restricted or self.native
        return self.beam is None and self.n_best == 1 and not searches

    @property
    def _restricted(self) -> bool:
        """Whether certain words are expected."""
        return self.words is not None or self.grammar is not None or bool(self.hotword)

    @property
    def _neural(self) -> bool:
        return self.lm is not None and Path(self.lm).suffix == NEURAL

    def weights(self, default: Weights = DEFAULT_WEIGHTS) -> Weights:
        """How the language model counts; what is not chosen is as in `default`."""
        given = (self.lm_weight, self.word_bonus, self.unknown_bonus)
        pairs = zip(given, default, strict=True)
        return Weights(*(usual if value is None else value for value, usual in pairs))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that decoding opens: what they contain decides the transcript, too."""
        named = (self.lm, self.words, self.grammar)
        return tuple(Path(path) for path in named if isinstance(path, str | os.PathLike))


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


def weights_in(card: ModelCard, options: DecodeOptions) -> Weights:
    """Return how the language model counts in the search that `build_decoder` returns."""
    return options.weights(SPOKEN_WEIGHTS if _spoken(card, options) else DEFAULT_WEIGHTS)


def settling(card: ModelCard, options: DecodeOptions | SpotOptions | None = None) -> float:
    """Return for how many seconds of silence a decoder may wait with what was said before it."""
    if card.task == "classify":
        trigger = chosen(card.trigger, options)
        waits = (
            trigger.smoothing + trigger.refractory + (card.window_length or 0) / card.sample_rate
        )
    elif isinstance(options, SpotOptions):
        spotting = chosen(card.spotting, options)
        waits = max(spotting.refractory, 2 * spotting.confirm)
    else:
        waits = chosen(card.endpoint, options).trailing_silence
    return waits + card.look_ahead / card.sample_rate


def _spotting(card: ModelCard, options: DecodeOptions | SpotOptions | None) -> SpotOptions | None:
    if isinstance(options, DecodeOptions) and options != DecodeOptions():
        raise ModelError(
            f"{card.name}: this model spots keywords; language models, word lists and the "
            "like are for a model that transcribes"
        )
    if not isinstance(options, SpotOptions):
        return None
    for name in ("confirm", "linger"):
        if getattr(options, name) is not None:
            raise ModelError(
                f"{card.name}: {name} is about words that are found by their letters, and this "
                "model was trained on its own; leave it out"
            )
    return options


def _transcriber(card: ModelCard, options: DecodeOptions) -> Decoder:
    if options.lm is None:
        for name in ("lm_weight", "word_bonus", "unknown_bonus"):
            if getattr(options, name) is not None:
                flag = f"--{name.replace('_', '-')}"
                raise DecodeError(f"{flag} is about a language model; name one with --lm")
    alphabet = Alphabet.of(card, lm=options.lm is not None)
    rules = chosen(card.endpoint, options)
    if options.greedy:
        return GreedyDecoder(alphabet, rules)
    versions = tuple(_version(path) for path in options.files)
    if options.native:
        search = _native_search(alphabet, options, versions)
        return NativeDecoder(alphabet, search, options.n_best, rules)
    if (spoken := _spoken(card, options)) is not None:
        return spoken
    guide = _guide(alphabet, options, versions)
    return BeamDecoder(alphabet, options.beam or BEAM, guide, options.n_best, rules)


def _spoken(card: ModelCard, options: DecodeOptions) -> SpokenDecoder | None:
    """The search over phonemes, if the model reads them and the language model knows how its words
    are said, and nothing else is asked for that goes by letters."""
    if not card.phonemes or options.lm is None or options._restricted or options._neural:
        return None
    letters = Alphabet.of(card, lm=True)
    phonemes = Alphabet.of_phonemes(card, lm=True)
    found = _by_sound(letters, phonemes, options, _version(Path(options.lm)))
    if found is None:
        return None
    rules = chosen(card.endpoint, options)
    beam = options.beam or SPOKEN_BEAM
    return SpokenDecoder(letters, phonemes, beam, *found, options.n_best, rules)


@functools.lru_cache(COMPILED)
def _by_sound(
    letters: Alphabet, phonemes: Alphabet, options: DecodeOptions, version: tuple[int, int]
) -> tuple[Fusion, Writer] | None:
    """What guides a search over phonemes, and what writes its words."""
    assert options.lm is not None
    model = read_ngrams(options.lm)
    if model.pronunciations is None:
        return None
    spoken = PronouncedModel(model, model.pronunciations)
    weights = options.weights(SPOKEN_WEIGHTS)
    writer = Writer(letters, model, model.pronunciations, weights.alpha)
    return WordModel(phonemes, spoken, weights), writer


def _version(path: Path) -> tuple[int, int]:
    """What changes when a file is written again: what is kept of it is then made anew."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0  # whoever opens it says why that fails
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(COMPILED)
def _native_search(
    alphabet: Alphabet, options: DecodeOptions, versions: tuple[tuple[int, int], ...]
) -> NativeSearch:
    lm = None if options.lm is None else read_ngrams(options.lm)
    return NativeSearch(alphabet, options.beam or BEAM, lm, options.weights())


@functools.lru_cache(COMPILED)
def _guide(
    alphabet: Alphabet, options: DecodeOptions, versions: tuple[tuple[int, int], ...]
) -> Fusion | None:
    """All that guides the search; it keeps no state of its own, so that streams can share it."""
    guides: list[Fusion] = []
    if options.words is not None:
        words = options.words if isinstance(options.words, tuple) else read_words(options.words)
        guides.append(WordList(alphabet, words))
    if options.grammar is not None:
        guides.append(GrammarGuide(alphabet, read_grammar(options.grammar)))
    if options.hotword:
        boost = BOOST if options.boost is None else options.boost
        guides.append(Hotwords(alphabet, tuple(map(str.lower, options.hotword)), boost))
    if options.lm is not None:
        lm = read_lm(options.lm)
        if isinstance(lm, NeuralModel):
            guides.append(NeuralGuide(alphabet, lm, options.weights()))
        else:
            guides.append(language_model(alphabet, lm, options.weights()))
    return Sum(guides) if len(guides) > 1 else next(iter(guides), None)


def read_lm(path: FilePath) -> NgramModel | NeuralModel:
    """Open a language model: an .onnx file that 'asr export' wrote, a compact or an ARPA file.

    Raises DecodeError, ReadError, ModelError or CardError.
    """
    if Path(path).suffix == NEURAL:
        return NeuralModel(path)
    return read_ngrams(path)


def read_ngrams(path: FilePath) -> NgramModel:
    """Open a compact or an ARPA file. Raises DecodeError, ReadError."""
    return read_compact(path) if is_compact(path) else read_arpa(path)


def read_words(path: FilePath) -> tuple[str, ...]:
    """Read a word list, separated by white space and lower-cased. Raises DecodeError, ReadError."""
    words = read_text(path, "a word list").lower().split()
    if not words:
        raise DecodeError(f"{path}: has no word; write one a line")
    return tuple(dict.fromkeys(words))
