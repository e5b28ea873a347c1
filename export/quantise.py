"""int8 weights for LSTMs and linear layers, if the model recognises as well with them."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from asr.evaluation.figures import summarise
from asr.evaluation.outcomes import run_trials
from asr.evaluation.trials import Trial
from asr.model import Model
from export.graph import quiet
from features.errors import EarshotError

QUANTISED = ("LSTM", "MatMul")
FEATURES = "mfcc"  # in the names of the weights that stay as they are


class QuantisationError(EarshotError, ArithmeticError):
    """The int8 model is too much worse."""


def quantise(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Give LSTMs and linear layers int8 weights, one scale per output; features stay as they are.

    Inputs of these operators are quantised as they come (dynamically), over all frames of a step,
    so scores depend a little on how the audio is cut. Weights use seven of their eight bits:
    processors without VNNI add two products in 16 bits, which those of eight bits overflow.
    """
    features = [
        node.name
        for node in proto.graph.node
        if node.op_type in QUANTISED and any(FEATURES in name for name in node.input)
    ]
    with TemporaryDirectory() as folder, quiet():
        path = Path(folder, "int8.onnx")
        quantize_dynamic(
            proto,
            path,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=features,
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
        return onnx.load(path)


def check_loss(
    exact: Model, quantised: Model, trials: Sequence[Trial], max_loss: float
) -> dict[str, float]:
    """Compare both models on the same trials; return what the card shall say of it.

    max_loss: in points of accuracy (classify) or of the character error rate (ctc).
    Raises QuantisationError if more is lost.
    """
    figure = "accuracy" if exact.card.task == "classify" else "cer"
    before, after = (
        summarise(model.card, list(run_trials(model, trials)))[figure]
        for model in (exact, quantised)
    )
    loss = 100.0 * (before - after if figure == "accuracy" else after - before)
    if loss > max_loss:
        raise QuantisationError(
            f"{exact.card.name}: int8 weights lose {loss:.2f} points of {figure} "
            f"({before:.2%} to {after:.2%}, n = {len(trials)}), more than {max_loss:g}; nothing "
            "was exported: export without --int8, or allow more with --max-loss"
        )
    return {f"{figure}_fp32": before, f"{figure}_int8": after, "int8_n": len(trials)}
