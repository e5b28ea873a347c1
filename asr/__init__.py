"""Earshot on the device: one ONNX file recognises keywords or transcribes speech.

    import asr
    model = asr.load("english")
    print(asr.transcribe(model, "meeting.wav").text)

    stream = asr.Stream(asr.load("commands"))
    with asr.Microphone(stream.card.sample_rate) as microphone:
        for block in microphone:
            for event in stream.push(block):
                print(event)

Runs on numpy and onnxruntime, opens no socket and writes no file.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# onnxruntime reads this once, when it is imported; a program that listens must not phone home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from asr.card import CardError, ModelCard
    from asr.decode.base import DecodeError
    from asr.decode.keywords.typed import Keyword, SpotOptions
    from asr.decode.options import DecodeOptions
    from asr.events import (
        Alternative,
        Character,
        Detection,
        Event,
        NearMiss,
        Partial,
        Utterance,
        Word,
    )
    from asr.microphone import (
        InputDevice,
        Microphone,
        MicrophoneError,
        Playback,
        input_devices,
    )
    from asr.model import Model, bundled_models, load
    from asr.recognise import Transcript, listen, spot, transcribe
    from asr.runtime.samples import StreamError
    from asr.runtime.session import ModelError
    from asr.stream import Stream
    from features.audio import AudioError
    from features.errors import EarshotError

__version__ = "0.1.0"

# Where each public name is defined. A module is imported when a name of it is first used: what only
# shows its version, or only a name, waits for neither numpy nor onnxruntime.
_HOMES = {
    "asr.card": ("CardError", "ModelCard"),
    "asr.decode.base": ("DecodeError",),
    "asr.decode.keywords.typed": ("Keyword", "SpotOptions"),
    "asr.decode.options": ("DecodeOptions",),
    "asr.events": (
        "Alternative",
        "Character",
        "Detection",
        "Event",
        "NearMiss",
        "Partial",
        "Utterance",
        "Word",
    ),
    "asr.microphone": (
        "InputDevice",
        "Microphone",
        "MicrophoneError",
        "Playback",
        "input_devices",
    ),
    "asr.model": ("Model", "bundled_models", "load"),
    "asr.recognise": ("Transcript", "listen", "spot", "transcribe"),
    "asr.runtime.samples": ("StreamError",),
    "asr.runtime.session": ("ModelError",),
    "asr.stream": ("Stream",),
    "features.audio": ("AudioError",),
    "features.errors": ("EarshotError",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Alternative",
    "AudioError",
    "CardError",
    "Character",
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
    "ModelCard",
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
    "__version__",
    "bundled_models",
    "input_devices",
    "listen",
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
