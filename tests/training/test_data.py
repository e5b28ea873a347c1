"""From folders and manifests to batches: nobody on both sides, nothing lost, always the same."""

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import asr.training
from asr.training.config import Config, parse_config, read_config
from asr.training.data.batches import Batches, epoch_batches, loader
from asr.training.data.cache import CacheError, PcmCache
from asr.training.data.corpus import (
    NOISE_HELD_OUT,
    Corpus,
    Example,
    load_corpus,
    warn_of_untaught,
)
from asr.training.data.items import Item
from asr.training.data.labels import BLANK, SILENCE, UNKNOWN, Labels
from asr.training.data.plan import plan_epoch, plan_validation
from asr.training.data.sources import (
    DataError,
    Recording,
    is_validation_speaker,
    nearest_share,
    read_source,
)
from asr.training.data.texts import plain_text
from features.audio import AudioError, read_audio
from features.augment import AugmentConfig, Augmenter
from tests.support.synthetic_speech import (
    SAMPLE_RATE,
    speaker,
    write_manifest,
    write_noise,
    write_words,
)

RECIPES = sorted(Path(asr.training.__path__[0], "recipes").glob("*.toml"))
RECORDINGS = os.environ.get("ASR_DATA")
CLASSIFY = {"kind": "classify", "labels": ["yes", "no"]}
BY_NAME = "([0-9a-f]{8})_nohash"


def source(path: Path, **fields: object) -> dict:
    return {"path": str(path), "name": path.name, "licence": "", "attribution": ""} | fields


