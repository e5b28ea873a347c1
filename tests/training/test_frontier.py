"""Which latencies `asr frontier` compares; what it measures at them is in test_end_to_end."""

import pytest

from asr.studies.frontier import WHOLE, latencies
from tests.support.tiny_runs import HEADS, random_model


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ({"block": 6, "look_ahead": 6, "layers": 1}, [0, 90, 150, 180, 330, 630]),
        ({"block": 6, "look_ahead": 5, "layers": 2}, [0, 60, 180, 300, 660]),
        ({"layers": 1}, [0, 90, 150, 330, 630]),
    ],
)
def test_every_look_ahead_and_that_of_the_run_come_once(encoder: dict, expected: list) -> None:
    _, model = random_model(encoder, HEADS["ctc"])
    *blocks, whole = latencies(model)
    frame = 1000 * model.hop_length / model.config.mfcc.sample_rate  # ms
    look_aheads = [latency.look_ahead * frame * encoder["layers"] for latency in blocks]
    assert look_aheads == pytest.approx(expected) and whole == WHOLE
    assert all(latency.block >= latency.look_ahead for latency in blocks)


def test_a_run_that_cannot_look_ahead_has_only_its_own_latency() -> None:
    _, model = random_model({"kind": "lstm", "block": 2}, HEADS["ctc"])
    assert latencies(model) == [model.config.encoder.latency]
