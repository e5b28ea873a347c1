"""Whatever stands in a model card: it is a whole card, or refused by an error of our own."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.card import METADATA_KEY, CardError, ModelCard
from tests.support.tiny_models import KEYWORDS, LETTERS, card

CARDS = {"ctc": card("ctc", LETTERS), "classify": card("classify", KEYWORDS, window_length=1280)}

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(tree: Any, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """All places of a JSON document, as the keys that lead there."""
    items = (
        tree.items() if isinstance(tree, dict) else enumerate(tree if type(tree) is list else ())
    )
    return [above, *(place for key, inner in items for place in places(inner, (*above, key)))]


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The JSON of a card with a few values replaced, or a part cut out."""
    whole = CARDS[draw(st.sampled_from([*CARDS]))].to_json()
    tree = {"card": json.loads(whole)}
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(places(tree)[1:]))
        inner: Any = tree
        for key in above:
            inner = inner[key]
        inner[last] = draw(values)
    text = json.dumps(tree["card"])
    start = draw(st.integers(0, len(text)) | st.just(len(text)))
    return text[:start] + text[start + draw(st.integers(0, 5)) :]


@settings(max_examples=150, deadline=None)
@given(damaged())
@example("[" * 100_000)
@example("9" * 5000)
@example("")
def test_any_card_is_whole_or_refused(text: str) -> None:
    try:
        read = ModelCard.from_metadata({METADATA_KEY: text}, "x.onnx")
    except CardError as error:
        assert str(error).startswith("x.onnx: ")
    else:
        again = ModelCard.from_metadata({METADATA_KEY: read.to_json()}, "x.onnx")
        assert again == read
        assert read.hop_length > 0 and read.sample_rate > 0 and read.look_ahead >= 0
        assert all(isinstance(label, str) for label in read.labels)


@pytest.mark.parametrize("task", CARDS)
def test_a_whole_card_is_read(task: str) -> None:
    metadata = {METADATA_KEY: CARDS[task].to_json()}
    assert ModelCard.from_metadata(metadata, "x.onnx") == CARDS[task]
