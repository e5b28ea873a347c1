"""The recurrent language model: which label comes next, from all before it in a text.

After Mikolov et al., "Recurrent neural network based language model" (Interspeech 2010). It is the
encoder and the head of the acoustic model behind an embedding in place of the ears, so that its
cells, settings and training are the same.
"""

from torch import Tensor, nn

from asr.training.network.acoustic import ModelConfig
from asr.training.network.cells.cell import State
from asr.training.network.encoders import Encoder
from asr.training.network.heads import CtcHead
from features.augment import AugmentConfig


class LanguageModel(nn.Module):
    """Embedding -> encoder -> head. Label 0 stands for the beginning and the end of a text."""

    foundation = ("embedding.weight",)

    def __init__(self, config: ModelConfig, labels: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(labels, config.encoder.stem_channels)
        self.encoder = Encoder(config.encoder.stem_channels, config.encoder)
        self.head = CtcHead(config.encoder.width, labels, config.head)

    def forward(
        self, labels: Tensor, lengths: Tensor | None, augment: AugmentConfig | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Score padded texts, as the acoustic model does sound; there is nothing to augment.

        labels: [batch, length], each row beginning with 0. Returns the log-probabilities of what
        follows each, [batch, length, labels], and `lengths`.
        """
        embedded = self.embedding(labels)
        state = self.encoder.initial_state(labels.shape[0], embedded)
        return self.head(self.encoder.blocks(embedded, state)[0]), lengths

    def initial_state(self, batch: int) -> State:
        """The zeros before a text, [batch, layers, hidden] each."""
        return self.encoder.initial_state(batch, self.embedding.weight)

    def step(self, labels: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one label [batch, 1]: log-probabilities of the next, [batch, labels], and the next
        state. The function that export writes out."""
        hidden, following = self.encoder.blocks(self.embedding(labels), state)
        return self.head(hidden).squeeze(1), following
