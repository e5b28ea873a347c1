"""What is exported computes what was trained, says what it is, or is not written."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import asr
import export.export
from asr.card import METADATA_KEY, CardError
from asr.files import WriteError
from asr.model import Model, ModelError
from asr.runtime.scorers import scorer_for
from asr.studies.bench.cost import macs_per_second
from asr.training.checkpoint import BEST, CheckpointError
from asr.training.config import Config
from asr.training.network.acoustic import AcousticModel
from asr.training.network.cells import KINDS, Kind
from asr.training.network.cells.cell import Cell, State
from asr.training.pretrained import PretrainedError, read_pretrained
from export.export import export_run
from export.parity import TOLERANCE, ParityError
from tests.support import tiny_models
from tests.support.commands import hide_packages, run_asr, run_python
from tests.support.tiny_runs import (
    ENCODERS,
    HEADS,
    LABELS,
    MFCC,
    SAMPLE_RATE,
    random_model,
    save_run,
)

LENGTHS = (1, 160, 1_601, 7_777, 16_000, 40_001)


@dataclasses.dataclass(frozen=True)
class Exported:
    """A run, its model as torch has it, and the file that came of it."""

    run: Path
    config: Config
    trained: AcousticModel
    file: Model


QUICKLY = [("latency-controlled", "ctc"), ("lstm", "classify")]
THOROUGHLY = [
    *QUICKLY,
    *(
        pytest.param(kind, marks=pytest.mark.slow)
        for kind in (
            ("whole", "upsampled ctc"),
            ("whole", "phonemes"),
            ("latency-controlled", "phonemes"),
            ("latency-controlled", "upsampled ctc"),
            ("attention", "classify"),
            ("attention in blocks", "classify"),
        )
    ),
]


@pytest.fixture(scope="module", params=THOROUGHLY, ids="-".join)
def exported(request: pytest.FixtureRequest, exported_run: Callable[[str, str], Path]) -> Exported:
    encoder, head = request.param
    folder = exported_run(encoder, head)
    assert [path.name for path in (folder / "new").iterdir()] == ["tiny.onnx"]
    config, trained = random_model(ENCODERS[encoder], HEADS[head], MFCC.get(encoder))
    return Exported(folder / "run", config, trained, asr.load(folder / "new" / "tiny.onnx"))


def noise(samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = np.interp(np.arange(samples), np.linspace(0, samples, 9), rng.uniform(0.001, 0.3, 9))
    return (level * rng.standard_normal(samples)).astype(np.float32)


@torch.no_grad()
def reference(exported: Exported, rows: np.ndarray) -> np.ndarray:
    return exported.trained(torch.from_numpy(rows), None)[0].numpy()


# The same numbers


@pytest.mark.parametrize("samples", LENGTHS)
def test_exported_log_probs_match_training(exported: Exported, samples: int) -> None:
    card, audio = exported.file.card, noise(samples)
    if card.window_length and not card.streaming:
        audio = np.pad(audio, (0, max(0, 1_600 - samples)))[: card.window_length]
    expected, found = reference(exported, audio[None])[0], exported.file.log_probs(audio)
    if card.task == "classify":
        found = found[-1:]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("samples", [160, 16_000])
def test_phonemes_are_scored_in_the_same_frames(exported: Exported, samples: int) -> None:
    card, audio = exported.file.card, noise(samples)
    runs = scorer_for(exported.file).finish(audio)
    assert (card.phonemes != ()) == exported.config.model.head.phonemes
    if not card.phonemes:
        assert all(run.phonemes is None for run in runs)
        return
    found = np.concatenate([run.phonemes for run in runs if run.phonemes is not None])
    with torch.no_grad():
        both = exported.trained(torch.from_numpy(audio[None]), None, sounds=True)[0][0].numpy()
    assert found.shape == (-(-samples // card.hop_length), len(card.phonemes))
    np.testing.assert_allclose(found, both[:, len(card.labels) :], rtol=0, atol=TOLERANCE)


def test_the_weights_of_a_file_are_those_that_were_trained(exported: Exported) -> None:
    model, card = read_pretrained(exported.file.path)
    assert card == exported.file.card
    assert_same_weights(model, exported.trained)


def assert_same_weights(model: nn.Module, trained: nn.Module) -> None:
    torch.testing.assert_close(model.state_dict(), trained.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_rows_of_a_batch_do_not_mix(exported: Exported, batch: int) -> None:
    length = exported.file.card.block_length or 9_000
    rows = np.stack([noise(length, seed) for seed in range(batch)])
    together, _ = exported.file.step(rows, exported.file.initial_state(batch))
    for k in range(batch):
        alone, _ = exported.file.step(rows[k : k + 1], exported.file.initial_state())
        np.testing.assert_allclose(together[k], alone[0], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("cut", [1_000, 4_321])
def test_chunked_scores_equal_whole(exported: Exported, cut: int) -> None:
    audio, scores = noise(20_000), scorer_for(exported.file)
    pieces = np.split(audio, range(cut, len(audio), cut))
    runs = [run for piece in pieces for run in scores.push(piece)] + list(scores.finish())
    found = np.concatenate([run.log_probs for run in runs])
    np.testing.assert_allclose(found, exported.file.log_probs(audio), rtol=0, atol=TOLERANCE)


def test_a_step_that_is_no_whole_number_of_blocks_is_refused(exported: Exported) -> None:
    block = exported.file.card.block_length
    if block is None:
        pytest.skip("streaming models only")
    for samples in (0, block - 1, 2 * block + 1):
        with pytest.raises(ModelError, match=f"takes a multiple of {block} samples, not {samples}"):
            exported.file.step(np.zeros((1, samples), np.float32), exported.file.initial_state())


# The card


def test_the_card_describes_the_model(exported: Exported) -> None:
    card, config, trained = exported.file.card, exported.config, exported.trained
    streams, spots = trained.streaming, config.model.head.kind == "classify"
    assert (card.name, card.task) == ("tiny", config.model.head.kind)
    assert card.labels == LABELS[card.task]
    assert card.blank == (None if spots else 0)
    assert card.background == (("_unknown_", "_silence_") if spots else ())
    assert card.sample_rate == SAMPLE_RATE
    assert card.mfcc == dataclasses.asdict(config.model.mfcc)
    assert card.encoder == json.loads(json.dumps(dataclasses.asdict(config.model.encoder)))
    assert card.trigger == (config.trigger if spots else None)
    assert card.training_data == (config.data.sources[0].credit,)
    assert card.metrics["error"] == 0.25
    assert card.parameters == sum(weights.numel() for weights in trained.parameters())
    assert card.block_length == (config.model.encoder.block * 480 if streams else None)
    assert card.look_ahead == config.model.encoder.look_ahead * 2 * 480
    assert card.window_length == (8_000 if spots else None)
    letter = 480 // config.model.head.upsample
    expected = {(True, True): card.block_length, (True, False): 800}.get((spots, streams), letter)
    assert card.hop_length == expected


def test_card_hash_is_of_the_stored_weights(exported: Exported) -> None:
    digest = hashlib.sha256()
    graph = onnx.load(exported.file.path).graph
    for item in sorted(graph.initializer, key=lambda item: item.name):
        array = onnx.numpy_helper.to_array(item)
        digest.update(f"{item.name}{array.shape}{array.dtype}".encode() + array.tobytes())
    assert exported.file.card.weights_sha256 == digest.hexdigest()


def test_exported_file_holds_no_local_paths(exported: Exported) -> None:
    content = exported.file.path.read_bytes()
    for word in (b"/asr/training", b"site-packages", b".py", str(Path.home()).encode() + b"/"):
        assert word not in content


# The file on a device


def test_onnxruntime_runs_the_file_without_torch_and_without_a_warning(
    exported: Exported, tmp_path: Path
) -> None:
    hidden = hide_packages(tmp_path / "hidden", "torch", "onnx", "torchaudio")
    result = run_python(
        f"""
