"""Earshot on the device: one ONNX file hears keywords or writes speech down.

    import asr
    model = asr.load("english")
    print(model.transcribe("meeting.wav").text)

Runs on numpy and onnxruntime, opens no socket and writes no file.
"""

import os
from typing import TYPE_CHECKING

# onnxruntime reads this once, when it is imported; a program that listens must not phone home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from asr.events import Detection, Event, NearMiss, Partial, Utterance, Word

if TYPE_CHECKING:
    from asr.model import Model

__version__ = "0.1.0"

__all__ = ["Detection", "Event", "NearMiss", "Partial", "Utterance", "Word", "load"]


def load(model: "str | os.PathLike[str]") -> "Model":
    """Open a bundled model by its name, or any model by the path of its .onnx file.

    Raises ModelError if there is no such model, CardError if its card cannot be trusted.
    """
    from asr.model import load

    return load(model)
