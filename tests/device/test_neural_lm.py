"""A recurrent language model: trained, exported and fused, against torch."""

import itertools
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.card import METADATA_KEY, CardError
from asr.decode.alphabet import Alphabet
from asr.decode.base import DecodeError
from asr.decode.lm.language_model import Weights
from asr.decode.lm.neural import NeuralGuide, NeuralModel
from asr.decode.lm.ngrams import END
from asr.files import WriteError
from asr.model import ModelError, load
from asr.training.checkpoint import BEST, CheckpointError, load_checkpoint, rebuild, rebuild_any
from asr.training.config import ConfigError, read_config
from asr.training.data.corpus import load_corpus
from asr.training.data.labels import BLANK
from asr.training.data.plan import plan_epoch
from asr.training.network.language import LanguageModel
from asr.training.ngrams.perplexity import perplexity
from asr.training.pretrained import read_pretrained
from asr.training.train import train
from export.export import export
from export.parity import TOLERANCE, ParityError, check_language_parity
from tests.support import tiny_models
from tests.support.commands import run_asr
from tests.support.ctc_by_definition import check_exact, scores_of
from tests.support.tiny_models import LETTERS, SAMPLE_RATE, card, mumble

WORDS = ("b", "bc", "bca")
TEXTS = [" ".join(words) for n in (1, 2, 3) for words in itertools.product(WORDS, repeat=n)]
WEIGHTS = Weights(alpha=0.7, beta=0.4, oov=-3.0)
RECIPE = """
name = "letters"
out = "{folder}/runs"
data.epoch_seconds = 0

[model.head]
kind = "lm"
labels = [" ", "a", "b", "c"]

[model.encoder]
kind = "lstm"
block = 1
stem_channels = 8
hidden = 24
layers = 2

[optimisation]
epochs = 12
batch_seconds = 8.0
learning_rate = 3e-2
evaluate_every = 12
ema = 0.9
workers = 0

[[data.sources]]
path = "{folder}/texts.txt"
kind = "text"
name = "Letters"
licence = "CC0"
attribution = "nobody"
validation = 25
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and its file, runs/letters and letters.onnx: in all texts each word begins with b."""
    folder = tmp_path_factory.mktemp("letters")
    (folder / "texts.txt").write_text("\n".join(TEXTS).upper() + "\n\n")
    recipe = folder / "letters.toml"
    recipe.write_text(RECIPE.format(folder=folder))
    train(recipe, [], False)
    export(folder / "runs/letters", folder / "letters.onnx")
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> LanguageModel:
    path = folder / "runs/letters" / BEST
    model = rebuild_any(load_checkpoint(path), path)[2]
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture(scope="module")
def exported(folder: Path) -> NeuralModel:
    return NeuralModel(folder / "letters.onnx")


def followers(trained: LanguageModel, exported: NeuralModel, text: str) -> torch.Tensor:
    """log p of what follows each beginning of a text, (length + 1, labels), by torch."""
    numbers = [exported.card.labels.index(letter) for letter in text]
    with torch.no_grad():
        return trained(torch.tensor([[0, *numbers]]), None)[0][0].double()


def log_probability(trained: LanguageModel, exported: NeuralModel, text: str) -> float:
    numbers = [*(exported.card.labels.index(letter) for letter in text), 0]
    rows = followers(trained, exported, text)
    return float(rows[torch.arange(len(numbers)), numbers].sum())


# Training