import numpy as np
import onnxruntime as ort

session = ort.InferenceSession({str(exported.file.path)!r}, providers=["CPUExecutionProvider"])
pcm, *states = session.get_inputs()
for batch in (1, 3):
    for samples in (5760, 16000, 33333):
        samples -= samples % {exported.file.card.block_length or 1}
        feeds = {{state.name: np.zeros((batch, *state.shape[1:]), "f4") for state in states}}
        for _ in range(2):
            outputs = session.run(None, feeds | {{"pcm": np.ones((batch, samples), "f4")}})
            following = outputs[1 : 1 + len(states)]
            feeds = {{s.name: new for s, new in zip(states, following, strict=True)}}
        for declared, found in zip(session.get_outputs(), outputs, strict=True):
            for said, size in zip(declared.shape, found.shape, strict=True):
                assert not isinstance(said, int) or said == size, (declared.name, found.shape)
print("ran")
""",
        **hidden,
    )
    assert (result.stdout, result.stderr) == ("ran\n", "")


# The whole family


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "head", "operator", "states"),
    [
        ("rnn", "ctc", "RNN", ["tail", "hidden"]),
        ("gru", "classify", "GRU", ["tail", "hidden", "history"]),
        ("bigru", "ctc", "GRU", ["tail", "hidden", "ahead_0", "ahead_1"]),
        ("peephole", "classify", "LSTM", ["tail", "hidden", "cell", "history"]),
        ("convlstm", "ctc", "LSTM", ["tail", "hidden", "cell"]),
    ],
)
def test_every_cell_becomes_a_recurrent_operator(
    tmp_path: Path, encoder: str, head: str, operator: str, states: list[str]
) -> None:
    """The export itself refuses a graph that differs from what was trained."""
    trained = save_run(tmp_path / "run", ENCODERS[encoder], HEADS[head])[1]
    file = export_run(tmp_path / "run", tmp_path / "tiny.onnx")
    assert list(file.initial_state()) == states
    assert_same_weights(read_pretrained(file.path)[0], trained)
    nodes = onnx.load(file.path).graph.node
    recurrent = {n.op_type for n in nodes} & {"RNN", "GRU", "LSTM", "Scan", "Loop"}
    assert recurrent == {operator}
    assert macs_per_second(file, SAMPLE_RATE) > 0


class RunningSum(Cell):
    """h_t = h_{t-1} + W x_t: somebody's own cell, in one class and one line of KINDS."""

    def __init__(self, inputs: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight = nn.Parameter(torch.randn(hidden_size, inputs) / 10)

    def run(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        sums = (frames @ self.weight.T).cumsum(dim=1) + state["hidden"].unsqueeze(1)
        return sums, {"hidden": sums[:, -1]}

    def onnx_weights(self) -> tuple[Tensor, ...]:
        return (self.weight.T,)

    def take_onnx_weights(self, weights: Sequence[Tensor]) -> None:
        self.weight.data.copy_(weights[0].T)

    @staticmethod
    def write(op: Any, frames: Any, states: Sequence[Any], weights: Sequence[Any]) -> Any:
        first, last = op.Constant(value_ints=[0]), op.Constant(value_ints=[-1])
        steps = op.CumSum(op.MatMul(frames, weights[0]), op.Constant(value_int=0))
        sums = op.Add(steps, states[0])
        end = op.Slice(sums, last, op.Constant(value_ints=[2**31]), first)
        return op.Unsqueeze(sums, op.Constant(value_ints=[1])), end


@pytest.mark.slow
def test_a_custom_cell_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "sums", Kind(RunningSum, bidirectional=True))
    encoder = {"kind": "sums", "block": 3, "look_ahead": 2, "layer_norm": True}
    save_run(tmp_path / "run", encoder, HEADS["ctc"])
    file = export_run(tmp_path / "run", tmp_path / "tiny.onnx")
    assert list(file.initial_state()) == ["tail", "hidden", "ahead_0", "ahead_1"]


# Refusals


def test_int8_weights_are_refused_for_training(exported: Exported, tmp_path: Path) -> None:
    proto, card = onnx.load(exported.file.path), exported.file.card
    coarse = dataclasses.replace(card, precision="int8")
    onnx.helper.set_model_props(proto, {METADATA_KEY: coarse.to_json()})
    onnx.save(proto, tmp_path / "int8.onnx")
    with pytest.raises(PretrainedError, match=r"int8\.onnx: .* exported without --int8"):
        read_pretrained(tmp_path / "int8.onnx")


def test_a_graph_of_other_weights_is_refused_for_training(tmp_path: Path) -> None:
    tiny = tiny_models.streaming_classify(tmp_path / "tiny.onnx")
    with pytest.raises(PretrainedError, match=r"tiny\.onnx: .* 'asr export' wrote"):
        read_pretrained(tiny)
    (tmp_path / "noise.onnx").write_bytes(b"no model")
    with pytest.raises(CardError, match=r"noise\.onnx: "):
        read_pretrained(tmp_path / "noise.onnx")


@pytest.fixture(scope="module")
def run(exported_run: Callable[[str, str], Path]) -> Path:
    return exported_run("lstm", "classify") / "run"


@pytest.fixture
def graph(run: Path) -> onnx.ModelProto:
    """The graph of the run, as it is built, without a card."""
    proto = onnx.load(run.parent / "new" / "tiny.onnx")
    del proto.metadata_props[:]
    return proto


def change_output(graph: onnx.ModelProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    (weights,) = (w for w in graph.graph.initializer if w.name.endswith("head.output.bias"))
    array = change(onnx.numpy_helper.to_array(weights))
    weights.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), weights.name))


