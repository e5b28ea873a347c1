"""Live sound, as blocks of float32 mono at the model's rate: a device, or a file at its pace.

    with asr.Microphone(16000) as source:      # or asr.Playback("talk.wav", 16000)
        for block in source:
            ...

Both have a `name`, count what was lost (`overruns`), say how far behind they are (`delay`) and what
the user should know (`warning`). sounddevice is imported only when a device is wanted: files need
neither it nor PortAudio.
"""

import atexit
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np

from features.audio import Resampler, stream_audio
from features.errors import EarshotError
from features.paths import shown

BLOCK_SECONDS = 0.02
DEVICE_LATENCY = 0.04  # asked of PortAudio; below this sound servers begin to drop samples
QUEUE_SECONDS = 5.0  # what may wait for a busy consumer before sound is dropped
START_SECONDS = 10.0  # sound servers and wireless headsets take their time to begin
SILENT_SECONDS = 2.0  # a device that delivers nothing for so long is gone
CLOSE_SECONDS = 2.0  # PortAudio can wait for ever for a sound server that has died
POLL_SECONDS = 0.2
NO_MICROPHONE = "no microphone found; plug one in, or allow this program to use it, and try again"


class MicrophoneError(EarshotError, OSError):
    """There is no microphone to record with, or it went away."""


@dataclass(frozen=True)
class InputDevice:
    """A device that sound can be recorded from; `sample_rate` in Hz is its own."""

    index: int
    name: str
    host_api: str
    channels: int
    sample_rate: int
    default: bool


def input_devices() -> list[InputDevice]:
    """Return the devices that can record. Raises MicrophoneError if PortAudio is missing."""
    sounddevice = sounddevice_library()
    apis = sounddevice.query_hostapis()
    default = sounddevice.default.device[0]
    return [
        InputDevice(
            index=device["index"],
            name=device["name"],
            host_api=apis[device["hostapi"]]["name"],
            channels=device["max_input_channels"],
            sample_rate=round(device["default_samplerate"]),
            default=device["index"] == default,
        )
        for device in sounddevice.query_devices()
        if device["max_input_channels"] > 0
    ]


def look_again() -> None:
    """Have devices found that came or went since PortAudio was first asked.

    No microphone may be open. Raises MicrophoneError if PortAudio is missing.
    """
    sounddevice = sounddevice_library()
    sounddevice._terminate()
    sounddevice._initialize()


def find_device(wanted: str | None) -> InputDevice:
    """Return the default device, or the one with this index, name or part of a name.

    Raises MicrophoneError if there is none, or if several fit.
    """
    devices = input_devices()
    if not devices:
        raise MicrophoneError(NO_MICROPHONE)
    if wanted is None:
        fitting = [device for device in devices if device.default] or devices[:1]
    else:
        fitting = [device for device in devices if wanted in (str(device.index), device.name)]
        fitting = fitting or [d for d in devices if wanted.lower() in d.name.lower()]
    if len(fitting) != 1:
        problem = "several input devices fit" if fitting else "there is no input device"
        names = ", ".join(f"{device.index} '{device.name}'" for device in fitting or devices)
        raise MicrophoneError(f"{problem} '{wanted}'; choose one of: {names}")
    return fitting[0]


