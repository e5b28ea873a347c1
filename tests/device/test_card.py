"""The model card: what is no card, or none that can be trusted, is one line."""

import json
from typing import Any

import pytest

from asr.card import METADATA_KEY, CardError, LanguageCard, ModelCard
from tests.support.tiny_models import HOP, KEYWORDS, LETTERS, card

SPEECH = json.loads(card("ctc", LETTERS).to_json())
TRIGGER = {"threshold": 0.5, "smoothing": 0.1, "refractory": 1.0}
ALARMS = {"budget": 0.5, "hours": 8.0, "count": 1, "at_most": 0.6, "thresholds": {"low": 0.8}}
WORDS = json.loads(
    card("classify", KEYWORDS, hop_length=HOP, window_length=8000, block_length=None).to_json()
)


def read(fields: Any) -> ModelCard:
    return ModelCard.from_metadata({METADATA_KEY: json.dumps(fields)}, "m.onnx")


@pytest.mark.parametrize("fields", [SPEECH, WORDS, WORDS | {"alarms": ALARMS}])
def test_card_survives_its_json(fields: dict[str, Any]) -> None:
    assert json.loads(read(fields).to_json()) == fields


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        (SPEECH, {"hop_length": 0}, "hop_length is 0, not 1 or more"),
        (SPEECH, {"sample_rate": 0}, "sample_rate is 0, not 1 or more"),
        (SPEECH, {"sample_rate": -16000}, "sample_rate is -16000, not 1 or more"),
        (SPEECH, {"sample_rate": "16000"}, 'sample_rate is "16000", not a whole number'),
        (SPEECH, {"sample_rate": True}, "sample_rate is true, not a whole number"),
        (SPEECH, {"look_ahead": "x"}, 'look_ahead is "x", not a whole number'),
        (SPEECH, {"look_ahead": -320}, "look_ahead is -320, not 0 or more"),
        (SPEECH, {"block_length": 640.0}, "block_length is 640.0, not a whole number"),
        (SPEECH, {"labels": "abcde"}, 'labels is "abcde", not a list'),
        (SPEECH, {"labels": [1, 2, 3, 4, 5]}, "an entry of labels is 1, not a text"),
        (SPEECH, {"labels": None}, "labels is null, not a list"),
        (SPEECH, {"labels": []}, "labels must be a non-empty list"),
        (SPEECH, {"blank": "0"}, 'blank is "0", not a whole number'),
        (SPEECH, {"blank": 5}, "blank index 5 is outside"),
        (SPEECH, {"name": 5}, "name is 5, not a text"),
        (SPEECH, {"precision": "fp8"}, 'precision "fp8" is none of fp32, int8'),
        (SPEECH, {"task": "sing"}, 'task "sing" is none of ctc, classify'),
        (SPEECH, {"training_data": [5]}, "an entry of training_data is 5, not an object"),
        (SPEECH, {"calibration": {"scale": 1}}, "calibration lacks offset, onset"),
        (SPEECH, {"calibration": {"scale": "a", "offset": 0, "onset": 0}}, 'scale is "a"'),
        (SPEECH, {"calibration": {"scale": float("nan"), "offset": 0, "onset": 0}}, "NaN"),
        (WORDS, {"window_length": -5}, "window_length is -5, not 1 or more"),
        (WORDS, {"background": None}, "background is null, not a list"),
        (WORDS, {"trigger": {"threshold": 0.5, "smoothing": 0.1}}, "trigger lacks refractory"),
        (WORDS, {"trigger": TRIGGER | {"threshold": "0.5"}}, 'threshold is "0.5", not a number'),
        (WORDS, {"trigger": TRIGGER | {"refractory": float("inf")}}, "Infinity is no number"),
        (WORDS, {"trigger": TRIGGER | {"smoothing": -0.1}}, "0 or more seconds"),
        (WORDS, {"alarms": ALARMS | {"budget": 0.0}}, "alarms need a budget and hours above 0"),
        (WORDS, {"alarms": ALARMS | {"thresholds": {"low": "x"}}}, "threshold x of 'low' is not"),
        (WORDS, {"alarms": ALARMS | {"thresholds": {"mid": 0.5}}}, "'mid', which is no label"),
        (WORDS, {"lm_calibration": SPEECH["calibration"]}, "lm_calibration is of a ctc model"),
        (WORDS, {"surprise": 1}, "has unknown fields surprise"),
    ],
)
def test_card_out_of_type_or_range_is_one_line(
    fields: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CardError) as error:
        read(fields | changes)
    assert message in str(error.value)
    assert str(error.value).startswith("m.onnx: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(SPEECH.keys() - {"lm_calibration", "phonemes"}))
def test_card_without_a_field_is_refused(name: str) -> None:
    with pytest.raises(CardError, match=r"m\.onnx"):
        read({key: value for key, value in SPEECH.items() if key != name})


def test_what_was_not_measured_may_be_left_out() -> None:
    assert read({k: v for k, v in SPEECH.items() if k != "lm_calibration"}) == read(SPEECH)
    own = {"scale": 0.5, "offset": -1.0, "onset": 0.0}
    assert vars(read(SPEECH | {"lm_calibration": own}).lm_calibration or 0) == own


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "[" * 100_000])
def test_what_is_no_json_object_is_no_card(text: str) -> None:
    with pytest.raises(CardError, match=r"m\.onnx: its model card is not"):
        LanguageCard.from_metadata({METADATA_KEY: text}, "m.onnx")