@pytest.mark.parametrize("change", [lambda x: x + np.eye(4)[0] / 100, lambda x: x * np.nan])
def test_parity_failure_writes_nothing(
    run: Path,
    graph: onnx.ModelProto,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    tampered = onnx.ModelProto()
    tampered.CopyFrom(graph)
    change_output(tampered, change)
    monkeypatch.setattr(export.export, "build_graph", lambda model: tampered)
    out = tmp_path / "tiny.onnx"
    out.write_bytes(b"the last one")
    with pytest.raises(ParityError, match=r"^tiny: .* differ from the trained model"):
        export_run(run, out)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]
    assert out.read_bytes() == b"the last one"


def test_export_replaces_the_last_file(
    run: Path, graph: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.export, "build_graph", lambda model: graph)
    out = tmp_path / "tiny.onnx"
    out.write_bytes(b"the last one")
    assert export_run(run / BEST, out).card.name == "tiny"


def test_unwritable_output_raises(
    run: Path, graph: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.export, "build_graph", lambda model: graph)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for out in (tmp_path / "file" / "tiny.onnx", tmp_path / "folder"):
        with pytest.raises(WriteError, match=f"^{out}: cannot be written") as caught:
            export_run(run, out)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_folder_without_a_checkpoint_raises(tmp_path: Path) -> None:
    out = tmp_path / "tiny.onnx"
    with pytest.raises(CheckpointError, match=r"best\.pt"):
        export_run(tmp_path, out)
    result = run_asr("export", tmp_path / "nothing", out)
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2 and f"{tmp_path}/nothing" in line
    assert not out.exists()
