"""Plugins for Open Voice OS: any wake word that a model can spell or was trained on, and speech to
text. Found by the entry points `opm.wake_word` and `opm.stt`; needs earshot-asr[ovos].

    "hotwords": {"hey_lamp": {"module": "earshot-ww-plugin", "model": "english", "threshold": 0.7}}
    "stt": {"module": "earshot-stt-plugin", "earshot-stt-plugin": {"model": "english"}}
"""

from typing import Any

import numpy as np
from ovos_plugin_manager.templates.hotwords import (  # pyright: ignore[reportMissingImports]
    HotWordEngine,
)
from ovos_plugin_manager.templates.stt import STT  # pyright: ignore[reportMissingImports]

from asr.decode.keywords.typed import Keyword, SpotOptions
from asr.decode.options import DecodeOptions
from asr.events import Detection
from asr.model import load
from asr.recognise import transcribe
from asr.stream import Stream
from features.audio import Resampler, from_int16

LISTENER_RATE = 16000  # Hz; 16-bit mono, as the listener records it


class EarshotWakeWord(HotWordEngine):
    """A wake word. config: `model`, and `threshold` if not that of the model's card."""

    def __init__(
        self, key_phrase: str, config: dict[str, Any] | None = None, lang: str = "en-us"
    ) -> None:
        super().__init__(key_phrase, config)
        model = load(self.config.get("model", "english"))
        word = Keyword(self.key_phrase.replace("_", " "), self.config.get("threshold"))
        self._stream = Stream(model, SpotOptions(keywords=(word,)))
        self.reset()

    def update(self, chunk: bytes) -> None:
        """Take 16-bit samples."""
        samples = from_int16(np.frombuffer(chunk, "<i2"))
        events = self._stream.push(self._resampler.push(samples))
        self._found |= any(isinstance(event, Detection) for event in events)

    def found_wake_word(self, *_: Any) -> bool:
        """Whether it was said since the last call that returned True."""
        found, self._found = self._found, False
        return found

    def reset(self) -> None:
        """Go back to the initial state."""
        self._stream.reset()
        self._resampler = Resampler(LISTENER_RATE, self._stream.card.sample_rate)
        self._found = False


class EarshotSTT(STT):
    """Speech to text. config: `model`, and `lm`, `words`, `hotword` and others of DecodeOptions."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        options = dict(self.config)
        self._model = load(options.pop("model", "english"))
        known = DecodeOptions.__dataclass_fields__ & options.keys()  # the rest is the manager's own
        values: dict[str, Any] = {name: options[name] for name in known}
        for name, value in values.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        self._options = DecodeOptions(**values)

    def execute(self, audio: Any, language: str | None = None) -> str:
        """Return the text of an utterance; `audio` is an AudioData of the plugin manager."""
        samples = np.frombuffer(audio.get_raw_data(convert_width=2), "<i2")
        return transcribe(self._model, samples, audio.sample_rate, self._options).text

    @property
    def available_languages(self) -> set[str]:
        """The model's card does not say; the bundled ones know English."""
        return {"en"}