def test_training_reaches_the_perplexity_of_the_texts(folder: Path, exported: NeuralModel) -> None:
    lines = (folder / "runs/letters/metrics.jsonl").read_text().splitlines()
    figures = [json.loads(line) for line in lines]
    assert (folder / "runs/letters/curves.png").stat().st_size > 0
    best = min(entry["perplexity"] for entry in figures)
    assert best < 2.2 < len(exported.card.labels)  # the choice of words and ends alone is 1.5
    assert exported.card.metrics["perplexity"] == best
    held_out = load_corpus(read_config(folder / "letters.toml", [])).validation
    assert 0 < len(held_out) < len(TEXTS)
    found, known, unknown = perplexity(exported, [list(e.recording.text) for e in held_out])
    assert (known, unknown) == (sum(len(e.recording.text) + 1 for e in held_out), 0)
    assert found == pytest.approx(best, rel=0.01)  # training validates in bfloat16
    result = run_asr("lm", "perplexity", folder / "letters.onnx", folder / "texts.txt")
    assert 1.3 < float(result.stdout.split()[1]) < 2.2, result.stderr


def test_the_weights_of_a_file_are_those_that_were_trained(
    trained: LanguageModel, exported: NeuralModel
) -> None:
    model = read_pretrained(Path(exported.path))[0]
    assert isinstance(model, LanguageModel)
    torch.testing.assert_close(model.state_dict(), trained.state_dict(), rtol=0, atol=0)


def test_equal_texts_are_on_the_same_side_and_all_are_drawn(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS * 3))
    text = RECIPE.format(folder=tmp_path)
    (tmp_path / "letters.toml").write_text(text)
    config = read_config(tmp_path / "letters.toml", ["model.head.labels=[]"])
    corpus = load_corpus(config)
    assert corpus.labels.names == (END, " ", "a", "b", "c")
    seen, held_out = (
        {e.recording.text for e in side} for side in (corpus.train, corpus.validation)
    )
    assert seen | held_out == set(TEXTS) and not seen & held_out
    items = [item for batch in plan_epoch(config, corpus, 0) for item in batch]
    assert sorted(i.targets for i in items) == sorted(e.targets for e in corpus.train)


def test_the_texts_of_recordings_need_no_sound(tmp_path: Path) -> None:
    entries = [
        {"audio_filepath": "gone.wav", "text": text, "speaker": speaker}
        for speaker, text in itertools.product(("ann", "bob"), TEXTS)
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, entries)))
    text = RECIPE.format(folder=tmp_path).replace("texts.txt", "texts.jsonl")
    text = text.replace('kind = "text"', 'speaker = "{speaker}"\nvalidation_speakers = ["bob"]')
    (tmp_path / "letters.toml").write_text(text)
    corpus = load_corpus(read_config(tmp_path / "letters.toml", []))
    assert {e.recording.speaker for e in corpus.train} == {"ann"}
    assert {e.recording.speaker for e in corpus.validation} == {"bob"}
    assert len(corpus.train) == len(corpus.validation) == len(TEXTS)


@pytest.mark.slow
def test_a_resumed_training_ends_where_a_whole_one_does(folder: Path) -> None:
    recipe = folder / "letters.toml"
    short = ["optimisation.epochs=4", "optimisation.evaluate_every=3"]
    train(recipe, [*short, "name=whole"], False)
    obstacle = folder / "runs/cut/curves.png"
    obstacle.mkdir(parents=True)
    with pytest.raises(
        WriteError, match=r"curves\.png: cannot be written .* continue with --resume"
    ):
        train(recipe, [*short, "name=cut"], False)
    obstacle.rmdir()
    train(recipe, [*short, "name=cut"], True)
    whole, cut = (load_checkpoint(folder / f"runs/{name}/last.pt") for name in ("whole", "cut"))
    for name, weights in whole["averaged"].items():
        assert torch.equal(weights, cut["averaged"][name])


def test_settings_that_fit_no_language_model_are_refused(folder: Path, tmp_path: Path) -> None:
    recipe = folder / "letters.toml"
    for override, complaint in [
        ("model.encoder.kind=bilstm", "'bilstm' cannot be a language model"),
        ("model.encoder.kind=convlstm", "'convlstm' cannot be a language model"),
        ("model.head.kind=ctc", "source Letters: a text has no sound"),
    ]:
        with pytest.raises(ConfigError, match=complaint):
            read_config(recipe, [override])
    text = recipe.read_text().replace("texts.txt", "none.txt")
    (tmp_path / "none.toml").write_text(text)
    result = run_asr("train", tmp_path / "none.toml", f"out={tmp_path}")
    (line,) = result.stderr.splitlines()
    assert "none.txt: cannot be read as text, one a line" in line and result.returncode == 2


