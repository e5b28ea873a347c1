"""The hash of the weights: read without the onnx package, checked when a model is opened."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import asr
from asr.runtime.weights import WeightsError, weights_sha256


def by_onnx(proto: onnx.ModelProto) -> str:
    digest = hashlib.sha256()
    for item in sorted(proto.graph.initializer, key=lambda item: item.name):
        array = numpy_helper.to_array(item)
        digest.update(f"{item.name}{array.shape}{array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()


def test_hash_is_that_of_the_onnx_package_for_every_storage() -> None:
    tensors = [
        numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "raw"),
        numpy_helper.from_array(np.array(7, np.int64), "scalar"),
        helper.make_tensor("floats", TensorProto.FLOAT, [2], [0.5, -2.0]),
        helper.make_tensor("integers", TensorProto.INT64, [3], [-1, 0, 2**40]),
        helper.make_tensor("bytes", TensorProto.INT8, [2], [-128, 127]),
        helper.make_tensor("flags", TensorProto.BOOL, [2], [True, False]),
    ]
    proto = helper.make_model(helper.make_graph([], "g", [], [], tensors))
    assert weights_sha256(proto.SerializeToString()) == by_onnx(proto)


@pytest.mark.parametrize("name", asr.bundled_models())
def test_bundled_models_carry_the_hash_of_their_weights(name: str) -> None:
    model = asr.load(name)
    assert model.card.weights_sha256 == by_onnx(onnx.load(model.path))


def test_changed_weights_raise(keyword_model: Path, tmp_path: Path) -> None:
    proto = onnx.load(keyword_model)
    item = next(i for i in proto.graph.initializer if numpy_helper.to_array(i).dtype == np.float32)
    item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) + 1.0, item.name))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(asr.CardError, match=r"m\.onnx: its weights are not those"):
        asr.load(tmp_path / "m.onnx")


@given(st.binary(max_size=200))
def test_any_bytes_are_hashed_or_refused(content: bytes) -> None:
    try:
        assert len(weights_sha256(content)) == 64
    except WeightsError as error:
        assert "\n" not in str(error)


def test_a_provider_or_number_of_threads_that_is_not_there_raises(keyword_model: Path) -> None:
    with pytest.raises(asr.ModelError, match=r"Quantum: is no provider .* CPUExecutionProvider"):
        asr.load(keyword_model, provider="Quantum")
    with pytest.raises(asr.ModelError, match="0 threads run nothing"):
        asr.load(keyword_model, threads=0)
    assert asr.load(keyword_model, threads=2).card.task == "classify"
