"""Others on the same audio, to compare a model with: torch as it comes, pocketsphinx, and the beam
search of ctc-beam-decoder."""

import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from asr.card import ModelCard
from asr.decode.options import BEAM, DecodeOptions
from asr.evaluation.intervals import wilson_interval
from asr.evaluation.outcomes import decide
from asr.model import Model
from asr.recognise import transcribe
from asr.studies.bench import timing
from asr.studies.bench.spoken import DIGITS
from asr.studies.bench.timing import BenchmarkError, best_seconds
from asr.studies.lm_weights import decoded
from asr.training.config import SourceConfig
from asr.training.data.sources import read_source
from asr.training.network.acoustic import AcousticModel, ModelConfig
from asr.training.network.encoders import EncoderConfig
from asr.training.network.heads import HeadConfig
from features.audio import find_audio, read_audio, to_int16
from features.mfcc import MfccConfig

if TYPE_CHECKING:
    from pocketsphinx import Decoder

POCKETSPHINX_RATE = 16_000
FILES = 1000  # of a folder of words, evenly spaced if it holds more

Found = TypeVar("Found")
Recogniser = Callable[[np.ndarray], str]


class Peers:
    """What a model is compared with. Raises BenchmarkError if its network cannot be built."""

    def __init__(self, model: Model, threads: int) -> None:
        self._model = model
        self._network = torch_model(model)
        torch.set_num_threads(threads)

    def compare(self, sound: np.ndarray, audio: Path | None) -> dict[str, Any]:
        """Return what the others take for `sound` and, if `audio` is a folder of words, get right.

        Entries: torch; beams, what the two beam searches make of the sound, or of the recordings if
        `audio` is a folder, None if there is no text or ctc-beam-decoder is not installed;
        pocketsphinx, None if it is not installed; files, None if either of the two is missing.
        """
        figures: dict[str, Any] = {"torch": _torch(self._network, self._model.card, sound)}
        figures["beams"] = _beams(self._model, sound, audio)
        figures |= {"pocketsphinx": None, "files": None}
        try:
            import pocketsphinx  # noqa: F401
        except ModuleNotFoundError:
            return figures
        figures["pocketsphinx"] = _pocketsphinx(self._model.card.sample_rate, sound)
        if audio is not None and audio.is_dir():
            figures["files"] = _files(self._model, audio)
        return figures


# torch


def torch_model(model: Model) -> AcousticModel:
    """Return the network that a card describes, with random weights. Raises BenchmarkError.

    How a classifier pools is not in the card; it follows from the number of parameters.
    """
    card = model.card
    mfcc, encoder = MfccConfig(**card.mfcc), EncoderConfig(**card.encoder)
    encoder_frame = mfcc.hop_length * encoder.subsample
    upsample = encoder_frame // card.hop_length if card.task == "ctc" else 1
    for pooling in get_args(HeadConfig.__annotations__["pooling"]):
        labels = card.labels if card.task == "classify" else ()
        window = (card.window_length or card.sample_rate) / card.sample_rate
        head = HeadConfig(
            kind=card.task,
            labels=labels,
            pooling=pooling,
            window=window,
            upsample=upsample,
            phonemes=bool(card.phonemes),
        )
        config = ModelConfig(head=head, mfcc=mfcc, encoder=encoder)
        network = AcousticModel(config, len(card.labels)).eval()
        if sum(p.numel() for p in network.parameters()) == card.parameters:
            return network
    raise BenchmarkError(
        f"{model.path}: its card does not describe a network of {card.parameters} parameters; "
        "export it again, or leave out --peers"
    )


def _torch(network: AcousticModel, card: ModelCard, sound: np.ndarray) -> dict[str, Any]:
    """Real-time factors of torch without a graph of any kind, as training runs it."""
    pcm = torch.from_numpy(sound)[None]
    duration = len(sound) / card.sample_rate
    with torch.inference_mode():
        if card.window_length is not None and not card.streaming:
            windows = pcm.unfold(1, card.window_length, card.hop_length)[0]
            offline = best_seconds(lambda: [network(window[None], None) for window in windows])
            streaming = offline
        else:
            offline = best_seconds(lambda: network(pcm, None))
            streaming = best_seconds(lambda: _steps(network, pcm)) if card.streaming else None
    return {
        "version": torch.__version__,
        "offline_rtf": offline / duration,
        "streaming_rtf": None if streaming is None else streaming / duration,
    }


def _steps(network: AcousticModel, pcm: Tensor) -> None:
    """A stream: [1, samples] block by block, the state carried along."""
    state = network.initial_state(1, pcm)
    for block in pcm.unfold(1, network.block_length, network.block_length).unbind(1):
        _, state = network.step(block, state)


# Beam search