# Export


def test_another_graph_is_refused(trained: LanguageModel, exported: NeuralModel) -> None:
    assert check_language_parity(trained, exported) <= TOLERANCE
    other = LanguageModel(trained.config, len(exported.card.labels)).eval()
    with pytest.raises(ParityError, match="letters: log-probabilities of the exported graph"):
        check_language_parity(other, exported)


def test_a_run_of_a_language_model_is_no_acoustic_model(folder: Path) -> None:
    path = folder / "runs/letters" / BEST
    with pytest.raises(CheckpointError, match="is a language model"):
        rebuild(load_checkpoint(path), path)
    out = folder / "int8.onnx"
    result = run_asr("export", folder / "runs/letters", out, "--int8")
    assert "no latency and no int8" in result.stderr and not out.exists()


# Fusion


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=3), max_size=4))
def test_what_is_added_is_the_probability_of_the_text(
    trained: LanguageModel, exported: NeuralModel, words: list[str]
) -> None:
    text = " ".join(words)
    expected = 0.7 * log_probability(trained, exported, text) + 0.4 * max(1, len(words))
    alphabet = Alphabet.of(card("ctc", LETTERS))
    for said in {text, text + " " * bool(text)}:
        guide = NeuralGuide(alphabet, exported, WEIGHTS)
        state, total = guide.start(), 0.0
        for label in (LETTERS.index(letter) for letter in said):
            total += guide.rows([state])[0, label]
            state = guide.advance(state, label)
        assert total + guide.final(state) == pytest.approx(expected, abs=1e-4)


def test_the_beam_finds_the_best_of_all_texts(
    trained: LanguageModel, exported: NeuralModel
) -> None:
    alphabet = Alphabet.of(card("ctc", (BLANK, "c", " ", "b")))
    guide = NeuralGuide(alphabet, exported, WEIGHTS)

    def score(text: str) -> float:
        return 0.7 * log_probability(trained, exported, text) + 0.4 * len(text.split())

    for seed in range(4):
        check_exact(alphabet, scores_of(seed, frames=5), guide, score, tolerance=1e-4)


def test_an_unknown_letter_scores_as_the_least_likely(
    trained: LanguageModel, exported: NeuralModel
) -> None:
    """It costs oov, is as likely as the least likely label, and nothing follows from it."""
    labels = (BLANK, " ", "b", "c", "z")
    guide = NeuralGuide(Alphabet.of(card("ctc", labels)), exported, WEIGHTS)
    state, total = guide.start(), 0.0
    for label in map(labels.index, "b zc"):
        total += guide.rows([state])[0, label]
        state = guide.advance(state, label)
    unknown = 0.7 * float(followers(trained, exported, "b ")[-1].min()) - 3.0
    expected = 0.7 * log_probability(trained, exported, "b c") + 2 * 0.4 + unknown
    assert total + guide.final(state) == pytest.approx(expected, abs=1e-4)


def test_a_text_is_computed_once_however_it_is_reached(exported: NeuralModel) -> None:
    start = exported.start
    exported.log_probs([start])
    grown = [start.grow(label) for label in (1, 2, 1, 3)]
    assert grown[0] is grown[2]
    together = exported.log_probs(grown)
    kept = [text.log_probs for text in grown]
    assert np.array_equal(together, exported.log_probs(grown))
    assert all(a is b.log_probs for a, b in zip(kept, grown, strict=True))
    alone = [exported.log_probs([exported.start.grow(label)])[0] for label in (1, 2, 1, 3)]
    assert np.allclose(together, alone, atol=1e-6)
    assert exported.start is not start  # nothing is kept beyond an utterance


