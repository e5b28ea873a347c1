"""The acoustic model: waveform in, log-probabilities out, the same code for training and export."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.phonemes import SOUNDS
from asr.training.network.cells.cell import State
from asr.training.network.encoders import Encoder, EncoderConfig, EncoderConfigError
from asr.training.network.heads import ClassifyHead, CtcHead, HeadConfig, HeadConfigError
from features.augment import AugmentConfig, spec_augment
from features.mfcc import Mfcc, MfccConfig

CACHED_ROWS = 4  # whose spectra stay in the processor's cache on their way from samples to features


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """All settings that shape the network; the labels are known once the data is read."""

    head: HeadConfig
    mfcc: MfccConfig = field(default_factory=MfccConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self) -> None:
        bands = self.encoder.parts.bands
        frame_length = self.mfcc.hop_length * self.encoder.subsample
        if frame_length % self.head.upsample:
            raise HeadConfigError(
                f"head.upsample {self.head.upsample} must divide the {frame_length} samples of "
                "an encoder frame (mfcc.hop_length * encoder.subsample)"
            )
        if self.mfcc.n_mfcc < bands:
            raise EncoderConfigError(
                f"mfcc.n_mfcc {self.mfcc.n_mfcc} must be at least {bands}, the frequency bands of "
                f"encoder.kind = '{self.encoder.kind}'"
            )
        block = self.encoder.block * self.encoder.subsample * self.mfcc.hop_length
        seconds = block / self.mfcc.sample_rate
        if self.head.kind == "lm" and (self.encoder.parts.bidirectional or bands > 1):
            raise EncoderConfigError(
                f"encoder.kind = '{self.encoder.kind}' cannot be a language model, which reads "
                "label by label in one direction; take 'lstm', for example"
            )
        if self.head.kind == "classify" and self.head.window < seconds:
            raise HeadConfigError(
                f"head.window {self.head.window:g} s must not be shorter than a block of "
                f"{seconds:g} s (encoder.block)"
            )


class AcousticModel(nn.Module):
    """Mfcc -> normalisation -> stem -> encoder -> head.

    A stream starts in silence: the model pads zeros before the first sample so that encoder frame
    t ends exactly with sample (t + 1) * frame_length, and zeros follow the last.
    All lengths below are in samples unless they say frames.
    """

    foundation = ("stem.first.weight", "mean")
    mean: Tensor
    scale: Tensor

    def __init__(self, config: ModelConfig, labels: int) -> None:
        super().__init__()
        self.config = config
        self.mfcc = Mfcc(config.mfcc)
        self.register_buffer("mean", torch.zeros(config.mfcc.coefficients))
        self.register_buffer("scale", torch.ones(config.mfcc.coefficients))
        stem_width = config.encoder.stem_channels
        self.stem = config.encoder.parts.stem(config.mfcc, stem_width, config.encoder.subsample)
        self.encoder = Encoder(stem_width, config.encoder)
        width = config.encoder.width
        if config.head.kind == "ctc":
            self.head = CtcHead(width, labels, config.head)
            sounds = len(SOUNDS) if config.head.phonemes else 0
            self.sounds = CtcHead(width, sounds, config.head) if sounds else None
        else:
            self.head = ClassifyHead(width, labels, config.head, config.encoder.pooling_heads)

    @property
    def streaming(self) -> bool:
        """True if the encoder runs block by block."""
        return self.encoder.latency.block > 0

    @property
    def frame_length(self) -> int:
        """Distance between two encoder frames."""
        return self.config.mfcc.hop_length * self.config.encoder.subsample

    @property
    def hop_length(self) -> int:
        """Distance between two frames of the output."""
        return self.frame_length // self.config.head.upsample

    @property
    def block_length(self) -> int:
        """Samples per step of a stream."""
        return self.encoder.latency.block * self.frame_length

    @property
    def look_ahead(self) -> int:
        """Delay of a stream's output behind its input."""
        return self.encoder.look_ahead * self.frame_length

    @property
    def context(self) -> int:
        """Past samples that an encoder frame sees beyond its own hop."""
        frames = self.stem.context - self.config.encoder.subsample
        return (frames - 1) * self.config.mfcc.hop_length + self.config.mfcc.context_length

    @property
    def window_frames(self) -> int:
        """Encoder frames that a streaming classifier pools over."""
        seconds = self.config.head.window
        return math.ceil(seconds * self.config.mfcc.sample_rate / self.frame_length)

    @property
    def history_frames(self) -> int:
        """Encoder frames that a streaming classifier keeps from block to block."""
        return self.window_frames - self.encoder.latency.block

    def features(self, waveforms: Tensor) -> Tensor:
        """[batch, samples] -> normalised features [batch, frames, coefficients]."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return (self.mfcc(waveforms) - self.mean) * self.scale

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor | None,
        augment: AugmentConfig | None = None,
        wanted: Tensor | None = None,
        sounds: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Score a padded batch.

        waveforms: [batch, samples] float32, zeros from `lengths` on; lengths: [batch] samples, or
        None if nothing is padded. Returns log-probabilities [batch, frames, labels] (ctc) or
        [batch, 1, labels] (classify) and the number of valid frames.
        `augment` masks features for training.
        wanted: [batch] the label that a classifier should give to every window of a stream, or -1:
        it answers for the window that has this label least, or for the last one.
        sounds: behind the labels of letters, score those of phonemes.
        """
        frame_lengths = None if lengths is None else -(-lengths // self.frame_length)
        output_lengths = None if lengths is None else -(-lengths // self.hop_length)
        if self.streaming:
            scores = self._forward_blocks(waveforms, frame_lengths, augment, wanted, sounds)
            return scores, output_lengths
        padded = functional.pad(waveforms, (self.context, self.frame_length - 1))
        frames = self.stem(self._features(padded, frame_lengths, augment))
        hidden = self.encoder.whole(frames, frame_lengths)
        if isinstance(self.head, CtcHead):
            # Not -(-samples // hop_length): a graph rounds quotients towards zero.
            count = (waveforms.shape[1] + self.hop_length - 1) // self.hop_length
            return self._read(hidden, sounds)[:, :count], output_lengths
        return self.head(self.head.weigh(hidden), frame_lengths), output_lengths

    def _forward_blocks(
        self,
        waveforms: Tensor,
        frame_lengths: Tensor | None,
        augment: AugmentConfig | None,
        wanted: Tensor | None,
        sounds: bool,
    ) -> Tensor:
        """The whole stream in one call: exactly the blocks that `step` would be given."""
        batch, samples = waveforms.shape
        count = -(-(samples + self.look_ahead) // self.block_length)
        padded = functional.pad(waveforms, (self.context, count * self.block_length - samples))
        frames = self.stem(self._features(padded, frame_lengths, augment))
        hidden, _ = self.encoder.blocks(frames, self.encoder.initial_state(batch, frames))
        if isinstance(self.head, CtcHead):
            first = self.look_ahead // self.hop_length
            end = first - (-samples // self.hop_length)
            return self._read(hidden, sounds)[:, first:end]
        weighed = self.head.weigh(hidden)
        if wanted is not None and frame_lengths is not None:
            padded = functional.pad(weighed, (0, 0, self.history_frames, 0))
            answers = self.head.slide(padded, self.window_frames, self.encoder.latency.block)
            return self._worst_window(answers, frame_lengths, wanted)
        return self.head(self._last_window(weighed, frame_lengths), None)

    def _read(self, hidden: Tensor, sounds: bool) -> Tensor:
        """Hidden [batch, frames, width] -> log-probabilities of letters, then of phonemes."""
        if not sounds or self.sounds is None:
            return self.head(hidden)
        return torch.cat([self.head(hidden), self.sounds(hidden)], dim=-1)

    def _last_window(self, weighed: Tensor, frame_lengths: Tensor | None) -> Tensor:
        """The frames that a streaming classifier pools over in the block that ends an utterance."""
        padded = functional.pad(weighed, (0, 0, self.window_frames, 0))
        if frame_lengths is None:
            return padded[:, -self.window_frames :]
        ends = self._blocks(frame_lengths) * self.encoder.latency.block
        index = ends[:, None] + torch.arange(self.window_frames, device=weighed.device)
        return padded.gather(1, index.unsqueeze(-1).expand(-1, -1, weighed.shape[-1]))

    def _blocks(self, frame_lengths: Tensor) -> Tensor:
        """Up to which block each utterance goes."""
        return -(-(frame_lengths + self.encoder.look_ahead) // self.encoder.latency.block)

    def _worst_window(self, answers: Tensor, frame_lengths: Tensor, wanted: Tensor) -> Tensor:
        """Of the answers [batch, blocks, labels], for each row the one that is least what is
        wanted, or where nothing is the last [batch, 1, labels].

        Training by the worst is hard negative mining inside a recording; Sun et al. (2016) choose
        the best frame of a keyword the same way.
        """
        last = self._blocks(frame_lengths) - 1
        label = wanted.clamp(min=0)[:, None, None].expand(-1, answers.shape[1], 1)
        score = answers.detach().gather(2, label).squeeze(2)
        beyond = torch.arange(answers.shape[1], device=answers.device) > last[:, None]
        worst = score.masked_fill(beyond, torch.inf).argmin(dim=1)
        chosen = torch.where(wanted < 0, last, worst)
        return answers.gather(1, chosen[:, None, None].expand(-1, 1, answers.shape[2]))

    def _features(
        self, padded: Tensor, frame_lengths: Tensor | None, augment: AugmentConfig | None
    ) -> Tensor:
        if augment is None or frame_lengths is None:
            return self.features(padded)
        features = torch.cat([self.features(rows) for rows in padded.split(CACHED_ROWS)])
        return spec_augment(features, frame_lengths * self.config.encoder.subsample, augment)

    def initial_state(self, batch: int, like: Tensor) -> State:
        """The zeros that a stream starts from, by the names they have in an exported model.

        tail: [batch, context] samples before the next; then the state of the encoder; history:
        [batch, history_frames, ...] weighed frames, classifiers only.
        """
        state = {"tail": like.new_zeros(batch, self.context)}
        state |= self.encoder.initial_state(batch, like)
        if isinstance(self.head, ClassifyHead):
            silence = like.new_zeros(batch, self.history_frames, self.config.encoder.width)
            state["history"] = torch.zeros_like(self.head.weigh(silence))
        return state

    def step(self, pcm: Tensor, state: State) -> tuple[Tensor, State]:
        """The next blocks of a stream, the function that export writes out.

        pcm: [batch, count * block_length]; state: that of `initial_state` at first. Returns
        log-probabilities [batch, count * block * upsample, labels] (ctc) or, for the window that
        ends with each block, [batch, count, labels] (classify), and the next state.
        """
        samples = torch.cat([state["tail"], pcm], dim=1)
        frames = self.stem(self.features(samples))
        hidden, following = self.encoder.blocks(frames, state)
        following["tail"] = samples[:, samples.shape[1] - self.context :]
        if isinstance(self.head, CtcHead):
            return self._read(hidden, sounds=True), following
        weighed = torch.cat([state["history"], self.head.weigh(hidden)], dim=1)
        following["history"] = weighed[:, weighed.shape[1] - self.history_frames :]
        return self.head.slide(weighed, self.window_frames, self.encoder.latency.block), following
