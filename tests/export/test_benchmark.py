"""What a benchmark counts is what is computed, and what it reports adds up."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import soundfile
from onnxruntime.quantization import quantize_dynamic

import asr
import asr.studies.bench.gemm
import asr.studies.bench.inference
import asr.studies.bench.sounds
import asr.studies.bench.timing
from asr.card import METADATA_KEY
from asr.files import WriteError
from asr.model import Model, bundled_models
from asr.runtime.providers import CPU
from asr.runtime.session import session_options
from asr.studies.bench import serving
from asr.studies.bench.cost import macs_per_second, operators, time_by_operator
from asr.studies.bench.gemm import gemm_peak, matrix_product
from asr.studies.bench.inference import benchmark
from asr.studies.bench.machines import machine_table
from asr.studies.bench.peers import recognise, torch_model
from asr.studies.bench.sounds import sound_of, speech_shaped_noise
from asr.studies.bench.timing import BenchmarkError
from export.graph import example_inputs
from features.audio import AudioError
from tests.support import tiny_models
from tests.support.commands import ROOT, hide_packages, run_asr
from tests.support.tiny_models import SAMPLE_RATE, tones

FIGURES = {
    "model": str,
    "file_size": int,
    "parameters": int,
    "cold_start_seconds": float,
    "peak_memory": (int, type(None)),
    "processor": str,
    "onnxruntime": str,
    "threads": int,
    "audio_seconds": float,
    "processor_share": float,
    "macs_per_second": int,
    "offline_rtf": float,
    "gemm_peak_flops": float,
    "gemm_share": float,
    "operators": dict,
    "streaming": list,
    "peers": (dict, type(None)),
}


KINDS = ("latency-controlled-ctc", "lstm-classify")


@pytest.fixture(scope="module")
def model_of(exported_run: Callable[[str, str], Path]) -> Callable[[str], Model]:
    """A function that returns a model with random weights, of an encoder and a head."""

    def model(kind: str) -> Model:
        return asr.load(exported_run(*kind.rsplit("-", 1)) / "new" / "tiny.onnx")

    return model


@pytest.fixture(params=[*KINDS, pytest.param("whole-classify", marks=pytest.mark.slow)])
def exported(request: pytest.FixtureRequest, model_of: Callable[[str], Model]) -> Model:
    return model_of(request.param)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr.studies.bench.sounds, "SECONDS", 2.0)
    monkeypatch.setattr(asr.studies.bench.timing, "REPEATS", 2)
    monkeypatch.setattr(asr.studies.bench.gemm, "GEMM_SECONDS", 0.02)


# What is counted


def graph_macs(model: Model, samples: int) -> int:
    """Multiplications of one step, from the file itself: the sizes of all that its nodes make."""
    proto = onnx.load(model.path)
    sizes = {item.name: tuple(item.dims) for item in proto.graph.initializer}
    known = {value.name for value in (*proto.graph.output, *proto.graph.input)}
    for name in (name for node in proto.graph.node for name in node.output):
        if name and name not in known:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    options = session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=[CPU])
    feeds = {"pcm": np.zeros((1, samples), np.float32), **model.initial_state()}
    sizes |= {name: array.shape for name, array in feeds.items()}
    names = [value.name for value in session.get_outputs()]
    sizes |= {n: a.shape for n, a in zip(names, session.run(names, feeds), strict=True)}  # pyright: ignore
    return sum(node_macs(node, sizes) for node in proto.graph.node)


def node_macs(node: onnx.NodeProto, sizes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type == "Conv":
        batch, _, *places = sizes[node.output[0]]
        return batch * math.prod(places) * math.prod(sizes[node.input[1]])
    if node.op_type in ("MatMul", "Gemm", "MatMulInteger"):
        *rows, inner = sizes[node.input[0]]
        return math.prod(rows) * inner * sizes[node.output[0]][-1]
    if node.op_type == "LSTM":
        frames, batch, inputs = sizes[node.input[0]]
        directions, _, hidden = sizes[node.input[2]]
        return frames * batch * directions * 4 * hidden * (inputs + hidden)
    if node.op_type == "DynamicQuantizeLSTM":  # its weights are turned around
        frames, batch, inputs = sizes[node.input[0]]
        directions, hidden, _ = sizes[node.input[2]]
        return frames * batch * directions * 4 * hidden * (inputs + hidden)
    assert node.op_type not in ("GRU", "RNN", "Einsum", "ConvTranspose")
    return 0


def step_and_advance(model: Model, samples: int) -> tuple[int, int]:
    card = model.card
    if card.block_length is not None:
        return card.block_length, card.block_length
    if card.window_length is not None:
        return card.window_length, card.hop_length
    return samples, samples


@pytest.mark.parametrize("name", bundled_models())
def test_macs_of_the_bundled_models(name: str) -> None:
    model = asr.load(name)
    length, advance = step_and_advance(model, 2 * model.card.sample_rate)
    expected = graph_macs(model, length) * model.card.sample_rate / advance
    assert macs_per_second(model, 2 * model.card.sample_rate) == round(expected)


def test_macs_of_every_kind_of_model(exported: Model) -> None:
    length, advance = step_and_advance(exported, 30_000)
    expected = graph_macs(exported, length) * SAMPLE_RATE / advance
    assert macs_per_second(exported, 30_000) == round(expected)


def test_macs_equal_the_closed_form(model_of: Callable[[str], Model]) -> None:
    """Of one block of a latency-controlled model, layer by layer and by hand."""
    model = model_of("latency-controlled-ctc")
    hidden, channels, block, ahead, labels = 12, 12, 4, 3, 5
    new = 3 * block  # feature frames of a block, and 8 - 2 that the stem looks back at
    features = new + 6
    first = features - 4
    bins = math.ceil(7_600 / (SAMPLE_RATE / 512)) - 1  # that the mel filters weigh: not 0 Hz
    mfcc = features * (bins * 2 * 200 + bins * 40 + 40 * 40)
    stem = first * 40 * 5 * channels + block * channels * 5 * channels
    frames = 2 * block + ahead  # of both directions
    layers = sum(frames * 4 * hidden * (inputs + hidden) for inputs in (channels, 2 * hidden))
    head = block * 2 * hidden * labels
    blocks_per_second = SAMPLE_RATE / (new * 160)
    expected = (mfcc + stem + layers + head) * blocks_per_second
    assert macs_per_second(model, SAMPLE_RATE) == round(expected)


def test_int8_has_the_macs_of_fp32(tmp_path: Path) -> None:
    model = asr.load("english")
    folded, quantised = tmp_path / "folded.onnx", tmp_path / "quantised.onnx"
    options = session_options()  # only weights that lie ready in the file are quantised
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    Model(model.path, options)
    quantize_dynamic(folded, quantised, op_types_to_quantize=["LSTM", "MatMul"])
    proto = onnx.load(quantised)
    assert "DynamicQuantizeLSTM" in {node.op_type for node in proto.graph.node}
    onnx.helper.set_model_props(proto, {METADATA_KEY: model.card.to_json()})
    tiny_models.save_changed(proto, quantised)
    assert macs_per_second(Model(quantised), 0) == macs_per_second(model, 0)


def test_fences_around_operators_are_not_counted() -> None:
    """onnxruntime 1.20 records them as events of the operator, without shapes."""
    kernel = {
        "cat": "Node",
        "dur": 51,
        "args": {
            "op_name": "MatMul",
            "input_type_shape": [{"float": [1, 3]}, {"float": [3, 4]}],
            "output_type_shape": [{"float": [1, 4]}],
        },
    }
    fence = {"cat": "Node", "dur": 0, "args": {"op_name": "MatMul"}}
    session = {"cat": "Session", "dur": 90, "args": {}}
    assert operators([session, fence, kernel, fence]) == [kernel]


def test_the_shares_of_the_operators_add_up() -> None:
    model = asr.load("english")
    shares = time_by_operator(model, speech_shaped_noise(32_000, SAMPLE_RATE), threads=1)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert {"LSTM", "Conv", "LogSoftmax"} <= shares.keys()


# What is measured with


def test_matrix_product_graph_multiplies() -> None:
    session = ort.InferenceSession(matrix_product(), providers=[CPU])
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 7), np.float32), rng.standard_normal((7, 3), np.float32)
    (found,) = session.run(None, {"a": a, "b": b})
    np.testing.assert_allclose(np.asarray(found), a @ b, rtol=1e-5)
    onnx.checker.check_model(matrix_product())


def test_a_peak_is_one(short: None) -> None:
    assert 1e8 < gemm_peak(threads=1) < 1e13


@pytest.mark.parametrize("samples", [1, 999, 160_000])
def test_noise_is_audio_and_the_same_every_time(samples: int) -> None:
    noise = speech_shaped_noise(samples, SAMPLE_RATE)
    assert noise.dtype == np.float32 and noise.shape == (samples,)
    assert np.abs(noise).max() == pytest.approx(0.5)
    np.testing.assert_array_equal(noise, speech_shaped_noise(samples, SAMPLE_RATE))


def test_noise_falls_with_frequency_as_speech_does() -> None:
    noise = speech_shaped_noise(SAMPLE_RATE * 20, SAMPLE_RATE)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)

    def level(low: float) -> float:
        return 10 * np.log10(power[(hertz >= low) & (hertz < 1.1 * low)].mean())

    assert level(2_000) - level(4_000) == pytest.approx(9.0, abs=1.0)
    assert level(100) - level(200) == pytest.approx(0.0, abs=2.5)


@pytest.mark.parametrize("seconds", [0.5, 5.0])
def test_recordings_are_repeated_or_cut(tmp_path: Path, short: None, seconds: float) -> None:
    rng = np.random.default_rng(0)
    sounds = [rng.uniform(-0.5, 0.5, round(seconds * SAMPLE_RATE)) for _ in range(2)]
    for k, samples in enumerate(sounds):
        soundfile.write(tmp_path / f"{k}.wav", samples, SAMPLE_RATE, "FLOAT")
    found = sound_of(tmp_path, SAMPLE_RATE)
    expected = np.resize(np.concatenate(sounds), 2 * SAMPLE_RATE)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


# What comes out


def check(figures: dict, model: Model) -> None:
    assert figures.keys() == FIGURES.keys()
    assert all(isinstance(figures[name], kind) for name, kind in FIGURES.items())
    assert figures["model"] == model.card.name
    assert figures["file_size"] == model.path.stat().st_size
    assert figures["offline_rtf"] > 0 and figures["cold_start_seconds"] > 0
    assert figures["peak_memory"] is None or 1e7 < figures["peak_memory"] < 1e9
    assert 0 < figures["gemm_share"] < 1.5 and 0 < figures["processor_share"] < 1.05
    rate = 2 * figures["macs_per_second"] / figures["offline_rtf"]
    assert rate / figures["gemm_peak_flops"] == pytest.approx(figures["gemm_share"])
    for entry in figures["streaming"]:
        assert 0 < entry["p50_ms"] <= entry["p99_ms"] and entry["rtf"] > 0


@pytest.mark.slow
def test_figures_of_every_kind_of_model(exported: Model, short: None, tmp_path: Path) -> None:
    figures = benchmark(exported, json_file=tmp_path / "new" / "figures.json")
    check(figures, exported)
    assert figures == json.loads((tmp_path / "new" / "figures.json").read_text())
    assert [entry["push_ms"] for entry in figures["streaming"]] == [20, 40, 80, 160]
    assert figures["peers"] is None


@pytest.mark.slow
def test_whole_utterances_do_not_stream(tmp_path: Path, short: None) -> None:
    figures = benchmark(Model(tiny_models.whole_ctc(tmp_path / "tiny.onnx")))
    assert figures["streaming"] == [] and figures["offline_rtf"] > 0


@pytest.mark.parametrize("name", bundled_models())
def test_torch_has_the_networks_of_the_bundled_models(name: str) -> None:
    model = asr.load(name)
    assert sum(p.numel() for p in torch_model(model).parameters()) == model.card.parameters


def test_torch_runs_a_network_of_the_same_shape(exported: Model) -> None:
    network = torch_model(exported)
    assert (network.block_length or None) == exported.card.block_length
    if exported.card.streaming:
        expected = {name: state.shape for name, state in exported.initial_state(2).items()}
        found = {name: tuple(state.shape) for name, state in example_inputs(network, 2).items()}
        del found["pcm"]
        assert found == expected


@pytest.mark.slow
def test_peers_beside_a_model(exported: Model, short: None) -> None:
    pytest.importorskip("pocketsphinx")
    figures = benchmark(exported, peers=True)
    check(figures, exported)
    torch, pocketsphinx = figures["peers"]["torch"], figures["peers"]["pocketsphinx"]
    assert torch["offline_rtf"] > 0 and pocketsphinx["offline_rtf"] > 0
    assert (torch["streaming_rtf"] is None) == (not figures["streaming"])
    assert figures["peers"]["files"] is None


@pytest.mark.slow
def test_two_beam_searches_on_the_same_scores(
    model_of: Callable[[str], Model],
    tmp_path: Path,
    short: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ctc_beam_decoder")
    for k in range(3):
        soundfile.write(tmp_path / f"{k}.wav", speech_shaped_noise(8_000, SAMPLE_RATE), SAMPLE_RATE)
    beams = benchmark(asr.load("english"), audio=tmp_path, peers=True)["peers"]["beams"]
    assert (beams["n"], beams["same"]) == (3, 3)  # of noise both make nothing
    assert beams["own_rtf"] > 0 and beams["native_rtf"] > 0
    assert f"ctc-beam-decoder │ {beams['version']}" in capsys.readouterr().out
    assert benchmark(model_of("whole-classify"), peers=True)["peers"]["beams"] is None


@pytest.mark.slow
def test_the_same_files_for_both(
    model_of: Callable[[str], Model], tmp_path: Path, short: None
) -> None:
    """Words that only one of the two can answer are left out; what is right is counted."""
    pytest.importorskip("pocketsphinx")
    model = model_of("whole-classify")
    for word in ("yes", "no", "xqzt", "up"):
        for k in range(3):
            path = tmp_path / "words" / word / f"{k}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, speech_shaped_noise(8_000, SAMPLE_RATE) / (k + 1), SAMPLE_RATE)
    right = [
        recognise(model, soundfile.read(path, dtype="float32")[0]) == path.parent.name
        for word in ("yes", "no")
        for path in (tmp_path / "words" / word).iterdir()
    ]
    files = benchmark(model, audio=tmp_path / "words", peers=True)["peers"]["files"]
    assert (files["n"], files["words"]) == (6, ["no", "yes"])
    assert files["model"]["accuracy"] == pytest.approx(np.mean(right))
    for name in ("model", "pocketsphinx"):
        low, high = files[name]["accuracy_interval"]
        assert low <= files[name]["accuracy"] <= high and files[name]["rtf"] > 0


@pytest.mark.slow
def test_a_missing_peer_is_named(
    short: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)  # importing it fails as if it were away
    peers = benchmark(asr.load("commands"), peers=True)["peers"]
    assert peers["torch"]["offline_rtf"] > 0
    assert peers["pocketsphinx"] is None and peers["files"] is None
    assert "not installed" in capsys.readouterr().out


# The command


@pytest.mark.slow
def test_the_command_without_training_packages(tmp_path: Path) -> None:
    model = tiny_models.streaming_classify(tmp_path / "tiny.onnx")
    wav, out = tmp_path / "a.wav", tmp_path / "figures.json"
    soundfile.write(wav, tones("low", "high"), SAMPLE_RATE)
    hidden = hide_packages(tmp_path / "hidden", "torch", "onnx", "librosa", "jiwer", "pocketsphinx")
    result = run_asr("bench", model, "--json", out, "--audio", wav, "--threads", 2, **hidden)
    assert result.returncode == 0, result.stderr
    figures = json.loads(out.read_text())
    assert figures.keys() == FIGURES.keys()
    assert (figures["macs_per_second"], figures["threads"]) == (
        0,
        2,
    )
    for line in ("real-time factor", "cold start", "GEMM peak", "80 ms", "p99"):
        assert line in result.stdout

    refused = run_asr("bench", model, "--peers", **hidden)
    assert refused.returncode == 2
    assert 'pip install "earshot-asr[bench]"' in refused.stderr.splitlines()[-1]


def test_unmeasurable_models_are_one_line(tmp_path: Path) -> None:
    model = tiny_models.streaming_ctc(tmp_path / "tiny.onnx")
    no_model = run_asr("bench", tmp_path / "absent.onnx")
    no_audio = run_asr("bench", model, "--audio", tmp_path / "absent.wav")
    no_network = run_asr("bench", model, "--peers")
    for result, hint in (
        (no_model, "no such model"),
        (no_audio, "absent.wav"),
        (no_network, "leave out --peers"),
    ):
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ") and hint in line and result.returncode == 2


@pytest.mark.slow
def test_unwritable_figures_are_one_line(tmp_path: Path, short: None) -> None:
    (tmp_path / "file").write_text("")
    model = Model(tiny_models.streaming_ctc(tmp_path / "tiny.onnx"))
    with pytest.raises(WriteError, match="name another file"):
        benchmark(model, json_file=tmp_path / "file" / "figures.json")


def test_an_empty_folder_of_audio(tmp_path: Path) -> None:
    model = Model(tiny_models.streaming_ctc(tmp_path / "tiny.onnx"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="no audio"):
        benchmark(model, audio=tmp_path / "empty")


def test_figures_of_several_machines_become_a_table(tmp_path: Path) -> None:
    figures: dict[str, Any] = {
        "processor": "A|B",
        "processor_share": 0.98,
        "threads": 1,
        "onnxruntime": "1.20.1",
        "model": "commands",
        "macs_per_second": 34_100_000,
        "offline_rtf": 0.00071,
        "streaming": [{"push_ms": 80, "rtf": 0.0024, "p50_ms": 0.02, "p99_ms": 0.54}],
        "cold_start_seconds": 0.301,
        "peak_memory": 86_200_000,
    }
    (tmp_path / "ours.json").write_text(json.dumps(figures))
    whole = figures | {"streaming": [], "peak_memory": None, "processor": "C"}
    (tmp_path / "theirs.json").write_text(json.dumps(whole))
    table = machine_table([tmp_path / "ours.json", tmp_path / "theirs.json"])
    assert table.splitlines()[2:] == [
        "| A/B | 98% | 1 | 1.20.1 | commands | 34 | 0.0007 | 0.0024 | 0.54 ms | 0.30 s | 86 MB |",
        "| C | 98% | 1 | 1.20.1 | commands | 34 | 0.0007 | - | - | 0.30 s | - |",
    ]
    heads = table.splitlines()[0]
    assert heads in (ROOT / "docs" / "deploy.md").read_text(), "the table there has other columns"


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}', '"text"'])
def test_what_holds_no_figures_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(BenchmarkError, match="holds no figures of a model; 'asr bench MODEL"):
        machine_table([tmp_path / "bad.json"])


def held_up_to(most: int, streams: int) -> serving.Trial:
    return serving.Trial(streams, 0.0, 0.0, 0.0 if streams <= most else 1.0)


@pytest.mark.parametrize("most", [1, 3, 8, 9, 100, 1000, 5000])
def test_the_most_streams_that_are_held_are_found_to_a_tenth(most: int) -> None:
    lines: list[str] = []
    best = serving.most_streams(lambda streams: held_up_to(most, streams), lines.append)
    assert 0.9 * min(most, serving.MOST / 2) <= best.streams <= most
    assert any("too late" in line for line in lines) == (most < serving.MOST / 2)


def test_a_machine_that_is_too_slow_is_said() -> None:
    with pytest.raises(BenchmarkError, match="does not hold a stream; take a smaller model"):
        serving.most_streams(lambda streams: held_up_to(0, streams), lambda line: None)


def test_streams_that_a_server_holds_are_counted(
    speech_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "TRIAL_SECONDS", 0.3)
    monkeypatch.setattr(serving, "WARM_SECONDS", 0.1)
    monkeypatch.setattr(serving, "P99_LIMIT", 60.0)
    monkeypatch.setattr(serving, "MOST", 32)
    lines: list[str] = []
    sound = serving.sound_of(ROOT / "samples", 16000)
    trial_of = serving.engine_trials(asr.load(speech_model), sound)
    held = serving.most_streams(trial_of, lines.append)
    assert held.streams == 16 and held.p50 <= held.p95 <= held.p99
    assert held.processor and "streams a core" in str(held)
    assert [int(line.split()[0]) for line in lines] == [8, 16]
    # What a smaller trial takes was there before: the figure is that of the largest.
    assert held.memory and 0.5 * held.memory < (trial_of(4).memory or 0.0) < 2.0 * held.memory


@pytest.mark.slow
def test_streams_that_a_server_holds_over_the_network_are_counted(
    speech_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "TRIAL_SECONDS", 0.3)
    monkeypatch.setattr(serving, "WARM_SECONDS", 0.1)
    model, sound = asr.load(speech_model), serving.sound_of(ROOT / "samples", 16000)
    with serving.served(speech_model, 1) as url:
        trial = serving.network_trial(url, model, sound, 3)
    assert trial.streams == 3 and 0.0 < trial.p50 <= trial.p99 and trial.processor is None
    with (
        pytest.raises(BenchmarkError, match="did not start: error: "),
        serving.served(Path("no-such-model.onnx"), 1),
    ):
        pass
