"""The training that a folder of words amounts to: every setting, with its reason."""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.card import Trigger
from asr.model import model_path
from asr.studies.own_words.materials import Materials
from asr.training.config import Config, DataConfig, OptimisationConfig, SourceConfig
from asr.training.network.acoustic import ModelConfig
from asr.training.network.encoders import EncoderConfig
from asr.training.network.heads import HeadConfig
from asr.training.pretrained import read_pretrained
from asr.training.toml import write_toml
from features.augment import AugmentConfig

BLOCK_SECONDS, LOOK_AHEAD_SECONDS = 0.18, 0.09
SCRATCH_RATE, REFINING_RATE = 2e-3, 1e-3  # learning rates
BATCH_SECONDS = 64.0
EPOCH_SECONDS = 1200.0
FEWEST_SECONDS = 20_000.0  # of sound, augmented anew each time, that the smallest set is worth
PASSES = 60  # over a larger set
UNKNOWN_SHARE, SILENCE_SHARE = 0.3, 0.1
NOTHING = "nothing"  # to start from


def recipe(
    name: str, words: Sequence[str], materials: Materials, out: Path, start: str, seconds: float
) -> Config:
    """The configuration of a classifier of words.

    start: the bundled model or .onnx file whose encoder and weights it starts from, or NOTHING.
    seconds: of recordings of the words. Raises EarshotError if `start` is of another kind.
    """
    mfcc: dict[str, Any] = {}
    if start == NOTHING:
        encoder = EncoderConfig(stem_channels=96, hidden=96, dropout=0.2)
    else:
        pretrained = read_pretrained(model_path(start))[0].config
        mfcc = {"mfcc": pretrained.mfcc}
        encoder = replace(pretrained.encoder, also=(), dropout=0.2)
    wanted = max(FEWEST_SECONDS, PASSES * seconds)
    head = HeadConfig(kind="classify", labels=tuple(words), window=materials.window, dropout=0.2)
    model = ModelConfig(head=head, encoder=encoder, **mfcc)
    return Config(
        name=name,
        out=str(out),
        model=replace(model, encoder=streaming(model)),
        data=DataConfig(
            sources=materials.sources,
            cache=str(materials.measured.parent / "cache"),  # one for all starts that are tried
            unknown=UNKNOWN_SHARE,
            silence=SILENCE_SHARE,
            join=0.5,
            epoch_seconds=EPOCH_SECONDS,
        ),
        augment=AUGMENT,
        optimisation=OptimisationConfig(
            start="" if start == NOTHING else start,
            epochs=max(1, round(wanted / max(EPOCH_SECONDS, seconds))),
            batch_seconds=BATCH_SECONDS,
            learning_rate=SCRATCH_RATE if start == NOTHING else REFINING_RATE,
            label_smoothing=0.05,
            ema=0.995,
        ),
        trigger=Trigger(threshold=0.6, smoothing=0.3, refractory=0.7),
    )


AUGMENT = AugmentConfig(
    speed=0.7,
    speed_factor=(0.8, 1.25),  # other people: higher and lower voices, faster and slower
    shift_keeps_length=True,
    shift=0.8,
    shift_fraction=0.15,
    noise_snr=(0.0, 30.0),
    voices=0.4,  # a television, or whoever talks on
    microphone=0.5,
    microphone_db=(-8.0, 8.0),
    telephone=0.2,  # lest a recording at 8 kHz be recognised by its band alone
    time_masks=1,
    time_mask_frames=10,
)


def streaming(model: ModelConfig) -> EncoderConfig:
    """The encoder at a latency that suits a keyword: a decision about every BLOCK_SECONDS."""
    encoder = model.encoder
    frame = model.mfcc.hop_length * encoder.subsample / model.mfcc.sample_rate
    look_ahead = round(LOOK_AHEAD_SECONDS / frame) if encoder.parts.bidirectional else 0
    block = max(1, round(BLOCK_SECONDS / frame))
    return replace(encoder, block=block, look_ahead=look_ahead)


def with_sources(config: Config, *sources: SourceConfig) -> Config:
    """The configuration with more to learn from."""
    data = replace(config.data, sources=(*config.data.sources, *sources))
    return replace(config, data=data)


def as_toml(config: Config) -> str:
    """The configuration as a TOML file for 'asr train'."""
    return write_toml(dataclasses.asdict(config))
