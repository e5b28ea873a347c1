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
        x = functional.relu(self.first_norm(_convolve(features, self.first)))
        return functional.relu(self.second_norm(_convolve(x, self.second)))


def _convolve(frames: Tensor, convolution: nn.Conv1d) -> Tensor:
    """[batch, frames, channels] -> the same, convolved over time as a picture of height 1.

    A convolution of pictures takes channels that are last in memory as they are, in half the time;
    that of sequences would move them to the front and back.
    """
    picture = frames.transpose(1, 2).unsqueeze(2)
    kernel, stride = convolution.weight.unsqueeze(2), (1, *convolution.stride)
    return functional.conv2d(picture, kernel, convolution.bias, stride).squeeze(2).transpose(1, 2)
