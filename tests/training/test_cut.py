"""Words cut out of sentences: where they were said, by whom, and how many were left out and why."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from asr.model import load
from asr.training.config import SourceConfig
from asr.training.cut import CutError, CutOptions, Tally, cut_words
from asr.training.data.sources import read_source
from tests.support.commands import run_asr
from tests.support.tiny_models import SAMPLE_RATE, streaming_classify, tones, whole_ctc

TONE, PAUSE = 0.2, 0.1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_ctc(tmp_path_factory.mktemp("model") / "tones.onnx")


def write_sentences(folder: Path, *texts: str, said: str = "") -> Path:
    """A manifest of tones for letters, each sentence by a speaker of its own."""
    entries = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.wav"
        sf.write(path, tones(*(said or text), seconds=TONE, pause=PAUSE), SAMPLE_RATE)
        entries.append({"audio_filepath": path.name, "text": text, "speaker": f"s{number}"})
    manifest = folder / "sentences.jsonl"
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return manifest


def cut(model: Path, data: Path, out: Path, **options: object) -> Tally:
    return cut_words(load(model), data, out, CutOptions(**options))  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_a_cut_holds_its_word_and_nothing_of_its_neighbours(model: Path, tmp_path: Path) -> None:
    data = write_sentences(tmp_path, "a b c")
    assert cut(model, data, tmp_path / "out", margin=0.05).cut == {"a": 1, "b": 1, "c": 1}
    sentence, _ = sf.read(tmp_path / "0.wav", dtype="float32")
    (path,) = (tmp_path / "out" / "b").glob("*.flac")
    clip, rate = sf.read(path, dtype="float32")
    places = np.lib.stride_tricks.sliding_window_view(sentence, len(clip))
    start = int(np.square(places - clip).sum(axis=1).argmin()) / rate
    said = PAUSE + 2 * (TONE + PAUSE)  # after "a" and the separator
    assert said - PAUSE <= start <= said
    assert said + TONE <= start + len(clip) / rate <= said + TONE + PAUSE


def test_training_reads_the_cuts_with_the_speakers_of_their_sentences(
    model: Path, tmp_path: Path
) -> None:
    finished = run_asr("cut", model, write_sentences(tmp_path, "ab c", "c ba"), tmp_path / "out")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "" and "4 cuts of 3 words" in finished.stderr
    assert "cutting" not in finished.stderr  # no terminal, no bar
    source = SourceConfig(
        path=str(tmp_path / "out"), name="", licence="", attribution="", speaker="{speaker}"
    )
    found = {(r.text, r.speaker) for r in read_source(0, source)}
    assert found == {("ab", "s0"), ("c", "s0"), ("c", "s1"), ("ba", "s1")}


def test_only_the_words_wanted_and_no_more_of_one_than_wanted(model: Path, tmp_path: Path) -> None:
    data = write_sentences(tmp_path, "a b a", "a c")
    finished = run_asr("cut", model, data, tmp_path / "out", "--words", "A, cab", "--most", "2")
    assert finished.returncode == 0, finished.stderr
    assert len(list((tmp_path / "out" / "a").iterdir())) == 2
    assert not (tmp_path / "out" / "b").exists()
    assert "not found: cab" in finished.stderr


def test_what_is_not_cut_is_counted(model: Path, tmp_path: Path) -> None:
    data = write_sentences(tmp_path, "a b", "a x", "cccccc " * 30, said="a b")
    tally = cut(model, data, tmp_path / "out", confidence=0.9)
    assert tally.cut == {"a": 1, "b": 1}
    assert tally.left_out == {
        "in texts with characters that the model does not know": 2,
        "in texts that are longer than their sound": 30,
    }


def test_a_text_that_was_not_said_gives_no_cuts(model: Path, tmp_path: Path) -> None:
    data = write_sentences(tmp_path, "c c", said="a b")
    with pytest.raises(CutError, match="none of the words"):
        cut(model, data, tmp_path / "out", confidence=0.5)


def test_a_model_of_keywords_or_a_folder_without_texts_is_refused(
    model: Path, tmp_path: Path
) -> None:
    with pytest.raises(CutError, match="name one that transcribes"):
        cut(streaming_classify(tmp_path / "k.onnx"), write_sentences(tmp_path, "a"), tmp_path / "o")
    (tmp_path / "folder").mkdir()
    finished = run_asr("cut", model, tmp_path / "folder", tmp_path / "out")
    assert finished.returncode == 2
    assert "is no manifest of texts" in finished.stderr