class Microphone:
    """An open input device; iterate over it for blocks of float32 (n,) at `sample_rate`.

    Iterating again goes on where the last loop stopped; sound that came in between waited, as
    long as the queue had room.

    device: index, name or part of a name; None is the system's default.
    overruns: how often sound was lost because the consumer or the system was too slow. Sound
        waits QUEUE_SECONDS for the consumer at most.
    Raises MicrophoneError if the device cannot be opened or stops delivering.
    """

    def __init__(self, sample_rate: int, device: str | None = None) -> None:
        self.sample_rate = sample_rate
        self.device = find_device(device)
        self.name = self.device.name
        self.overruns = 0
        self._dropped = 0  # blocks that found the queue full
        self._arrived = time.monotonic()  # the newest block that was given out
        # Blocks wait here with the time of their arrival.
        limit = round(QUEUE_SECONDS / BLOCK_SECONDS)
        self._blocks: queue.Queue[tuple[float, np.ndarray]] = queue.Queue(limit)
        # What the consumer took for each of the last blocks, and when it was given the newest.
        self._busy: deque[float] = deque(maxlen=limit)
        self._given = time.monotonic()
        self._stream = self._open()
        self._resampler = Resampler(round(self._stream.samplerate), sample_rate)
        self._first: tuple[float, np.ndarray] | None = None  # proof that sound arrives

    def __enter__(self) -> Self:
        """Start the device and wait until sound arrives."""
        try:
            self._stream.start()
            self._first = self._next_block(START_SECONDS)
        except sounddevice_library().PortAudioError as error:
            self.__exit__()
            raise self._cannot_open(error) from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        closing = threading.Thread(target=self._close, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():  # the end of the program would wait for it again
            atexit.unregister(sounddevice_library()._exit_handler)

    def _close(self) -> None:
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            recorded, self._first = self._first or self._next_block(SILENT_SECONDS), None
            self._arrived, block = recorded
            mono = block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
            samples = self._resampler.push(np.ascontiguousarray(mono))
            if len(samples):
                self._given = time.monotonic()
                yield samples
                self._busy.append(time.monotonic() - self._given)

    @property
    def delay(self) -> float:
        """Seconds since the end of the newest block was in the air, as PortAudio reckons it."""
        return time.monotonic() - self._arrived + self._stream.latency

    @property
    def warning(self) -> str:
        """What the user should know of sound that was lost so far, "" if none was."""
        if self._dropped:
            busy = [*self._busy, time.monotonic() - self._given]
            pace = sum(busy) / (len(busy) * BLOCK_SECONDS)
            lost = self._dropped * BLOCK_SECONDS
            return (
                f"this machine is too slow: a second of sound takes it {pace:.2f} s, and "
                f"{lost:.2f} s were lost; close busy programs, or take a smaller model"
            )
        if self.overruns:
            return f"the system lost sound {self.overruns} times; close busy programs"
        return ""

    def _next_block(self, patience: float) -> tuple[float, np.ndarray]:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                return self._blocks.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if not self._stream.active:
                    break
        raise MicrophoneError(
            f"'{self.name}' delivers no sound; plug it in again or choose another "
            "device ('asr devices' lists them)"
        )

    def _record(self, block: np.ndarray, frames: int, time_info: Any, status: Any) -> None:
        """Copy and enqueue, nothing else: this runs in PortAudio's thread."""
        del frames, time_info
        self.overruns += bool(status.input_overflow)
        try:
            self._blocks.put_nowait((time.monotonic(), block.copy()))
        except queue.Full:
            self._dropped += 1
            self.overruns += 1

    def _open(self) -> Any:
        """Open at the model's rate in mono, or else as the device likes it."""
        sounddevice, device = sounddevice_library(), self.device
        formats = [
            (self.sample_rate, 1),
            (device.sample_rate, 1),
            (device.sample_rate, device.channels),
        ]
        problem: Exception | None = None
        for rate, channels in formats:
            try:
                return sounddevice.InputStream(
                    device=device.index,
                    samplerate=rate,
                    channels=channels,
                    blocksize=round(rate * BLOCK_SECONDS),
                    latency=DEVICE_LATENCY,
                    dtype="float32",
                    callback=self._record,
                )
            except sounddevice.PortAudioError as error:
                problem = error
        raise self._cannot_open(problem)

    def _cannot_open(self, problem: Exception | None) -> MicrophoneError:
        reason = str(problem).splitlines()[0]
        return MicrophoneError(
            f"'{self.name}' cannot be opened ({reason}); close other programs that record, "
            "or choose another device ('asr devices' lists them)"
        )


class Playback:
    """A file in place of a microphone: the same blocks, each when it would have been recorded.

    Iterating again plays it again. Raises AudioError, when it is iterated over, if the file cannot
    be read.
    """

    overruns = 0  # a file waits

    def __init__(self, path: str | os.PathLike[str], sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.name = shown(Path(path).name)
        self._path = path
        self._due = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open between two loops."""

    def __iter__(self) -> Iterator[np.ndarray]:
        length = round(BLOCK_SECONDS * self.sample_rate)
        self._due = time.monotonic()
        for audio in stream_audio(self._path, self.sample_rate):
            for start in range(0, len(audio), length):
                block = audio[start : start + length]
                self._due += len(block) / self.sample_rate
                time.sleep(max(0.0, self._due - time.monotonic()))
                yield block

    @property
    def delay(self) -> float:
        """Seconds since the end of the newest block was due."""
        return time.monotonic() - self._due

    @property
    def warning(self) -> str:
        """What the user should know if the program cannot keep up with the file, "" if it can."""
        if self.delay < QUEUE_SECONDS:
            return ""
        return f"this machine is too slow: it is {self.delay:.1f} s behind; take a smaller model"


def sounddevice_library() -> ModuleType:
    """Import sounddevice. Raises MicrophoneError if it, or the library under it, is missing."""
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise MicrophoneError(
            'the microphone needs the sounddevice package: pip install "earshot-asr[mic]"'
        ) from None
    except OSError:  # sounddevice is there, the library it wraps is not
        raise MicrophoneError(
            "the microphone needs the PortAudio library: "
            "apt install libportaudio2, or brew install portaudio"
        ) from None
    return sounddevice
