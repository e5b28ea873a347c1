"""The stem: features to encoder frames."""

from torch import Tensor, nn
from torch.nn import functional

from features.mfcc import MfccConfig

KERNEL = 5


class Stem(nn.Module):
    """Two convolutions over time, the second with stride `subsample`, each normalised per frame.

    Nothing is padded: n feature frames give (n - context) // subsample + 1 encoder frames.
    width: size of an encoder frame, and channels of the convolutions.
    """

    def __init__(self, mfcc: MfccConfig, width: int, subsample: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(mfcc.coefficients, width, KERNEL)
        self.second = nn.Conv1d(width, width, KERNEL, stride=subsample)
        self.first_norm = nn.LayerNorm(width)
        self.second_norm = nn.LayerNorm(width)

    context = 2 * KERNEL - 1
    """Feature frames that one encoder frame looks at."""

    def forward(self, features: Tensor) -> Tensor:
        """[batch, frames, coefficients] -> [batch, encoder frames, width]."""
        x = self.first(features.transpose(1, 2)).transpose(1, 2)
        x = functional.relu(self.first_norm(x)).transpose(1, 2)
        x = self.second(x).transpose(1, 2)
        return functional.relu(self.second_norm(x))
