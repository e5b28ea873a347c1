"""Typed keywords against the definition: every path through a keyword, from every first frame."""

import itertools
import math
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.card import SPOTTING, Alarms, Spotting
from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.keywords.typed import (
    LEAST_SCORE,
    Arbiter,
    Keyword,
    KeywordSpotter,
    Peak,
    PeakFinder,
    SpotOptions,
    Target,
    ambiguities,
    parse_keywords,
    targets,
    unpronounced,
)
from asr.decode.lm.compact import write_compact
from asr.events import Detection, Event, NearMiss
from asr.model import Model, ModelError, load
from asr.phonemes import SOUNDS
from asr.recognise import spot
from asr.runtime.scorers import Scores
from asr.stream import Stream
from tests.support import tiny_models
from tests.support.ctc_by_definition import scores_of
from tests.support.decoding import scored
from tests.support.language_models import built, pronounced
from tests.support.tiny_models import SAMPLE_RATE, card, tones

HOP_OF_PEAK = round(SPOTTING.confirm * SAMPLE_RATE)  # a peak stands for one frame on either side
CARD = card("ctc", ("<blank>", " ", "a", "b"), hop_length=HOP_OF_PEAK, block_length=HOP_OF_PEAK)
ALPHABET = Alphabet.of(CARD)
TEXTS = ("a", "ab", "aa", "b a", "abb", "bab")
seeds = st.integers(0, 2**32 - 1)


def finder(*texts: str) -> PeakFinder:
    return PeakFinder(CARD, [Keyword(text) for text in texts], SPOTTING)


def best_path(
    log_probs: np.ndarray, text: str, end: int, labels: str = "- ab"
) -> tuple[float, int]:
    """The score of the best path that ends with the frame before `end`, and its first frame.

    labels: those that matter, first the blank and the separator.
    """
    blank, separator, *letters = (log_probs - log_probs.max(axis=1, keepdims=True)).T.astype(float)
    linger = SPOTTING.linger * ALPHABET.frame_seconds
    names = labels.replace(" ", "")
    costs = dict(zip(names, [np.maximum(blank, separator) - linger, *letters], strict=True))
    best = (-math.inf, 0)
    for start in range(end):
        for path in itertools.product(names, repeat=end - start):
            read = "".join(label for label, _ in itertools.groupby(path)).replace("-", "")
            if read == text and "-" not in (path[0], path[-1]):
                cost = sum(costs[label][start + k] for k, label in enumerate(path))
                best = max(best, (cost, -start))
    return math.exp(best[0] / len(text)), -best[1]


@given(seeds, st.integers(0, 6), st.sampled_from(TEXTS))
def test_peaks_are_those_of_all_paths(seed: int, frames: int, text: str) -> None:
    log_probs = scores_of(seed, frames)
    curve = [best_path(log_probs, text.replace(" ", ""), end + 1) for end in range(frames)]
    scores = [0.0, *(score for score, _ in curve), 0.0]
    expected = [
        (scores[end], curve[end - 1][1], end)
        for end in range(1, frames + 1)
        if scores[end - 1] < scores[end] >= max(scores[end + 1], LEAST_SCORE)
    ]
    search = finder(text)
    found = [*search.push(scored(log_probs)), *search.finish()]
    assert [(peak.start, peak.end) for peak in found] == [(s, e) for _, s, e in expected]
    assert [peak.score for peak in found] == pytest.approx([score for score, _, _ in expected])


@settings(max_examples=30)
@given(seeds, st.integers(1, 5), st.integers(0, 5), st.integers(1, 3))
def test_letters_and_phonemes_have_to_agree(seed: int, frames: int, cut: int, confirm: int) -> None:
    """The score is the geometric mean of the letters' and of the best pronunciation's of late."""
    reads = replace(CARD, phonemes=SOUNDS)
    letters, ways = scores_of(seed, frames), ("kA", "k")
    used = [0, 1, SOUNDS.index("k"), SOUNDS.index("A")]
    phonemes = np.full((frames, len(SOUNDS)), -50.0, np.float32)
    phonemes[:, used] = scores_of(seed + 1, frames)
    spelt = [best_path(letters, "ab", end + 1)[0] for end in range(frames)]
    said = [
        max(best_path(phonemes[:, used], way, end + 1, "- kA")[0] for way in ways)
        for end in range(frames)
    ]
    late = [max(said[max(0, end + 1 - confirm) : end + 1]) for end in range(frames)]
    rules = replace(SPOTTING, confirm=confirm * SPOTTING.confirm)
    search = PeakFinder(reads, [Keyword("b"), Keyword("ab", None, ways)], rules)
    parts = (slice(cut), slice(cut, None))
    runs = [Scores(0, letters[part], 0, phonemes[part]) for part in parts]
    for _ in range(2):
        found = np.array([scores for run in runs for scores, _ in search.score(run)])
        assert found[:, 1] == pytest.approx(np.sqrt(np.multiply(spelt, late)))
        alone = [best_path(letters, "b", end + 1)[0] for end in range(frames)]
        assert found[:, 0] == pytest.approx(alone)
        search.reset()


