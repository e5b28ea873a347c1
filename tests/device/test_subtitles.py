"""Subtitles and the other formats: limits that hold for any speech, and files others can read."""

import html
import io
import itertools
import json
import re
from typing import Any

import pytest
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from asr.events import Alternative, Utterance, Word
from asr.recognise import Transcript
from asr.transcripts.formats import Format, document, pieces
from asr.transcripts.subtitles import GAP, LINE_LENGTH, LONGEST, SHORTEST, Cue, cues, srt, vtt


def utterance(*words: tuple[str, float, float]) -> Utterance:
    spoken = tuple(Word(text, start, end) for text, start, end in words)
    text = " ".join(word.text for word in spoken)
    return Utterance(text, spoken[0].start, spoken[-1].end, spoken)


def evenly(text: str, start: float = 0.0, pace: float = 0.4) -> Utterance:
    """`text`, a word every `pace` seconds, the last tenth of it a pause."""
    times = [start + pace * number for number in range(len(text.split()))]
    return utterance(*((w, t, t + 0.9 * pace) for w, t in zip(text.split(), times, strict=True)))


@st.composite
def speech(draw: st.DrawFn) -> list[Utterance]:
    """Utterances as a decoder gives them: words in order, a pause of 0.8 s or more between."""
    now, utterances = 0.0, []
    letters = st.text("abcdefgh&<>'", min_size=1, max_size=draw(st.sampled_from([4, 14, 100])))
    for _ in range(draw(st.integers(0, 6))):
        words = []
        for text in draw(st.lists(letters, min_size=1, max_size=40)):
            start = now + draw(st.sampled_from([0.0, 0.03, 0.1, 0.4]))
            now = start + draw(st.sampled_from([0.03, 0.2, 0.5, 1.1, 9.0]))
            words.append((text, start, now))
        utterances.append(utterance(*words))
        now += draw(st.sampled_from([0.8, 1.5, 4.0]))
    return utterances


@given(speech())
def test_cues_hold_every_word_within_the_limits(utterances: list[Utterance]) -> None:
    shown = list(cues(utterances))
    for cue in shown:
        assert 1 <= len(cue.lines) <= 2
        assert all(1 <= len(line) <= LINE_LENGTH for line in cue.lines)
        assert SHORTEST <= cue.end - cue.start <= LONGEST
    for cue, following in itertools.pairwise(shown):
        assert following.start - cue.end >= GAP
    said = "".join(word.text for segment in utterances for word in segment.words)
    assert "".join("".join(cue.lines) for cue in shown).replace(" ", "") == said


@given(speech())
def test_words_of_ordinary_length_are_never_broken(utterances: list[Utterance]) -> None:
    words = [word.text for segment in utterances for word in segment.words]
    if all(len(word) <= LINE_LENGTH for word in words):
        assert " ".join(" ".join(cue.lines) for cue in cues(utterances)).split() == words


def test_an_utterance_that_fits_is_one_cue_at_its_time() -> None:
    assert list(cues([evenly("go left now", 2.0)])) == [Cue(("go left now",), 2000, 3160)]


def test_two_lines_are_of_like_length() -> None:
    (cue,) = cues([evenly("the quick brown fox jumps over the lazy dog again", pace=0.5)])
    assert cue.lines == ("the quick brown fox jumps", "over the lazy dog again")


def test_long_speech_is_cut_where_the_pause_is_longest() -> None:
    first, second = evenly("a1 a2 a3 a4 a5 a6 a7", 0.0), evenly("b1 b2 b3 b4 b5 b6 b7 b8 b9", 3.1)
    both = Utterance("", 0.0, 6.66, first.words + second.words)
    late = Utterance("", 0.0, 7.66, (*both.words, Word("b10", 7.2, 7.66)))
    assert [" ".join(cue.lines)[:2] for cue in cues([both])] == ["a1"]
    assert [" ".join(cue.lines)[:2] for cue in cues([late])] == ["a1", "b1"]


def test_short_cues_stand_a_second_and_make_way_or_join() -> None:
    alone = list(cues([evenly("yes", 1.0), evenly("no", 5.0)]))
    assert [(cue.start, cue.end) for cue in alone] == [(1000, 2000), (5000, 6000)]
    (joined,) = cues([utterance(("yes", 1.0, 1.1)), utterance(("no", 1.95, 2.2))])
    assert joined == Cue(("yes no",), 1000, 2200)
    full = evenly(f"{'x' * 40} {'y' * 40}", 1.95, pace=3.0)
    hurried = list(cues([utterance(("yes", 1.0, 1.1)), full]))
    assert [(cue.start, cue.end) for cue in hurried] == [(1000, 2000), (2080, 7650)]


