"""Recipes that train in seconds on synthetic words, for tests of all that comes after."""

from pathlib import Path

from tests.support.synthetic_speech import write_manifest, write_noise, write_words

SPEAKERS = range(16)
EXACT = ("optimisation.precision=fp32",)  # for runs that are compared to the bit
SENTENCES = ("yes", "no", "stop left", "left yes", "no stop", "yes no left")

OPTIMISATION = """
[model.encoder]
stem_channels = 24
hidden = 24
layers = 1
dropout = 0.05

[augment]
room = 0.0
telephone = 0.0
noise_snr = [10.0, 30.0]
time_mask_frames = 6

[optimisation]
epochs = 16
batch_seconds = 8.0
learning_rate = 5e-3
evaluate_every = 30
ema = 0.9
workers = 1
"""

NOISE = """
[[data.sources]]
path = "{folder}/noise"
name = "Noises"
kind = "noise"
licence = "CC0"
attribution = "a machine"
"""

WORDS = """
name = "words"
out = "{folder}/runs"
data.cache = "{folder}/cache"
data.epoch_seconds = 0
data.unknown = 0

[model.head]
kind = "classify"
labels = ["yes", "no", "stop", "left"]

[[data.sources]]
path = "{folder}/words"
name = "Words"
licence = "CC0"
attribution = "a machine"
speaker = '([0-9a-f]{{8}})_nohash'
validation = 25
"""

SPEECH = """
name = "speech"
out = "{folder}/runs"
data.cache = "{folder}/cache"
data.epoch_seconds = 0

[model.head]
kind = "ctc"

[[data.sources]]
path = "{folder}/speech/manifest.jsonl"
name = "Sentences"
licence = "CC0"
attribution = "a machine"
speaker = "{{speaker}}"
validation = 25
"""


def write_words_recipe(folder: Path) -> Path:
    """Write clips of single words, noises, and a recipe of a classifier for them; return it."""
    write_words(folder / "words", SPEAKERS)
    return _write(folder, "words", WORDS)


def write_speech_recipe(folder: Path) -> Path:
    """Write short sentences, noises, and a recipe of a recogniser for them; return it."""
    write_manifest(folder / "speech", SPEAKERS, SENTENCES)
    return _write(folder, "speech", SPEECH)


def _write(folder: Path, name: str, text: str) -> Path:
    write_noise(folder / "noise")
    path = folder / f"{name}.toml"
    path.write_text((text + NOISE + OPTIMISATION).format(folder=folder))
    return path