def test_the_dictionary_of_the_language_model_says_how_keywords_sound(tmp_path: Path) -> None:
    said = {"two": "T UW", "too": "T UW", "the": "DH AH", "ships": "SH IH P S"}
    model = built([[*said, "whale"]], 1)
    write_compact(pronounced(model, said), tmp_path / "words.lm")
    keywords = parse_keywords("the ships, whale, two whale, two=0.5, ships (SH IH P) (S IH P)")
    found = SpotOptions(keywords=keywords).beside(tmp_path / "words.lm").keywords
    assert [keyword.said for keyword in found] == [("DASIps",), (), (), ("tu",), ("SIp", "sIp")]
    assert [keyword.threshold for keyword in found] == [None, None, None, 0.5, None]
    (warning,) = unpronounced(found)
    assert "'whale', 'two whale'; write" in warning and not unpronounced(found[3:])
    assert SpotOptions(keywords=keywords).beside(None).keywords == keywords


@settings(max_examples=20)
@given(seeds, st.lists(st.integers(0, 40), max_size=4))
def test_pieces_and_company_change_nothing(seed: int, cuts: list[int]) -> None:
    log_probs = scores_of(seed, 40)
    together = finder(*TEXTS)
    for _ in range(2):
        parts = np.split(log_probs, sorted(cuts))
        found = [
            *(peak for part in parts for peak in together.push(scored(part))),
            *together.finish(),
        ]
        for number, text in enumerate(TEXTS):
            alone = finder(text)
            expected = [*alone.push(scored(log_probs)), *alone.finish()]
            own = [peak._replace(keyword=0) for peak in found if peak.keyword == number]
            assert own == expected
        together.reset()


THREE = tuple(Target(text, threshold) for text, threshold in (("x", 0.5), ("y", 0.5), ("z", 0.9)))
CONFIRM, REFRACTORY = 3, 10


def judge(*peaks: tuple[int, float, int, int]) -> list[str]:
    arbiter = Arbiter(THREE, REFRACTORY, CONFIRM)
    return [reason for _, reason in arbiter.push([Peak(*peak) for peak in peaks], math.inf)]


def test_of_overlapping_keywords_the_better_is_reported() -> None:
    assert judge((0, 0.6, 0, 10), (1, 0.7, 4, 12)) == ["lost against 'y'", ""]
    assert judge((0, 0.7, 0, 10), (1, 0.6, 4, 12)) == ["", "lost against 'x'"]
    assert judge((0, 0.6, 5, 10), (1, 0.6, 0, 10)) == ["lost against 'y'", ""]  # the longer
    below = "below the threshold of 90%"
    assert judge((0, 0.6, 0, 10), (2, 0.8, 4, 12)) == ["", below]
    assert judge((0, 0.6, 0, 10), (1, 0.7, 10, 13)) == ["", "in the refractory period of 'x'"]
    assert judge((0, 0.6, 0, 10), (1, 1.0, 10, 13)) == ["", "in the refractory period of 'x'"]
    assert judge((0, 0.6, 0, 10), (1, 0.7, 15, 20)) == ["", ""]
    # What comes too late to be known in time does not count, however good it is.
    late = 10 + CONFIRM + 1
    assert judge((0, 0.6, 0, 10), (1, 0.9, 4, late)) == ["", "lost against 'x'"]


def test_a_word_that_fits_at_two_places_is_reported_once() -> None:
    assert judge((0, 0.6, 0, 10), (0, 0.7, 0, 12)) == [""]
    assert judge((0, 0.7, 0, 10), (0, 0.3, 4, 12)) == [""]


peaks = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from([0.2, 0.5, 0.6, 0.9]), st.integers(1, 9), st.integers(1)
    ),
    max_size=12,
)


@given(peaks.map(lambda drawn: sorted((k, s, e % 60 - n, e % 60) for k, s, n, e in drawn)))
def test_judgement_does_not_wait_for_more_than_it_says(drawn: list[tuple[int, float, int, int]]):
    ordered = sorted((Peak(*peak) for peak in drawn), key=lambda peak: peak.end)
    whole = Arbiter(THREE, REFRACTORY, CONFIRM).push(ordered, math.inf)
    arbiter = Arbiter(THREE, REFRACTORY, CONFIRM)
    live = []
    for frames in range(80):
        arrived = [peak for peak in ordered if peak.end + CONFIRM == frames]
        verdicts = arbiter.push(arrived, frames)
        assert all(verdict.peak.end + 2 * CONFIRM == frames for verdict in verdicts)
        live += verdicts
    assert live == whole
    fired = [peak for peak, reason in whole if not reason]
    for before, after in itertools.pairwise(fired):
        assert after.start >= before.end and after.end >= before.end + REFRACTORY