def settings_for(tmp_path: Path, sources: list[dict], head: dict, **data: object) -> Config:
    tree = {
        "name": "test",
        "model": {"head": head},
        "data": {"sources": sources, "cache": str(tmp_path / "cache"), "epoch_seconds": 0.0} | data,
        "optimisation": {"batch_seconds": 8.0},
    }
    return parse_config(tree, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words, noise and sentences of a few synthetic speakers."""
    root = tmp_path_factory.mktemp("recordings")
    write_words(root / "words", speakers=range(12))
    write_noise(root / "noise", seconds=2.0)
    write_manifest(root / "sentences", speakers=range(8), texts=["yes", "no stop", "left yes no"])
    return root


def classifier(folder: Path, tmp_path: Path, **data: object) -> Config:
    held_out = [speaker(n).name for n in (10, 11)]
    sources = [
        source(folder / "words", speaker=BY_NAME, validation_speakers=held_out),
        source(folder / "noise", kind="noise"),
    ]
    return settings_for(tmp_path, sources, CLASSIFY, **data)


def recogniser(folder: Path, tmp_path: Path, warm_epochs: int = 0, **fields: object) -> Config:
    held_out = [speaker(n).name for n in (6, 7)]
    sentences = source(
        folder / "sentences" / "manifest.jsonl", speaker="{speaker}", validation_speakers=held_out
    )
    config = settings_for(
        tmp_path, [sentences | fields], {"kind": "ctc"}, warm_epochs=warm_epochs, warm_seconds=0.7
    )
    return with_data(config, lead=0.0)


def with_data(config: Config, **shares: float) -> Config:
    return replace(config, data=replace(config.data, **shares))


# Speakers


def test_the_hash_rule_puts_known_speakers_where_speech_commands_lists_them() -> None:
    for name in ("026290a7", "060cd039", "099d52ad"):  # in its validation_list.txt
        assert is_validation_speaker(name, 10.0)
    for name in ("0c40e715", "0ea0e2f4"):  # in its testing_list.txt: the next ten percent
        assert not is_validation_speaker(name, 10.0)
        assert is_validation_speaker(name, 20.0)


@given(st.text(), st.floats(0.0, 100.0), st.floats(0.0, 100.0))
def test_a_larger_share_holds_out_the_same_speakers_and_more(
    name: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert is_validation_speaker(name, low) <= is_validation_speaker(name, high)
    assert not is_validation_speaker(name, 0.0)


def test_the_share_is_about_what_was_asked_for() -> None:
    held_out = sum(is_validation_speaker(f"{n:08x}", 10.0) for n in range(4_000))
    assert 320 < held_out < 480


def sides(recordings: Iterable[Recording]) -> dict[str, set[bool]]:
    found: dict[str, set[bool]] = {}
    for recording in recordings:
        found.setdefault(recording.speaker, set()).add(recording.validation)
    return found


@given(percent=st.floats(0.0, 100.0), pattern=st.sampled_from(["", BY_NAME, "_nohash_([0-9])"]))
@settings(max_examples=20, deadline=None)
def test_no_speaker_is_in_training_and_in_validation(
    folder: Path, percent: float, pattern: str
) -> None:
    fields = source(folder / "words", speaker=pattern, validation=percent)
    config = settings_for(folder, [fields], CLASSIFY)
    found = sides(read_source(0, config.data.sources[0]))
    assert all(len(side) == 1 for side in found.values())
    expected = {"": 4 * 12 * 2, BY_NAME: 12, "_nohash_([0-9])": 2}
    assert len(found) == expected[pattern]


def test_named_speakers_and_only_these_are_held_out(folder: Path, tmp_path: Path) -> None:
    for config in (classifier(folder, tmp_path), recogniser(folder, tmp_path)):
        wanted = set(config.data.sources[0].validation_speakers)
        found = sides(read_source(0, config.data.sources[0]))
        assert {name for name, side in found.items() if side == {True}} == wanted
        corpus = load_corpus(config)
        assert {e.recording.speaker for e in corpus.validation} == wanted
        assert not {e.recording.speaker for e in corpus.train} & wanted


def test_speakers_that_are_not_there_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no speaker nobody"):
        load_corpus(recogniser(folder, tmp_path, validation_speakers=["nobody"]))
    with pytest.raises(DataError, match=r"_0\.flac: .* no field 'voice'"):
        load_corpus(recogniser(folder, tmp_path, speaker="{voice}"))
    with pytest.raises(DataError, match=r"_0\.flac: the pattern 's\(x\)' finds no speaker"):
        load_corpus(recogniser(folder, tmp_path, speaker="s(x)"))


def test_there_must_be_speakers_on_both_sides(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no speaker is held out"):
        load_corpus(recogniser(folder, tmp_path, validation_speakers=[], validation=0))
    with pytest.raises(DataError, match="no recording is left to train on"):
        load_corpus(recogniser(folder, tmp_path, validation_speakers=[], validation=100))


@given(st.sets(st.text(min_size=1), min_size=2, max_size=40), st.floats(0.0, 100.0))
def test_the_nearest_number_of_speakers_is_held_out(names: set[str], percent: float) -> None:
    chosen = nearest_share(names, percent)
    wanted = len(names) * percent / 100.0
    assert len(chosen) == (0 if not percent else max(1, round(wanted)))
    assert nearest_share(names, percent / 2) <= chosen <= names


def test_recordings_of_an_only_speaker_are_held_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_words(tmp_path / "words", speakers=[0], takes=10)
    fields = source(tmp_path / "words", speaker=BY_NAME, validation=20)
    config = settings_for(tmp_path, [fields], CLASSIFY)
    recordings = read_source(0, config.data.sources[0])
    assert sum(r.validation for r in recordings) == round(0.2 * len(recordings))
    assert "one speaker only" in caplog.text


def test_validation_beyond_its_limit_is_named(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = load_corpus(classifier(folder, tmp_path, validation_limit=3))
    assert len(corpus.validation) == 3
    assert "validates on 3 of the" in caplog.text


# Folders and manifests


def test_a_folder_names_the_words(folder: Path, tmp_path: Path) -> None:
    config = classifier(folder, tmp_path)
    recordings = read_source(0, config.data.sources[0])
    assert Counter(r.text for r in recordings) == dict.fromkeys(("yes", "no", "stop", "left"), 24)
    assert {r.text for r in read_source(1, config.data.sources[1])} == {""}


def test_underscores_in_folder_names_are_spaces(tmp_path: Path) -> None:
    for name in ("hey_you", SILENCE):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "a.wav", np.zeros(160), SAMPLE_RATE)
    config = settings_for(tmp_path, [source(tmp_path)], CLASSIFY)
    assert {r.text for r in read_source(0, config.data.sources[0])} == {"hey you", SILENCE}


@pytest.mark.parametrize(
    ("folder_name", "label"),
    [
        ("view_glass", "view_glass"),
        ("view_glass", "view glass"),
        ("Lumos", "Lumos"),
        ("lumos", "LUMOS"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_labels_and_folders_meet_in_one_normal_form(
    tmp_path: Path, folder_name: str, label: str
) -> None:
    write_words(tmp_path / "words", range(4), ["yes", "no"])
    (tmp_path / "words" / "yes").rename(tmp_path / "words" / folder_name)
    head = {"kind": "classify", "labels": [label, "no"]}
    fields = source(tmp_path / "words", speaker=BY_NAME, validation=25)
    corpus = load_corpus(settings_for(tmp_path, [fields], head))
    assert corpus.labels.names[:2] == (label, "no")
    assert {e.targets[0] for e in corpus.train} == {0, 1}


def test_a_label_without_recordings_raises_with_the_folders_named(
    folder: Path, tmp_path: Path
) -> None:
    head = {"kind": "classify", "labels": ["yes", "lumos"]}
    with pytest.raises(DataError, match=r"says 'lumos'.*left, no, stop, yes"):
        load_corpus(settings_for(tmp_path, [source(folder / "words", speaker=BY_NAME)], head))


def test_folders_are_shown_as_they_are_spelled(tmp_path: Path) -> None:
    write_words(tmp_path / "words", range(2), ["yes"]).joinpath("yes").rename(
        tmp_path / "words" / "View_Glass"
    )
    head = {"kind": "classify", "labels": ["lumos"]}
    with pytest.raises(DataError, match="folders or texts View_Glass;"):
        load_corpus(settings_for(tmp_path, [source(tmp_path / "words", speaker=BY_NAME)], head))


def test_nothing_that_stands_against_the_words_is_warned_of(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = {"kind": "classify", "labels": ["yes", "no", "left", "stop"]}
    words_alone = settings_for(tmp_path, [source(folder / "words", speaker=BY_NAME)], head)
    config = classifier(folder, tmp_path)
    warn_of_untaught(config, load_corpus(config))
    corpus = load_corpus(words_alone)  # to measure on, too, where it teaches nothing
    assert "nothing teaches" not in caplog.text
    warn_of_untaught(words_alone, corpus)
    assert "what is none of the words" in caplog.text
    assert "silence and noise" in caplog.text


def test_texts_longer_than_their_sound_are_left_out_and_counted(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = folder / "sentences" / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[0]["text"] = "yes no stop left " * 40
    longer = manifest.with_name("longer.jsonl")
    longer.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = source(longer, speaker="{speaker}", validation=25)
    corpus = load_corpus(settings_for(tmp_path, [fields], {"kind": "ctc"}))
    assert len(corpus.train) + len(corpus.validation) == len(rows) - 1
    assert "left out 1 recordings: their texts are longer than their sound" in caplog.text


@pytest.mark.parametrize("name", ["manifest.jsonl", "manifest.json"])
def test_a_folder_that_holds_a_manifest_is_read_as_one(tmp_path: Path, name: str) -> None:
    text = "yes\u2028no"
    line = json.dumps({"audio_filepath": "a.wav", "text": text}, ensure_ascii=False)
    (tmp_path / name).write_text(f"\ufeff{line}\r\n", encoding="utf-8")
    for path in (tmp_path, tmp_path / name):
        config = settings_for(tmp_path, [source(path)], {"kind": "ctc"})
        (recording,) = read_source(0, config.data.sources[0])
        assert (recording.path, recording.text) == (tmp_path / "a.wav", "yes no")


def texts_of(folder: Path, table: str) -> list[Recording]:
    rows = [{"audio_filepath": f"clips/{name}.mp3", "duration": 1.0} for name in ("a", "b")]
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "texts.txt").write_text(table)
    listed = source(folder / "clips.jsonl", texts=str(folder / "texts.txt"))
    config = settings_for(folder, [listed], {"kind": "ctc"})
    return read_source(0, config.data.sources[0])


def test_texts_of_a_table_belong_to_the_recordings_it_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recordings = texts_of(tmp_path, "b\tgood morning\nc\tanother\n")
    assert [(r.path, r.text) for r in recordings] == [(tmp_path / "clips/b.mp3", "good morning")]
    left_out, astray = (record.getMessage() for record in caplog.records)
    assert "left out 1 recordings that have no line in" in left_out
    assert "1 lines of" in astray


@pytest.mark.parametrize("line", ["a good morning", "a\t ", "\tgood", "b\ttwice"])
def test_a_table_of_texts_with_a_broken_line_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match=r"texts.txt, line 2: "):
        texts_of(tmp_path, f"b\tgood morning\n{line}\n")


def test_a_manifest_names_files_and_texts(tmp_path: Path) -> None:
    lines = [
        {"audio_filepath": "a.wav", "text": "  Two   Words\n"},
        {"audio_filepath": "/elsewhere/b.wav"},
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n\n".join(map(json.dumps, lines)) + "\n\n")
    config = settings_for(tmp_path, [source(manifest)], {"kind": "ctc"})
    first, second = read_source(0, config.data.sources[0])
    assert (first.path, first.text) == (tmp_path / "a.wav", "two words")
    assert (second.path, second.text) == (Path("/elsewhere/b.wav"), "")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "is no JSON "),
        ("[" * 100_000, "is no JSON "),
        ("3", "is no JSON object"),
        ("[]", "is no JSON object"),
        ("null", "is no JSON object"),
        ('"text"', "is no JSON object"),
        ('{"text": "no file"}', "has no text in audio_filepath"),
        ('{"audio_filepath": 3, "text": "x"}', "has no text in audio_filepath"),
        ('{"audio_filepath": "a.wav", "text": 3}', "has no text in text"),
        ('{"audio_filepath": "a.wav", "text": null}', "has no text in text"),
    ],
    ids=lambda value: value[:40],
)
def test_broken_lines_of_a_manifest_are_named(tmp_path: Path, line: str, fault: str) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio_filepath": "a.wav", "text": "fine"}\n\n' + line + "\n")
    config = settings_for(tmp_path, [source(manifest)], {"kind": "ctc"})
    with pytest.raises(DataError, match=rf"m\.jsonl, line 3: {fault}.*; write {{") as caught:
        read_source(0, config.data.sources[0])
    assert "\n" not in str(caught.value)
    assert "Error(" not in str(caught.value)


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    for name, error in (("missing", DataError), ("m.jsonl", DataError), (".", AudioError)):
        config = settings_for(tmp_path, [source(tmp_path / name, name="x")], CLASSIFY)
        with pytest.raises(error, match=str(tmp_path)):
            read_source(0, config.data.sources[0])


# Labels


def test_characters_come_from_the_texts(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(recogniser(folder, tmp_path))
    assert corpus.labels.names == (BLANK, " ", *sorted(set("yesnostopleft")))
    for example in (*corpus.train, *corpus.validation):
        assert corpus.labels.decode(example.targets) == example.recording.text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Yes, it\u2019s \u201cme\u201d - well-known.", "yes it's me well known"),
        ("cafe\u0301", "caf\u00e9"),
        ("'tis  the   'end'", "tis the end"),
        ("room 12", "room 12"),
    ],
)
def test_punctuation_and_case_are_not_part_of_a_text(text: str, plain: str) -> None:
    assert plain_text(text) == plain


def test_punctuation_that_is_a_label_stays() -> None:
    labels = Labels([BLANK, " ", ".", "a"], task="ctc")
    assert labels.plain("A, a.") == "a a."
    assert labels.encode("A. a") == [3, 2, 1, 3]


@given(st.text("abc "), st.text("abcd "))
def test_texts_with_other_characters_cannot_be_spelled(known: str, text: str) -> None:
    labels = Labels([BLANK, *sorted({*known, "a"})], task="ctc")
    numbers = labels.encode(text)
    plain = " ".join(text.split())
    if plain and set(plain) <= {*known, "a"}:
        assert [labels.names[n] for n in numbers or []] == list(plain)
    else:
        assert numbers is None


def test_a_closed_set_of_words() -> None:
    labels = Labels([BLANK, "yes", "no"], task="ctc")
    assert labels.encode("no yes no") == [2, 1, 2]
    assert labels.encode("no maybe") is None
    assert labels.decode([2, 1]) == "no yes"


def test_other_words_are_unknown_unless_they_contain_a_label() -> None:
    labels = Labels(["yes", "no", UNKNOWN, SILENCE], task="classify")
    assert labels.encode("no") == [1]
    assert labels.encode("stop") == [2]
    assert labels.encode("oh yes") is None  # neither the word nor certainly another one
    assert labels.encode(SILENCE) == [3]
    assert labels.background == (UNKNOWN, SILENCE)
    assert Labels(["yes", "no"], task="classify").encode("stop") is None
    alike = Labels(["yes", "no", UNKNOWN], task="classify", alike=["know"])
    assert alike.encode("do you know") is None and alike.encode("know") is None
    assert alike.encode("knowledge") == [2]


def test_texts_that_the_labels_cannot_say_are_left_out(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fields = asdict(recogniser(folder, tmp_path).data.sources[0])
    config = settings_for(tmp_path, [fields], {"kind": "ctc", "labels": ["yes", "no", "left"]})
    corpus = load_corpus(config)
    assert {e.recording.text for e in corpus.train} == {"yes", "left yes no"}
    assert "left out 8 recordings" in caplog.text


def test_a_source_without_any_label_adds_nothing(folder: Path, tmp_path: Path) -> None:
    words = source(folder / "words", speaker=BY_NAME, validation=50)
    nonsense = source(folder / "sentences" / "manifest.jsonl", name="sentences")
    config = settings_for(tmp_path, [words, nonsense], CLASSIFY, unknown=0.0)
    assert {e.recording.source for e in load_corpus(config).train} == {0, 1}
    config = settings_for(tmp_path, [words, nonsense], {"kind": "ctc", "labels": ["no", "stop"]})
    texts = {e.recording.text for e in load_corpus(config).train}
    assert texts == {"no", "stop", "no stop"}
    config = settings_for(tmp_path, [words, nonsense], {"kind": "ctc", "labels": ["never"]})
    with pytest.raises(DataError, match="no recording is left"):
        load_corpus(config)


# Decoded audio


def test_decoded_audio_is_that_of_the_files(folder: Path, tmp_path: Path) -> None:
    paths = sorted((folder / "words" / "yes").iterdir())
    cache = PcmCache.build(paths, SAMPLE_RATE, tmp_path, "a/b")
    for number, path in enumerate(paths):
        expected = read_audio(path, SAMPLE_RATE)
        assert cache.length(number) == len(expected)
        np.testing.assert_allclose(cache.read(number), expected, rtol=0, atol=1e-4)


def test_files_are_decoded_once_and_again_when_they_change(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.full(100, 0.5), SAMPLE_RATE)
    other = next((folder / "words" / "no").iterdir())

    def cached() -> dict[str, int]:
        PcmCache.build([path, other], SAMPLE_RATE, tmp_path / "cache", "x")
        return {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache").iterdir()}

    first = cached()
    assert cached() == first
    sf.write(path, np.full(120, -0.5), SAMPLE_RATE)
    assert len(cached()) == 4
    again = PcmCache.build([path, other], SAMPLE_RATE, tmp_path / "cache", "x")
    np.testing.assert_allclose(again.read(0), -0.5, atol=1e-4)
    assert again.length(0) == 120


def test_a_disk_without_room_is_named_before_anything_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.zeros(1), 1000, subtype="PCM_U8")
    head = bytearray(path.read_bytes()[:44])
    head[4:8], head[40:44] = (2**31 + 36).to_bytes(4, "little"), (2**31).to_bytes(4, "little")
    path.write_bytes(head)
    os.truncate(path, 2**31 + 44)  # 25 days that take no room themselves
    cache = tmp_path / "cache"
    expected = rf"^{cache}: decoded audio of x needs about [\d.]+ GB and the disk has .* free; free"
    with pytest.raises(CacheError, match=expected):
        PcmCache.build([path] * 10_000, SAMPLE_RATE, cache, "x")
    assert list(cache.iterdir()) == []


def test_a_cache_that_lost_its_samples_is_made_again(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.full(100, 0.5), SAMPLE_RATE)
    paths, folder = [tmp_path / "a.wav"], tmp_path / "cache"
    PcmCache.build(paths, SAMPLE_RATE, folder, "x")
    next(folder.glob("*.pcm")).unlink()
    cache = PcmCache.build(paths, SAMPLE_RATE, folder, "x")
    np.testing.assert_allclose(cache.read(0), 0.5, atol=1e-4)


def test_names_that_no_file_can_have_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [tmp_path / name for name in ("a.wav", "\ud800.wav", "\0.wav")]
    sf.write(paths[0], np.full(100, 0.5), SAMPLE_RATE)
    cache = PcmCache.build(paths, SAMPLE_RATE, tmp_path / "cache", "x")
    np.testing.assert_allclose(cache.read(0), 0.5, atol=1e-4)
    assert sum("left out" in record.getMessage() for record in caplog.records) == 2


def test_files_that_cannot_be_read_are_left_out_with_a_warning(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = write_words(tmp_path / "words", speakers=range(4), words=("yes", "no"), takes=1)
    broken = words / "yes" / "00000000_nohash_0.wav"
    broken.write_bytes(b"RIFF, but not for long")
    noise = write_noise(tmp_path / "noise", seconds=1.0)
    (noise / "broken.wav").write_bytes(b"")
    held_out = speaker(3).name
    sources = [
        source(words, speaker=BY_NAME, validation_speakers=[held_out]),
        source(noise, kind="noise"),
    ]
    corpus = load_corpus(settings_for(tmp_path, sources, CLASSIFY))
    assert len(corpus.train) == 6 and len(corpus.noises) == len(corpus.validation_noises) == 2
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    for path in (broken, noise / "broken.wav"):
        assert [w for w in warnings if str(path) in w and w.endswith("left out")]


def test_nothing_is_left_behind_when_no_file_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    with pytest.raises(AudioError, match=r"words: none of its 1 files can be read; .*a\.wav"):
        PcmCache.build([tmp_path / "a.wav"], SAMPLE_RATE, tmp_path / "cache", "words")
    assert not list((tmp_path / "cache").iterdir())


# Epochs


@pytest.fixture(scope="module")
def words(folder: Path) -> tuple[Config, Corpus]:
    config = classifier(folder, folder, balance=1.0, unknown=0.2, silence=0.1)
    return config, load_corpus(config)


@pytest.fixture(scope="module")
def sentences(folder: Path) -> tuple[Config, Corpus]:
    config = recogniser(folder, folder)
    return config, load_corpus(config)


@pytest.fixture(params=["words", "sentences"])
def task(request: pytest.FixtureRequest) -> tuple[Config, Corpus]:
    return request.getfixturevalue(request.param)


def test_an_epoch_is_a_function_of_seed_and_number(task: tuple[Config, Corpus]) -> None:
    config, corpus = task
    assert plan_epoch(config, corpus, 3) == plan_epoch(config, corpus, 3)
    assert plan_epoch(config, corpus, 3) != plan_epoch(config, corpus, 4)
    tree = asdict(config)
    tree["optimisation"]["seed"] = 1
    assert plan_epoch(parse_config(tree, "x"), corpus, 3) != plan_epoch(config, corpus, 3)


def test_batches_are_as_large_as_allowed_and_no_larger(task: tuple[Config, Corpus]) -> None:
    config, corpus = task
    limit = config.optimisation.batch_seconds * SAMPLE_RATE
    for plan in (plan_epoch(config, corpus, 0), plan_validation(config, corpus)):
        sizes = [len(batch) * max(item.samples for item in batch) for batch in plan]
        assert all(batch for batch in plan) and max(sizes) <= limit
        assert np.median(sizes) > 0.5 * limit


def test_a_recording_longer_than_a_batch_gets_one_for_itself(folder: Path, tmp_path: Path) -> None:
    tree = asdict(recogniser(folder, tmp_path))
    tree["optimisation"]["batch_seconds"] = 0.1
    config = parse_config(tree, "x")
    corpus = load_corpus(config)
    assert [len(batch) for batch in plan_epoch(config, corpus, 0)] == [1] * len(corpus.train)


def test_a_small_set_is_drawn_until_an_epoch_is_long_enough(
    task: tuple[Config, Corpus],
) -> None:
    config, corpus = task
    once = sum(item.samples for batch in plan_epoch(config, corpus, 0) for item in batch)
    for repeats in (0.5, 2.5):
        wanted = repeats * once / SAMPLE_RATE
        longer = replace(config, data=replace(config.data, epoch_seconds=wanted))
        items = [item for batch in plan_epoch(longer, corpus, 0) for item in batch]
        assert sum(item.samples for item in items) == pytest.approx(
            once * math.ceil(repeats), rel=0.05
        )
        assert len({item.seed for item in items}) == len(items)


def test_weights_repeat_recordings(folder: Path, tmp_path: Path) -> None:
    for weight in (0.25, 1.0, 2.5):
        config = recogniser(folder, tmp_path, weight=weight)
        corpus = load_corpus(config)
        times: Counter[Path] = Counter()
        for epoch in range(8):
            plan = plan_epoch(config, corpus, epoch)
            times.update(item.example.recording.path for b in plan for item in b if item.example)
        assert set(times) <= {e.recording.path for e in corpus.train}
        counts = [times[e.recording.path] for e in corpus.train]
        assert all(8 * int(weight) <= count <= 8 * -int(-weight // 1) for count in counts)
        assert np.mean(counts) == pytest.approx(8 * weight, rel=0.3)
    config = recogniser(folder, tmp_path, weight=0.0)
    with pytest.raises(DataError, match="raise the weight"):
        plan_epoch(config, load_corpus(config), 0)


def test_training_to_transcribe_starts_with_short_recordings(folder: Path, tmp_path: Path) -> None:
    config = recogniser(folder, tmp_path, warm_epochs=2)
    corpus = load_corpus(config)
    lengths = [example.samples for example in corpus.train]
    short = [length for length in lengths if length <= 0.7 * SAMPLE_RATE]
    assert 0 < len(short) < len(lengths)
    for epoch, expected in ((0, short), (1, short), (2, lengths)):
        drawn = [item.samples for batch in plan_epoch(config, corpus, epoch) for item in batch]
        assert sorted(drawn) == sorted(expected)


def test_without_short_recordings_training_starts_with_all(folder: Path, tmp_path: Path) -> None:
    tree = asdict(recogniser(folder, tmp_path, warm_epochs=2))
    tree["data"]["warm_seconds"] = 0.01
    config = parse_config(tree, "x")
    corpus = load_corpus(config)
    assert sum(map(len, plan_epoch(config, corpus, 0))) == len(corpus.train)


def test_short_texts_are_joined_with_spaces_and_none_is_lost(folder: Path, tmp_path: Path) -> None:
    config = with_data(recogniser(folder, tmp_path), join=0.7)
    corpus = load_corpus(config)
    items = [item for batch in plan_epoch(config, corpus, 1) for item in batch]
    assert any(item.before for item in items) and any(not item.before for item in items)
    planned: Counter[str] = Counter()
    for item in items:
        parts = [part.example for part in (*item.before, item) if part.example]
        planned.update(example.recording.path.name for example in parts)
        text = "".join(corpus.labels.names[number] for number in item.targets)
        assert text == " ".join(example.recording.text for example in parts)
        expected = np.concatenate([example.waveform() for example in parts])
        np.testing.assert_array_equal(item.waveform([]), expected)
        assert item.length == len(expected)
    assert planned == Counter(example.recording.path.name for example in corpus.train)


def test_silence_goes_before_some_of_the_texts_and_noise_into_it(
    folder: Path, tmp_path: Path
) -> None:
    config = with_data(recogniser(folder, tmp_path), lead=0.5)
    corpus = load_corpus(config)
    items = [item for batch in plan_epoch(config, corpus, 1) for item in batch]
    late = [item for item in items if item.lead]
    assert 0.2 * len(items) < len(late) < 0.8 * len(items)
    for item in late:
        assert item.length == item.lead + item.samples
        assert 0.2 <= item.lead / config.model.mfcc.sample_rate <= 10.0
        waveform = item.waveform([])
        assert not waveform[: item.lead].any()
        np.testing.assert_array_equal(waveform[item.lead :], replace(item, lead=0).waveform([]))
    always = AugmentConfig(speed=0, shift=0, room=0, telephone=0, gain=0, noise=1, coloured=1)
    augmenter = Augmenter(always, [], config.model.mfcc.sample_rate)
    assert late[0].waveform([], augmenter)[: late[0].lead].all()


def test_a_word_amid_other_sound_is_still_the_answer(words: tuple[Config, Corpus]) -> None:
    config, corpus = with_data(words[0], join=0.5), words[1]
    items = [item for batch in plan_epoch(config, corpus, 0) for item in batch]
    assert np.mean([bool(item.after) for item in items]) == pytest.approx(0.5, abs=0.15)
    assert {len(item.before) for item in items} == {0, 1, 2}
    for item in items:
        assert len(item.targets) == 1
        start = sum(other.samples for other in item.before)
        sound = item.waveform(corpus.noises)
        assert len(sound) == item.length
        alone = replace(item, before=(), after=()).waveform(corpus.noises)
        np.testing.assert_array_equal(sound[start : start + item.samples], alone)
        assert len(sound) - start - item.samples <= 0.35 * SAMPLE_RATE


@pytest.mark.parametrize(("block", "window", "searched"), [(0, 0.2, 0), (4, 0.2, 1), (4, 1.0, 0)])
def test_a_stream_is_searched_for_what_sounds_like_a_word(
    words: tuple[Config, Corpus], block: int, window: float, searched: bool
) -> None:
    config, corpus = with_data(words[0], join=0.5), words[1]
    encoder = replace(config.model.encoder, block=block)
    head = replace(config.model.head, window=window)
    config = replace(config, model=replace(config.model, encoder=encoder, head=head))
    items = [item for batch in plan_epoch(config, corpus, 0) for item in batch]
    unknown = corpus.labels.names.index(UNKNOWN)
    assert {item.search for item in items if item.targets == (unknown,)} == {searched}
    assert not any(item.search for item in items if item.targets != (unknown,))
    for item in items:
        assert not (item.search and (item.before or item.after))
        if item.example is not None:
            limit = item.example.samples if item.search else window * SAMPLE_RATE
            assert item.samples == min(item.example.samples, limit)
    batch = Batches([items], corpus.noises, None)[0]
    assert batch.search.tolist() == [item.search for item in items]


def test_words_that_weigh_nothing_are_only_validated(folder: Path, tmp_path: Path) -> None:
    yes_no, others = tmp_path / "yes no", tmp_path / "others"
    write_words(yes_no, speakers=range(4), words=("yes", "no"))
    write_words(others, speakers=range(4), words=("stop", "left"))
    held_out = {"speaker": BY_NAME, "validation_speakers": [speaker(3).name]}
    sources = [source(yes_no, **held_out), source(others, weight=0, **held_out)]
    config = settings_for(tmp_path, sources, CLASSIFY)
    corpus = load_corpus(config)
    plan = plan_epoch(config, corpus, 0)
    assert {item.targets for batch in plan for item in batch} == {(0,), (1,)}
    validated = {item.targets for batch in plan_validation(config, corpus) for item in batch}
    assert validated == {(0,), (1,), (2,)}


def shares(items: Sequence[Item], labels: Labels) -> dict[str, float]:
    counts = Counter(labels.names[item.targets[0]] for item in items)
    return {name: count / len(items) for name, count in counts.items()}


def test_unknown_words_and_silence_have_their_share(words: tuple[Config, Corpus]) -> None:
    config, corpus = words
    items = [item for epoch in range(20) for b in plan_epoch(config, corpus, epoch) for item in b]
    found = shares(items, corpus.labels)
    expected = {"yes": 0.35, "no": 0.35, UNKNOWN: 0.2, SILENCE: 0.1}
    assert found == pytest.approx(expected, abs=0.05)
    assert all((item.example is None) == (item.targets == (3,)) for item in items)


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.2), (0.5, 1 / 3), (1.0, 0.5)])
def test_balance_lifts_rare_words(tmp_path: Path, balance: float, share: float) -> None:
    write_words(tmp_path / "words", speakers=range(10), words=["yes"], takes=4)
    write_words(tmp_path / "words", speakers=range(10), words=["no"], takes=1)
    fields = source(tmp_path / "words", speaker=BY_NAME, validation=30)
    config = settings_for(tmp_path, [fields], CLASSIFY, balance=balance)
    corpus = load_corpus(config)
    items = [item for epoch in range(30) for b in plan_epoch(config, corpus, epoch) for item in b]
    assert shares(items, corpus.labels)["no"] == pytest.approx(share, abs=0.05)


def test_silence_is_drawn_from_held_out_noise_when_validating(words: tuple[Config, Corpus]) -> None:
    config, corpus = words
    plan = plan_validation(config, corpus)
    items = [item for batch in plan for item in batch]
    found = Counter(corpus.labels.names[item.targets[0]] for item in items)
    assert found == {"yes": 4, "no": 4, UNKNOWN: 8, SILENCE: min(4, len(corpus.validation_noises))}
    sounds = [item.waveform(corpus.validation_noises) for item in items if item.example is None]
    assert len({sound.tobytes() for sound in sounds}) == len(sounds)
    for sound in sounds:
        assert not any(sound.tobytes() in noise.tobytes() for noise in corpus.noises)


@pytest.mark.parametrize(("seconds", "windows"), [(0.3, 1), (1.0, 1), (1.9, 1), (4.1, 4)])
def test_held_out_noise_is_cut_into_windows(
    words: tuple[Config, Corpus], tmp_path: Path, seconds: float, windows: int
) -> None:
    noise = source(write_noise(tmp_path / "noise", seconds=seconds / NOISE_HELD_OUT), kind="noise")
    speech = asdict(words[0])["data"]["sources"][0]
    config = settings_for(tmp_path, [speech, noise], CLASSIFY)
    corpus = load_corpus(config)
    assert len(corpus.validation_noises) == 2 * windows
    window = config.model.head.window * config.model.mfcc.sample_rate
    for sound in corpus.validation_noises:
        assert len(sound) == pytest.approx(min(seconds, 1.0) * window, abs=1)


# Batches


def test_a_batch_holds_the_padded_recordings(sentences: tuple[Config, Corpus]) -> None:
    config, corpus = sentences
    plan = plan_epoch(config, corpus, 0)
    for items, batch in zip(plan, loader(Batches(plan, [], None), workers=0), strict=True):
        start = 0
        for row, item in enumerate(items):
            assert item.example
            expected = item.example.waveform()
            length = int(batch.input_lengths[row])
            assert np.array_equal(batch.inputs[row, :length].numpy(), expected)
            assert not batch.inputs[row, length:].any()
            count = int(batch.target_lengths[row])
            targets = tuple(batch.targets[start : start + count].tolist())
            assert targets == item.targets == item.example.targets
            start += count
        assert batch.weight == start == len(batch.targets)


@given(world=st.integers(1, 5))
@settings(deadline=None)
def test_processes_share_a_batch_among_themselves(
    world: int, sentences: tuple[Config, Corpus]
) -> None:
    config, corpus = sentences
    plan = [batch for batch in plan_epoch(config, corpus, 1) if len(batch) >= world]
    whole = Batches(plan, [], None)
    parts = [Batches(plan, [], None, rank, world) for rank in range(world)]
    for index in range(len(plan)):
        pieces = [part[index] for part in parts]
        rows = [
            (w[:n].tolist(), t)
            for p in pieces
            for w, n, t in zip(p.inputs, p.input_lengths, p.target_lengths, strict=True)
        ]
        expected = whole[index]
        assert {p.weight for p in pieces} == {expected.weight}
        assert sum(len(p.targets) for p in pieces) == expected.weight
        pairs = zip(expected.inputs, expected.input_lengths, expected.target_lengths, strict=True)
        wanted = [(w[:n].tolist(), t) for w, n, t in pairs]
        assert sorted(rows) == sorted(wanted)


def test_augmentation_depends_on_the_draw_alone(words: tuple[Config, Corpus]) -> None:
    config, corpus = words
    plan = plan_epoch(config, corpus, 0)
    augmenter = Augmenter(AugmentConfig(), corpus.noises, SAMPLE_RATE)
    batches = Batches(plan, corpus.noises, augmenter)
    every = list(loader(batches, workers=0))
    resumed = list(loader(batches, workers=2, first=1))
    assert len(resumed) == len(every) - 1
    for one, other in zip(every[1:], resumed, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.input_lengths, other.input_lengths)
    plain = list(loader(Batches(plan, corpus.noises, None), workers=0))
    assert not torch.equal(plain[0].inputs, every[0].inputs)


def test_others_talk_into_a_text_that_is_learned(sentences: tuple[Config, Corpus]) -> None:
    config, corpus = sentences
    silent, talking = (
        replace(config, augment=replace(config.augment, noise=1.0, voices=voices))
        for voices in (0.0, 1.0)
    )
    alone, talked_over, again = (
        epoch_batches(one, corpus, 0)[0].inputs for one in (silent, talking, talking)
    )
    assert torch.equal(talked_over, again) and not torch.equal(talked_over, alone)


def test_long_recordings_are_cut_where_there_is_sound(tmp_path: Path) -> None:
    sound = np.zeros(4 * SAMPLE_RATE)
    sound[2 * SAMPLE_RATE : 3 * SAMPLE_RATE] = 0.5
    sf.write(tmp_path / "long.wav", sound, SAMPLE_RATE)
    cache = PcmCache.build([tmp_path / "long.wav"], SAMPLE_RATE, tmp_path / "cache", "x")
    recording = Recording(
        path=tmp_path / "long.wav", text="", speaker="", source=0, validation=False
    )
    example = Example(recording, cache, 0, (0,))
    crops = [Item(example, (0,), SAMPLE_RATE, seed).waveform([]) for seed in range(100)]
    assert {len(crop) for crop in crops} == {SAMPLE_RATE}
    loud = np.mean([np.abs(crop).max() > 0.1 for crop in crops])
    assert loud > 0.75  # one crop alone would hit it half of the time


@pytest.mark.slow
@pytest.mark.skipif(not RECORDINGS, reason="ASR_DATA names no folder of recordings")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_keep_the_speakers_of_real_recordings_apart(path: Path) -> None:
    config = read_config(path, [])
    for number, fields in enumerate(config.data.sources):
        if fields.kind == "speech" and fields.path.startswith("$ASR_DATA"):
            found = sides(read_source(number, fields))
            assert all(len(side) == 1 for side in found.values())
            assert (fields.validation == 0) <= ({True} not in found.values())
