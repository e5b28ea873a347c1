"""What a model computes, and where its time goes, as the runtime records while it runs.

Counted from onnxruntime's profile, whatever the file holds: no second description of the network
has to be kept equal to it, and the onnx package is not needed.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort

from asr.model import Model
from asr.runtime.session import session_options

TRACED_SECONDS = 10.0

CONVOLUTIONS = {"Conv", "ConvInteger"}
PRODUCTS = {"MatMul", "MatMulInteger", "Gemm"}
RECURRENCES = {"RNN", "GRU", "LSTM", "DynamicQuantizeLSTM"}


def macs_per_second(model: Model, samples: int) -> int:
    """Return the multiplications of matrix products, convolutions and recurrences for each second.

    Counted over one step: a block of a streaming model, with the frames that its backward
    directions see again, a window of a model that slides one, or all of `samples`.
    """
    card = model.card
    if card.block_length is not None:
        length = advance = card.block_length
    elif card.window_length is not None:
        length, advance = card.window_length, card.hop_length
    else:
        length = advance = samples
    options = session_options()  # such that operators keep their names, and weights their shapes
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    pcm = np.zeros((1, length), np.float32)
    events = _trace(model.path, options, lambda traced: traced.step(pcm, traced.initial_state()))
    return round(sum(map(_macs, events)) * card.sample_rate / advance)


def _macs(event: dict[str, Any]) -> int:
    """Multiplications of one operator; 0 for those that only move or map numbers."""
    operator = event["args"]["op_name"]
    if operator not in CONVOLUTIONS | PRODUCTS | RECURRENCES:
        return 0
    inputs, outputs = (
        [shape for entry in event["args"][kind] for shape in entry.values()]
        for kind in ("input_type_shape", "output_type_shape")
    )
    if operator in CONVOLUTIONS:  # weights [channels out, channels in, ...]
        return math.prod(outputs[0]) * math.prod(inputs[1][1:])
    if operator in PRODUCTS:  # [..., k] @ [k, n]
        return math.prod(outputs[0]) * inputs[0][-1]
    frames, batch, _ = inputs[0]  # weights of the inputs, and of the recurrence
    return frames * batch * (math.prod(inputs[1]) + math.prod(inputs[2]))


def time_by_operator(model: Model, sound: np.ndarray, threads: int) -> dict[str, float]:
    """Return the share of the offline time that each kind of operator takes, largest first."""
    piece = sound[: round(TRACED_SECONDS * model.card.sample_rate)]
    events = _trace(model.path, session_options(threads), lambda traced: traced.log_probs(piece))
    times: Counter[str] = Counter()
    for event in events:
        times[event["args"]["op_name"]] += event["dur"]
    return {name: duration / times.total() for name, duration in times.most_common()}


def _trace(
    path: Path, options: ort.SessionOptions, run: Callable[[Model], object]
) -> list[dict[str, Any]]:
    """The operators that a model ran: onnxruntime's profile, `dur` in microseconds."""
    with TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "trace"))
        model = Model(path, options)
        run(model)
        del model  # a session writes its profile when it goes
        (profile,) = Path(folder).iterdir()
        return operators(json.loads(profile.read_text()))


def operators(profile: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the operators of a profile, without the fences that onnxruntime up to 1.20 records
    around each: these have no shapes and take no time."""
    nodes = (event for event in profile if event["cat"] == "Node")
    return [event for event in nodes if "input_type_shape" in event["args"]]