@pytest.fixture(scope="module")
def model(speech_model: Path) -> Model:
    return load(speech_model)


def spotted(model: Model, keywords: str, *labels: str) -> list[tuple[str, float, float]]:
    options = SpotOptions(keywords=parse_keywords(keywords))
    return [
        (event.label, event.start or 0.0, event.end or 0.0)
        for event in spot(model, tones(*labels), options=options)
    ]


def test_keywords_are_found_where_they_are_said(model: Model) -> None:
    found = spotted(model, "ab, ca, bb", "a", "b", " ", "c", "a")
    assert [label for label, _, _ in found] == ["ab", "ca"]
    # Tones of 0.2 s after pauses of 0.1 s; the last may be over as soon as it began.
    for (_, start, end), begin in zip(found, (0.1, 1.0), strict=True):
        assert begin <= start <= begin + 0.2 and begin + 0.3 <= end <= begin + 0.5


def test_a_label_that_repeats_needs_a_pause(model: Model) -> None:
    assert spotted(model, "aa", "a") == []
    assert len(spotted(model, "aa", "a", "a")) == 1


def test_separators_make_no_sound(model: Model) -> None:
    for said in (("a", "b"), ("a", " ", "b")):
        for keyword in ("ab", "a b"):
            assert [label for label, _, _ in spotted(model, f"{keyword}=0.6", *said)] == [keyword]


def test_letters_far_apart_are_no_word(model: Model) -> None:
    options = SpotOptions(keywords=parse_keywords("ab"))
    near, far = (
        np.concatenate([tones("a"), np.zeros(round(gap * SAMPLE_RATE), "f4"), tones("b")])
        for gap in (0.05, 3.0)
    )
    assert len(spot(model, near, options=options)) == 1
    assert spot(model, far, options=options) == []


def test_a_detection_comes_after_the_peak_and_soon(model: Model) -> None:
    options = SpotOptions(keywords=parse_keywords("abc"))
    (found,) = spot(model, tones("a", "b", "c", pause=0.05), options=options)
    assert isinstance(found, Detection) and found.start is not None and found.end is not None
    delay = found.time - found.end
    block = tiny_models.BLOCK / SAMPLE_RATE
    latest = 2 * SPOTTING.confirm + tiny_models.LOOK_AHEAD / SAMPLE_RATE + block
    # The sound ends before the peak is certain: the end of the audio settles it.
    assert 0.0 <= delay <= latest
    silence = np.zeros(SAMPLE_RATE, np.float32)
    (later,) = spot(
        model, np.concatenate([tones("a", "b", "c", pause=0.05), silence]), options=options
    )
    assert later.time - found.end == pytest.approx(latest, abs=block)
    assert (later.start, later.end) == (found.start, found.end)


def test_a_stream_in_pieces_tells_the_same_and_starts_anew(model: Model) -> None:
    options = SpotOptions(keywords=parse_keywords("ab, ba=0.9, ac"), near_misses=True)
    audio = tones("a", "b", "a", " ", "c", "b", "a", "c", pause=0.05)
    whole = spot(model, audio, options=options)
    assert {type(event) for event in whole} == {Detection, NearMiss}
    stream = Stream(model, options)
    for size in (333, 4567, 1):
        pieces = np.split(audio, range(size, len(audio), size))
        events = [event for piece in pieces for event in stream.push(piece)]
        assert [*events, *stream.finish()] == whole
        stream.reset()


def test_near_misses_say_why(model: Model) -> None:
    options = SpotOptions(
        keywords=parse_keywords("abc, bc, ca, abb, cc"), refractory=1.0, near_misses=True
    )
    events = spot(model, tones("a", "b", "c", "a", pause=0.05), options=options)
    assert [event.label for event in events if isinstance(event, Detection)] == ["abc"]
    reasons = {event.label: event.reason for event in events if isinstance(event, NearMiss)}
    assert reasons == {
        "bc": "lost against 'abc'",
        "ca": "lost against 'abc'",
    }


