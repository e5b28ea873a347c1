"""Words cut out of sentences by CTC alignment: many voices for words that nobody recorded alone.

A word said inside a sentence is shorter and less clear than one said alone, and this is how it is
said in daily life: what keyword models need of words they must report, and most of all of others.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from asr.decode.alphabet import Alphabet
from asr.decode.ctc_paths import align
from asr.events import Word
from asr.files import whole_file
from asr.model import Model
from asr.training.config import SourceConfig
from asr.training.data.sources import DataError, Recording, manifest_of, read_source
from asr.training.data.texts import plain_text
from asr.training.progress import tracked
from features.audio import AudioError, read_audio
from features.errors import EarshotError

MAKE_ROOM = "free some space and repeat, or name another folder"
QUIETEST = -15.0  # dB that a word may be below its sentence: less is a slip of the alignment


class CutError(EarshotError, ValueError):
    """There is nothing to cut, or no model to cut with."""


@dataclass(frozen=True)
class CutOptions:
    """Which words to cut, and how.

    words: those wanted, in plain form (see `plain_text`); empty for all.
    most: cuts of one word at most, so that "the" does not fill the disk.
    margin: seconds of sound kept before and after a word, where the recording goes on.
    confidence: a word that the model is less sure of than this, in [0, 1], is left out: the text
        may not be what was said, or the word not where it seems.
    """

    words: frozenset[str] = frozenset()
    most: int = 100
    margin: float = 0.1
    confidence: float = 0.5


@dataclass
class Tally:
    """What became of the words of all texts."""

    cut: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


class Clip(NamedTuple):
    """A word and its samples, [samples] float32."""

    word: Word
    samples: np.ndarray


def cut_words(model: Model, data: Path, out: Path, options: CutOptions) -> Tally:
    """Cut words out of the recordings of a manifest (or a folder with one) by its texts.

    Writes `<out>/<word>/<recording>-<number>.flac` and, last, `<out>/manifest.jsonl` with the
    speakers of the sentences. Raises CutError, DataError or WriteError.
    """
    if model.card.task != "ctc":
        raise CutError(
            f"model {model.card.name} reports words and reads no texts; name one that transcribes"
        )
    if manifest_of(data) is None:
        raise CutError(f"{data}: is no manifest of texts; name a .jsonl file, or a folder with one")
    alphabet, tally, entries = Alphabet.of(model.card), Tally(), []
    recordings = _of_speakers(data)
    for recording in tracked(recordings, "cutting"):
        try:
            clips = _clips(model, alphabet, recording, options, tally)
        except AudioError:
            tally.left_out["in recordings that cannot be read"] += 1
            continue
        for number, clip in enumerate(clips):
            place = Path(clip.word.text, f"{recording.path.stem}-{number}.flac")
            _write(out / place, clip.samples, model.card.sample_rate)
            entries.append(
                {
                    "audio_filepath": str(place),
                    "duration": round(len(clip.samples) / model.card.sample_rate, 3),
                    "text": clip.word.text,
                    "speaker": recording.speaker,
                }
            )
    if not entries:
        raise CutError(f"{data}: none of the words wanted is said clearly enough in it")
    with whole_file(out / "manifest.jsonl", MAKE_ROOM) as part:
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        part.write_text("".join(lines), encoding="utf-8")
    return tally


def _of_speakers(data: Path) -> list[Recording]:
    """The recordings of a manifest, with their speakers if it names them all."""
    source = SourceConfig(path=str(data), name=data.stem, licence="", attribution="")
    try:
        return read_source(0, replace(source, speaker="{speaker}"))
    except DataError:
        return read_source(0, source)


def _clips(
    model: Model, alphabet: Alphabet, recording: Recording, options: CutOptions, tally: Tally
) -> Iterator[Clip]:
    text = plain_text(recording.text)
    words = text.split()
    wanted = [word for word in words if not options.words or word in options.words]
    if all(tally.cut[word] >= options.most for word in wanted):
        return
    labels = alphabet.spell(text)
    if labels is None:
        tally.left_out["in texts with characters that the model does not know"] += len(wanted)
        return
    samples = read_audio(recording.path, model.card.sample_rate)
    try:
        said = _said(model, alphabet, samples, labels)
    except ValueError:
        tally.left_out["in texts that are longer than their sound"] += len(wanted)
        return
    loudness = _decibels(samples)
    for place, word in enumerate(said):
        if word.text not in wanted or tally.cut[word.text] >= options.most:
            continue
        clip = Clip(word, _around(samples, said, place, options.margin, model.card.sample_rate))
        if word.confidence < options.confidence:
            tally.left_out["that the model is not sure of"] += 1
        elif _decibels(clip.samples) < loudness + QUIETEST:
            tally.left_out["that are too quiet to be there"] += 1
        else:
            tally.cut[word.text] += 1
            yield clip


def _said(
    model: Model, alphabet: Alphabet, samples: np.ndarray, labels: tuple[int, ...]
) -> tuple[Word, ...]:
    """The words of a text with their times and confidence. Raises ValueError if they don't fit."""
    log_probs = model.log_probs(samples)
    (utterance,) = alphabet.utterance(align(log_probs, labels, alphabet), log_probs, 0)
    return utterance.words


def _around(
    samples: np.ndarray, words: tuple[Word, ...], place: int, margin: float, rate: int
) -> np.ndarray:
    """The samples of a word with a margin that ends in the middle of the gap to its neighbours, or
    a third of the margin into them where there is none."""
    start, end = words[place].start, words[place].end
    before = words[place - 1].end if place else 0.0
    after = words[place + 1].start if place + 1 < len(words) else len(samples) / rate
    first = max(start - margin, min((before + start) / 2.0, start - margin / 3.0))
    last = min(end + margin, max((after + end) / 2.0, end + margin / 3.0))
    return samples[max(0, round(first * rate)) : round(last * rate)]


def _decibels(samples: np.ndarray) -> float:
    """Mean power in dB of full scale."""
    return 10.0 * float(np.log10(np.mean(np.square(samples), dtype=float) + 1e-12))


def _write(path: Path, samples: np.ndarray, rate: int) -> None:
    with whole_file(path, MAKE_ROOM) as part:
        soundfile.write(part, samples, rate, format="FLAC")
