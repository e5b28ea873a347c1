"""What a command says if it cannot be carried out."""

import contextlib
from collections.abc import Iterator

from features.errors import EarshotError

TRAINING_PACKAGES = {"torch", "torchaudio", "librosa", "onnx", "onnxscript", "jiwer", "matplotlib"}


class CommandError(EarshotError):
    """The command cannot be carried out as it was given."""


@contextlib.contextmanager
def training_packages(extra: str = "train") -> Iterator[None]:
    """Say which extra installs the training packages if one of them turns out to be missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in TRAINING_PACKAGES:
            raise
        raise CommandError(
            f'{package} is not installed; get what this needs: pip install "earshot[{extra}]"'
        ) from None