def test_what_is_far_from_a_keyword_is_no_near_miss() -> None:
    keywords = parse_keywords("ab, ba=0.9, bb=0.3")
    spotter = KeywordSpotter(CARD, SpotOptions(keywords=keywords, near_misses=True))
    found = spotter.push(scored(scores_of(0, 300, sharpness=4.0))) + spotter.finish()
    events = [event for event in found if isinstance(event, Detection | NearMiss)]
    lowest = {
        keyword.text: min(e.score / keyword.threshold for e in events if e.label == keyword.text)
        for keyword in targets(keywords, CARD)
    }
    assert all(0.5 <= share < 0.7 for share in lowest.values())


def test_what_a_spotter_keeps_does_not_grow() -> None:
    spotter = KeywordSpotter(CARD, SpotOptions(keywords=parse_keywords("ab, ba, abab")))
    sizes: list[int] = []
    for seed in range(60):
        spotter.push(scored(scores_of(seed, 100, sharpness=4.0)))
        sizes.append(len(pickle.dumps(spotter)))
    assert max(sizes[30:]) <= max(sizes[:30]) + 100


def test_keywords_are_read_with_their_thresholds() -> None:
    assert parse_keywords("Operator,  wild  Fire = 0.8, stop:0.5,") == (
        Keyword("operator"),
        Keyword("wild fire", 0.8),
        Keyword("stop", 0.5),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a keyword is missing; give them as in"),
        ("ab, =0.5", "a keyword is missing"),
        ("ab=high", "keyword 'ab': threshold 'high' is no number; give 'ab=0.6'"),
        ("ab=0", r"threshold 0 is not in \(0, 1\]"),
        ("ab=1.5", r"threshold 1.5 is not in \(0, 1\]"),
        ("a b, ab", "keyword 'ab' is there twice"),
        ("ab, xaß", "the model cannot say 'x', 'ß' in 'xaß'; respell it"),
    ],
)
def test_keywords_that_cannot_be_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(DecodeError, match=complaint):
        KeywordSpotter(CARD, SpotOptions(keywords=parse_keywords(text)))


@pytest.mark.parametrize("name", ["refractory", "confirm", "linger"])
def test_rules_that_make_no_sense_raise(name: str) -> None:
    with pytest.raises(DecodeError, match=f"{name} -1 makes no sense"):
        SpotOptions(keywords=parse_keywords("a"), **{name: -1.0})  # pyright: ignore[reportArgumentType]


def test_a_typed_keyword_can_have_a_threshold_of_its_own_in_the_card() -> None:
    alarms = Alarms(budget=1.0, hours=1.0, count=0, at_most=3.0, thresholds={"ab": 0.9})
    keywords = targets(parse_keywords("ab, ba, bb=0.4"), replace(CARD, alarms=alarms))
    thresholds = [keyword.threshold for keyword in keywords]
    assert thresholds == [0.9, SPOTTING.threshold, 0.4]


def test_rules_of_the_options_take_the_place_of_those_of_the_card() -> None:
    keywords = parse_keywords("ab, ba")
    scores = scored(scores_of(3, 400, sharpness=4.0))

    def detections(rules: Spotting, **given: float) -> list[Event]:
        model_card = replace(CARD, spotting=rules)
        options = SpotOptions(keywords=keywords, **given)  # pyright: ignore[reportArgumentType]
        spotter = KeywordSpotter(model_card, options)
        return spotter.push(scores) + spotter.finish()

    others = Spotting(threshold=0.4, refractory=0.1, confirm=0.05, linger=0.5)
    given = {"refractory": 0.1, "confirm": 0.05, "linger": 0.5}
    low = replace(SPOTTING, threshold=0.4)
    assert detections(others) == detections(low, **given) != detections(low)


@pytest.mark.parametrize(
    ("texts", "warnings"),
    [
        (("operator", "wild fire"), []),
        (("on", "operator"), ["'on' has fewer than 4 letters"]),
        (("turn on", "turn on the light"), ["'turn on' is part of 'turn on the light'"]),
        (("switch off", "switch on"), ["'switch on' and 'switch off' sound alike"]),
    ],
)
def test_keywords_that_will_be_mistaken_are_named(
    texts: Sequence[str], warnings: Sequence[str]
) -> None:
    found = ambiguities([Keyword(text) for text in texts])
    assert len(found) == len(warnings)
    assert all(part in whole for part, whole in zip(warnings, found, strict=True))


def test_models_and_keywords_that_do_not_go_together(keyword_model: Path, model: Model) -> None:
    trained = load(keyword_model)
    with pytest.raises(DecodeError, match="has not learnt 'operator', only low, high"):
        spot(trained, tones("low"), options=SpotOptions(keywords=(Keyword("operator"),)))
    with pytest.raises(DecodeError, match="has not learnt '_silence_'"):
        spot(trained, tones("low"), options=SpotOptions(keywords=(Keyword("_silence_"),)))
    with pytest.raises(ModelError, match="type some with --keywords"):
        spot(model, tones("a"))