def test_a_pickled_model_gives_the_same_perplexity(exported: NeuralModel) -> None:
    copy = pickle.loads(pickle.dumps(exported))
    assert perplexity(copy, [list("bc bca")]) == perplexity(exported, [list("bc bca")])


@pytest.mark.slow
def test_the_commands_take_it_as_any_language_model(folder: Path, tmp_path: Path) -> None:
    """The sound is a hair nearer to "a", which begins no word."""
    model, lm = tiny_models.streaming_ctc(tmp_path / "speech.onnx"), folder / "letters.onnx"
    soundfile.write(tmp_path / "b.wav", mumble(), SAMPLE_RATE)
    manifest, figures = tmp_path / "manifest.jsonl", tmp_path / "figures.json"
    manifest.write_text(json.dumps({"audio_filepath": "b.wav", "text": "b", "speaker": "ann"}))
    wav = tmp_path / "b.wav"
    assert run_asr("transcribe", wav, "-m", model).stdout == "a\n"
    result = run_asr("transcribe", wav, wav, "-m", model, "--lm", lm, "--jobs", "2")
    assert result.stdout.split("\n")[0].endswith("b"), result.stderr
    result = run_asr("lm", "tune", model, manifest, "--lm", lm, "--no-halves", "--json", figures)
    assert result.returncode == 0, result.stderr
    report = json.loads(figures.read_text())["report"]
    assert (report["greedy"]["wer"], report["tuned"]["wer"]) == (1.0, 0.0)


# Files that do not fit


def test_another_alphabet_is_refused(exported: NeuralModel) -> None:
    for labels in [(BLANK, "x", "y", " "), (BLANK, "yes", "no"), (BLANK, "A", "B", "C")]:
        with pytest.raises(DecodeError, match=r"letters\.onnx: the labels .* spell only [01] of"):
            NeuralGuide(Alphabet.of(card("ctc", labels)), exported, WEIGHTS)


def test_acoustic_and_language_models_are_not_mistaken_for_each_other(
    folder: Path, tmp_path: Path
) -> None:
    lm, model = folder / "letters.onnx", tiny_models.streaming_ctc(tmp_path / "speech.onnx")
    with pytest.raises(CardError, match=r"letters\.onnx: is a language model, .* with --lm"):
        load(lm)
    with pytest.raises(CardError, match=r"speech\.onnx: .*is no language model"):
        NeuralModel(model)
    for damaged, content in [("cut.onnx", lm.read_bytes()[:300]), ("text.onnx", b"\\data\\\n")]:
        (tmp_path / damaged).write_bytes(content)
        with pytest.raises(ModelError, match=f"{damaged}: cannot be opened as an ONNX model"):
            NeuralModel(tmp_path / damaged)
    result = run_asr("transcribe", "samples", "-m", model, "--lm", tmp_path / "none.onnx")
    (line,) = result.stderr.splitlines()
    assert "none.onnx" in line and result.returncode == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda card: card["labels"].pop(), r"log_probs must be \[batch, 4\]"),
        (lambda card: card.pop("licence"), "its model card lacks licence"),
        (lambda card: card.update(blank=0), "its model card has unknown fields blank"),
        (lambda card: card.update(labels=[END, "a", "a", "b", "c"]), "without repeats"),
        (lambda card: card.update(precision="fp8"), 'precision "fp8" is none of'),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, change: Callable[[dict], object], complaint: str
) -> None:
    proto = onnx.load(folder / "letters.onnx")
    (entry,) = (item for item in proto.metadata_props if item.key == METADATA_KEY)
    card = json.loads(entry.value)
    change(card)
    entry.value = json.dumps(card)
    onnx.save(proto, tmp_path / "x.onnx")
    with pytest.raises(CardError, match=complaint) as raised:
        NeuralModel(tmp_path / "x.onnx")
    assert str(raised.value).startswith(str(tmp_path / "x.onnx"))
