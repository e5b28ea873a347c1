"""Windows equal those of torch, with a gradient or none, and in a graph of any length."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from features.windows import windows


def unfolded(x: Tensor, length: int, hop: int) -> Tensor:
    return x.unfold(1, length, hop).movedim(-1, 2)


@given(
    length=st.integers(1, 20),
    hop=st.integers(1, 20),
    extra=st.integers(0, 50),
    others=st.sampled_from([(), (3,), (2, 2)]),
    batch=st.integers(1, 3),
)
def test_windows_and_their_gradients_equal_those_of_torch(
    length: int, hop: int, extra: int, others: tuple[int, ...], batch: int
) -> None:
    x = torch.randn(batch, length + extra, *others, requires_grad=True)
    expected, found = unfolded(x, length, hop), windows(x, length, hop)
    assert torch.equal(found, expected)
    assert torch.equal(windows(x.detach(), length, hop), expected)
    weights = torch.randn_like(expected)
    (grown,), (due,) = (torch.autograd.grad((y * weights).sum(), x) for y in (found, expected))
    torch.testing.assert_close(grown, due)


@pytest.mark.parametrize(
    ("length", "hop"),
    [
        (400, 160),
        *(pytest.param(*w, marks=pytest.mark.slow) for w in [(9, 6), (6, 6), (40, 6), (3, 1)]),
    ],
)
def test_a_graph_takes_any_batch_and_length_and_gathers_nothing(length: int, hop: int) -> None:
    class Windows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return windows(x, length, hop)

    batch, time = (torch.export.Dim(name, min=1, max=4096) for name in ("batch", "time"))
    program = torch.onnx.export(
        Windows(),
        (torch.zeros(2, length + 7 * hop + 1, 3),),
        dynamic_shapes=({0: batch, 1: time},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    assert not {"Gather", "GatherElements"} & {n.op_type for n in program.model_proto.graph.node}
    session = ort.InferenceSession(program.model_proto.SerializeToString())
    for batch in (1, 3):
        for extra in (0, 1, hop - 1, hop, hop + 1, 5 * hop + 1):
            x = torch.randn(batch, length + extra, 3)
            (found,) = session.run(None, {"x": x.numpy()})
            np.testing.assert_array_equal(found, unfolded(x, length, hop))