def test_cues_come_as_soon_as_the_next_is_known() -> None:
    def spoken() -> Any:
        for number in range(100):
            taken.append(number)
            yield evenly("some words", 3.0 * number)

    taken: list[int] = []
    blocks = srt(spoken())
    next(blocks)
    assert len(taken) <= 3


@given(speech())
def test_an_independent_parser_reads_the_same_cues(utterances: list[Utterance]) -> None:
    expected = [(cue.start, cue.end, "\n".join(cue.lines)) for cue in cues(utterances)]
    for name, text in (("srt", "".join(srt(utterances))), ("vtt", "".join(vtt(utterances)))):
        if not expected and name == "srt":
            assert text == ""
            continue
        parsed = webvtt.from_buffer(io.StringIO(text), format=name)
        plain = html.unescape if name == "vtt" else str
        read = [(_parsed(c.start), _parsed(c.end), plain(c.raw_text)) for c in parsed]
        assert read == expected


def _parsed(clock: str) -> int:
    hours, minutes, seconds, fraction = map(int, re.split("[:.]", clock))
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + fraction


def test_srt_to_the_letter() -> None:
    text = "".join(srt([evenly("go left", 3599.5), evenly("a <b> & c", 360_000.25)]))
    assert text == (
        "1\n00:59:59,500 --> 01:00:00,500\ngo left\n\n"
        "2\n100:00:00,250 --> 100:00:01,810\na <b> & c\n\n"
    )


def test_vtt_to_the_letter() -> None:
    text = "".join(vtt([evenly("a --> <b> & c", 1.0)]))
    assert text == ("WEBVTT\n\n00:00:01.000 --> 00:00:02.960\na --&gt; &lt;b&gt; &amp; c\n\n")
    assert "".join(vtt([])) == "WEBVTT\n\n"


def test_ctm_has_a_line_of_six_fields_for_each_word() -> None:
    segments = (Utterance("turn on it", 0.5, 2.0, (Word("turn on", 0.5, 1.25, 0.75),)),)
    text = document(Transcript("turn on", segments, 3.0), "calls/my talk.flac", Format.ctm)
    assert text == "my_talk 1 0.500 0.750 turn_on 0.7500\n"
    assert document(Transcript("", (), 3.0), "a.wav", Format.ctm) == ""


def test_json_follows_its_schema() -> None:
    words = (Word("yes", 1.00049, 1.5, 0.98764), Word("größe", 1.6, 2.0, 1.0))
    n_best = (Alternative("yes größe", -1.23456), Alternative("yes", -4.0))
    segments = (Utterance("yes größe", 1.00049, 2.0, words, n_best),)
    line = document(Transcript("yes größe", segments, 2.34567), "a/b.wav", Format.json)
    assert line.endswith("}\n") and line.count("\n") == 1 and "größe" in line
    segment = {
        "text": "yes größe",
        "start": 1.0,
        "end": 2.0,
        "words": [
            {"text": "yes", "start": 1.0, "end": 1.5, "confidence": 0.9876},
            {"text": "größe", "start": 1.6, "end": 2.0, "confidence": 1.0},
        ],
        "n_best": [{"text": "yes größe", "score": -1.2346}, {"text": "yes", "score": -4.0}],
    }
    assert json.loads(line) == {
        "schema": 1,
        "file": "a/b.wav",
        "text": "yes größe",
        "duration": 2.346,
        "segments": [segment],
    }
    (piece,) = pieces(segments, "-", Format.json)
    assert json.loads(piece) == {"schema": 1, "file": "-"} | segment


@pytest.mark.parametrize("format", Format)
def test_silence_is_an_empty_transcript_in_every_format(format: Format) -> None:
    text = document(Transcript("", (), 1.0), "a.wav", format)
    empty = {Format.txt: "\n", Format.vtt: "WEBVTT\n\n", Format.srt: "", Format.ctm: ""}
    assert text == empty.get(format, text)
    assert list(pieces((), "-", format)) == (["WEBVTT\n\n"] if format is Format.vtt else [])