def _beams(model: Model, sound: np.ndarray, audio: Path | None) -> dict[str, Any] | None:
    """Our beam search and the native one on the same scores, by turns."""
    if model.card.task != "ctc" or importlib.util.find_spec("ctc_beam_decoder") is None:
        return None
    rate, sounds = model.card.sample_rate, [sound]
    if audio is not None and audio.is_dir():
        sounds = [read_audio(path, rate) for path in _thinned(find_audio(audio))]
    scored = [model.scores(sound) for sound in sounds]
    taken, texts = {True: np.inf, False: np.inf}, {}
    for _ in range(timing.REPEATS):
        for native in taken:
            options = DecodeOptions(beam=BEAM, native=native)
            started = time.perf_counter()
            texts[native] = [decoded(model, scores, options) for scores in scored]
            taken[native] = min(taken[native], time.perf_counter() - started)
    duration = sum(map(len, sounds)) / rate
    return {
        "version": importlib.metadata.version("ctc-beam-decoder"),
        "n": len(sounds),
        "same": sum(a == b for a, b in zip(texts[True], texts[False], strict=True)),
        "own_rtf": taken[False] / duration,
        "native_rtf": taken[True] / duration,
    }


# pocketsphinx


def _decoder() -> "Decoder":
    """The English acoustic model and dictionary that come with pocketsphinx."""
    from pocketsphinx import Decoder

    return Decoder(lm=None, samprate=POCKETSPHINX_RATE, loglevel="FATAL")


def _one_of(decoder: "Decoder", words: Iterable[str], sample_rate: int) -> Recogniser:
    """A function from float32 (samples,) to the recognised one of `words`, or to nothing."""
    grammar = f"#JSGF V1.0; grammar words; public <word> = {' | '.join(words)};"
    decoder.add_jsgf_string("words", grammar)
    decoder.activate_search("words")

    def recognise_one(waveform: np.ndarray) -> str:
        samples = read_audio(waveform, POCKETSPHINX_RATE, source_rate=sample_rate)
        decoder.start_utt()
        decoder.process_raw(to_int16(samples).tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    return recognise_one


def _pocketsphinx(rate: int, sound: np.ndarray) -> dict[str, Any]:
    """Real-time factor of recognising one of ten digits, second by second."""
    one_of_ten = _one_of(_decoder(), DIGITS, rate)
    seconds = [sound[start : start + rate] for start in range(0, len(sound), rate)]
    taken = best_seconds(lambda: [one_of_ten(second) for second in seconds])
    return {
        "version": importlib.metadata.version("pocketsphinx"),
        "offline_rtf": taken * rate / len(sound),
        "streaming_rtf": None,
    }


# Files


def _files(model: Model, folder: Path) -> dict[str, Any] | None:
    """What the model and pocketsphinx make of recordings of words that both of them know."""
    card, decoder = model.card, _decoder()
    recordings = [
        (word, path)
        for word, path in _recordings(card, folder)
        if decoder.lookup_word(word) is not None
    ]
    if not recordings:
        return None
    recordings = _thinned(recordings)
    words = sorted({word for word, _ in recordings})
    return {
        "n": len(recordings),
        "words": words,
        "model": _score(recordings, card, lambda waveform: recognise(model, waveform)),
        "pocketsphinx": _score(recordings, card, _one_of(decoder, words, card.sample_rate)),
    }


def _thinned(recordings: list[Found]) -> list[Found]:
    """At most FILES of them, evenly spaced."""
    return recordings[:: -(-len(recordings) // FILES)]


def recognise(model: Model, waveform: np.ndarray) -> str:
    """Return what a model makes of a recording of one word."""
    if model.card.task == "classify":
        return decide(model, waveform)
    return transcribe(model, waveform).text


def _recordings(card: ModelCard, folder: Path) -> Iterator[tuple[str, Path]]:
    """Words that a model can answer, and their recordings, <folder>/<word>/<file>."""
    source = SourceConfig(path=str(folder), name=folder.name, licence="", attribution="")
    for recording in read_source(0, source):
        word = recording.text
        answers = word in card.labels or set(word) <= set(card.labels)
        if answers and recording.path.parent != folder:
            yield word, recording.path


def _score(
    recordings: list[tuple[str, Path]], card: ModelCard, recogniser: Recogniser
) -> dict[str, Any]:
    right, taken, duration = 0, 0.0, 0.0
    for word, path in recordings:
        waveform = read_audio(path, card.sample_rate)
        started = time.perf_counter()
        hypothesis = recogniser(waveform)
        taken += time.perf_counter() - started
        duration += len(waveform) / card.sample_rate
        right += hypothesis == word
    return {
        "accuracy": right / len(recordings),
        "accuracy_interval": wilson_interval(right, len(recordings)),
        "rtf": taken / duration,
    }
