"""Earshot on the device: one ONNX file recognises keywords or transcribes speech.

    import asr
    model = asr.load("english")
    print(asr.transcribe(model, "meeting.wav").text)

Runs on numpy and onnxruntime, opens no socket and writes no file.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# onnxruntime reads this once, when it is imported; a program that listens must not phone home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from asr.card import CardError
    from asr.decode.base import DecodeError
    from asr.decode.keywords.typed import Keyword, SpotOptions
    from asr.decode.options import DecodeOptions
    from asr.events import Detection, Event, NearMiss, Partial, Utterance, Word
    from asr.microphone import (
        InputDevice,
        Microphone,
        MicrophoneError,
        Playback,
        input_devices,
    )
    from asr.model import Model, ModelError, load
    from asr.recognise import Transcript, spot, transcribe
    from asr.stream import Stream, StreamError
    from features.audio import AudioError
    from features.errors import EarshotError

__version__ = "0.1.0"

# Where each public name is defined. A module is imported when a name of it is first used: what only
# shows its version, or only a name, waits for neither numpy nor onnxruntime.
_HOMES = {
    "asr.card": ("CardError",),
    "asr.decode.base": ("DecodeError",),
    "asr.decode.keywords.typed": ("Keyword", "SpotOptions"),
    "asr.decode.options": ("DecodeOptions",),
    "asr.events": ("Detection", "Event", "NearMiss", "Partial", "Utterance", "Word"),
    "asr.microphone": (
        "InputDevice",
        "Microphone",
        "MicrophoneError",
        "Playback",
        "input_devices",
    ),
    "asr.model": ("Model", "ModelError", "load"),
    "asr.recognise": ("Transcript", "spot", "transcribe"),
    "asr.stream": ("Stream", "StreamError"),
    "features.audio": ("AudioError",),
    "features.errors": ("EarshotError",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AudioError",
    "CardError",
    "DecodeError",
    "DecodeOptions",
    "Detection",
    "EarshotError",
    "Event",
    "InputDevice",
    "Keyword",
    "Microphone",
    "MicrophoneError",
    "Model",
    "ModelError",
    "NearMiss",
    "Partial",
    "Playback",
    "SpotOptions",
    "Stream",
    "StreamError",
    "Transcript",
    "Utterance",
    "Word",
    "input_devices",
    "load",
    "spot",
    "transcribe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value  # the next use finds it at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
