"""Small ONNX models whose answers are known: they name the tone of their input by the contract.

A frame's feature is sum|x[t] - x[t-1]| / sum|x[t]|, which is 2 sin(pi f / rate) for a tone of
frequency f, whatever its loudness, and stays so in frames that the tone fills in part only.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from asr.card import (
    ENDPOINT,
    METADATA_KEY,
    SCHEMA_VERSION,
    SPOTTING,
    UNCALIBRATED,
    DataSource,
    ModelCard,
    Trigger,
)
from asr.runtime.weights import weights_sha256

SAMPLE_RATE = 16000
HOP = 160
BLOCK = 640
LOOK_AHEAD = 320
LETTERS = ("<blank>", " ", "a", "b", "c")
WORDS = ("<blank>", "low", "high")
KEYWORDS = ("_silence_", "_unknown_", "low", "high")
FREQUENCIES = {
    " ": 300.0,
    "a": 800.0,
    "b": 1400.0,
    "c": 2000.0,
    "low": 800.0,
    "high": 2000.0,
    "_unknown_": 4000.0,
}
FLIPS = 34  # changes of sign in a mumbled frame
QUIET = 0.02  # mean |x| below which a frame is silence


def card(task: str, labels: Sequence[str], **fields: Any) -> ModelCard:
    """A complete card for a tiny model; `fields` replaces what differs."""
    spots = task == "classify"
    values: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "name": f"tiny-{task}",
        "task": task,
        "labels": tuple(labels),
        "blank": None if spots else 0,
        "background": tuple(label for label in labels if label.startswith("_")),
        "sample_rate": SAMPLE_RATE,
        "hop_length": HOP,
        "block_length": BLOCK,
        "look_ahead": 0,
        "window_length": None,
        "mfcc": {},
        "encoder": {},
        "trigger": Trigger(threshold=0.5, smoothing=0.12, refractory=0.4) if spots else None,
        "calibration": None if spots else UNCALIBRATED,
        "endpoint": None if spots else ENDPOINT,
        "spotting": None if spots else SPOTTING,
        "alarms": None,
        "precision": "fp32",
        "parameters": 0,
        "metrics": {},
        "training_data": (DataSource(name="none", licence="CC0-1.0", attribution="none"),),
        "licence": "Apache-2.0",
        "earshot_version": "0",
        "git_commit": "0" * 40,
        "weights_sha256": "0" * 64,
    }
    return ModelCard(**values | fields)


def streaming_ctc(path: Path, labels: Sequence[str] = LETTERS) -> Path:
    """Two states: the last LOOK_AHEAD samples and a running level that nudges every score."""
    graph = Graph(labels)
    graph.state("tail", LOOK_AHEAD)
    graph.state("level", 1)
    graph.add("Concat", ["tail", "pcm"], "extended", axis=1)
    graph.slice("extended", "next_tail", -LOOK_AHEAD, None)
    graph.slice("extended", "framed", 0, BLOCK)
    graph.tone_scores("framed", hop=HOP)
    graph.add("Abs", ["pcm"], "loud")
    graph.add("ReduceMean", ["loud"], "now", axes=[1], keepdims=1)
    graph.add("Add", ["level", "now"], "grown")
    graph.add("Mul", ["grown", graph.constant("half", np.float32(0.5))], "next_level")
    graph.add("Unsqueeze", ["next_level", graph.constant("one", np.array([1]))], "nudge")
    graph.add("Mul", ["nudge", graph.constant("tilt", graph.tilt())], "tilted")
    graph.add("Add", ["scores", "tilted"], "nudged")
    return graph.save(path, "nudged", BLOCK, card("ctc", labels, look_ahead=LOOK_AHEAD))


def streaming_classify(path: Path) -> Path:
    """One score vector a block, for the block and the one before it."""
    graph = Graph(KEYWORDS)
    graph.state("tail", BLOCK)
    graph.add("Concat", ["tail", "pcm"], "extended", axis=1)
    graph.slice("extended", "next_tail", -BLOCK, None)
    graph.tone_scores("extended", hop=2 * BLOCK)
    return graph.save(
        path, "scores", BLOCK, card("classify", KEYWORDS, hop_length=BLOCK, window_length=2 * BLOCK)
    )


def whole_classify(path: Path, window: int = 8000, hop: int = 1600) -> Path:
    """One score vector for everything it is given."""
    graph = Graph(KEYWORDS)
    graph.tone_scores("pcm", hop=None)
    shape = {"block_length": None, "window_length": window, "hop_length": hop}
    return graph.save(path, "scores", "samples", card("classify", KEYWORDS, **shape))


def whole_ctc(path: Path) -> Path:
    """ceil(samples / HOP) frames of the whole utterance."""
    graph = Graph(LETTERS)
    pads = graph.constant("pads", np.array([0, 0, 0, HOP - 1]))
    graph.add("Pad", ["pcm", pads], "padded")
    graph.tone_scores("padded", hop=HOP)
    return graph.save(path, "scores", "samples", card("ctc", LETTERS, block_length=None))


def tones(*labels: str, seconds: float = 0.2, pause: float = 0.1, level: float = 0.4) -> np.ndarray:
    """Say `labels`, float32 (samples,): a pause, then a tone and a pause for each."""
    silence = np.zeros(round(pause * SAMPLE_RATE))
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    spoken = [silence]
    for label in labels:
        spoken += [level * np.sin(2 * np.pi * FREQUENCIES[label] * time + 0.3), silence]
    return np.concatenate(spoken).astype(np.float32)


def mumble() -> np.ndarray:
    """A frame of sound between "a" and "b", a hair nearer to "a", with silence around it.

    It is a square wave with FLIPS changes of sign, the first from silence, and a spike whose size
    makes the feature of a frame what it should be.
    """
    bends = [2 * math.sin(math.pi * FREQUENCIES[letter] / SAMPLE_RATE) for letter in "ab"]
    bend = sum(bends) / 2 - 1e-4
    frame = (-1.0) ** (np.arange(HOP) * FLIPS // HOP)
    frame[2] += (HOP * bend - (2 * FLIPS - 1)) / (2 - bend)
    # Where a step begins, the model does not see the sound set in: it does not begin here.
    return np.pad(0.4 * frame, 11 * HOP).astype(np.float32)


def with_card(source: Path, path: Path, **changes: Any) -> Path:
    """Copy a model, with other fields in its card."""
    model = onnx.load(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    old = ModelCard.from_metadata(metadata, str(source))
    new = dataclasses.replace(old, **changes)
    helper.set_model_props(model, {METADATA_KEY: new.to_json()})
    onnx.save(model, path)
    return path


class Graph:
    """Collects the nodes of one model."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.states: dict[str, int] = {}

    def state(self, name: str, size: int) -> None:
        self.states[name] = size

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))

    def slice(self, source: str, output: str, start: int, end: int | None) -> None:
        bounds = (start, np.iinfo(np.int64).max if end is None else end, 1)
        names = [self.constant(f"{output}_{i}", np.array([b])) for i, b in enumerate(bounds)]
        self.add("Slice", [source, *names], output)

    def tilt(self) -> np.ndarray:
        return np.linspace(0.0, 0.01, len(self.labels), dtype=np.float32)[None, None]

    def tone_scores(self, source: str, hop: int | None) -> None:
        """Write `scores` (batch, frames, labels) for frames of `hop` samples, or one for all."""
        end = np.iinfo(np.int64).max
        self.slice(source, "later", 1, end)
        self.slice(source, "earlier", 0, -1)
        self.add("Sub", ["later", "earlier"], "steps")
        edge = self.constant("edge", np.array([0, 1, 0, 0]))
        self.add("Pad", ["steps", edge], "steps_padded")
        for sound, total in (("steps_padded", "bend"), (source, "mass")):
            self.add("Abs", [sound], f"{total}_abs")
            axis = self.constant(f"{total}_axis", np.array([1]))
            self.add("Unsqueeze", [f"{total}_abs", axis], f"{total}_wide")
            if hop is None:
                self.add("GlobalAveragePool", [f"{total}_wide"], total)
            else:
                shape = {"kernel_shape": [hop], "strides": [hop]}
                self.add("AveragePool", [f"{total}_wide"], total, **shape)
        self.add("Add", ["mass", self.constant("tiny", np.float32(1e-6))], "mass_safe")
        self.add("Div", ["bend", "mass_safe"], "ratio")
        self.add("Transpose", ["ratio"], "ratio_last", perm=[0, 2, 1])
        self.add("Transpose", ["mass"], "mass_last", perm=[0, 2, 1])
        self._compare()

    def _compare(self) -> None:
        """Tones score by the distance of the ratio to theirs, label 0 by the quietness."""
        centres = [2 * np.sin(np.pi * FREQUENCIES.get(n, 0.0) / SAMPLE_RATE) for n in self.labels]
        first = np.arange(len(self.labels)) == 0
        self.add(
            "Sub",
            ["ratio_last", self.constant("centres", np.array([[centres]], np.float32))],
            "off",
        )
        self.add("Mul", ["off", "off"], "distance")
        weights = np.where(first, 0.0, -800.0).astype(np.float32)[None, None]
        self.add("Mul", ["distance", self.constant("weights", weights)], "tone")
        self.add("Sub", [self.constant("quiet", np.float32(QUIET)), "mass_last"], "quietness")
        scale = np.where(first, 1000.0, 0.0).astype(np.float32)[None, None]
        self.add("Mul", ["quietness", self.constant("scale", scale)], "silence")
        self.add("Add", ["tone", "silence"], "scores")

    def save(self, path: Path, scores: str, samples: int | str, model_card: ModelCard) -> Path:
        self.add("LogSoftmax", [scores], "log_probs", axis=-1)
        real = TensorProto.FLOAT
        value = helper.make_tensor_value_info
        inputs = [value("pcm", real, ["batch", samples])]
        outputs = [value("log_probs", real, ["batch", "frames", len(self.labels)])]
        for name, size in self.states.items():
            inputs.append(value(name, real, ["batch", size]))
            outputs.append(value(f"next_{name}", real, ["batch", size]))
        graph = helper.make_graph(self.nodes, "tiny", inputs, outputs, self.constants)
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        weights = weights_sha256(model.SerializeToString())
        model_card = replace(model_card, weights_sha256=weights)
        helper.set_model_props(model, {METADATA_KEY: model_card.to_json()})
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path


def save_changed(proto: onnx.ModelProto, path: Path) -> Path:
    """Write a model whose weights were changed, with a card that is about these weights."""
    (entry,) = (entry for entry in proto.metadata_props if entry.key == METADATA_KEY)
    weights = weights_sha256(proto.SerializeToString())
    entry.value = json.dumps(json.loads(entry.value) | {"weights_sha256": weights})
    onnx.save(proto, path)
    return path
