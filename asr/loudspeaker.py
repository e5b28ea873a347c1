"""Sound played on the default output device, where there is one."""

import numpy as np

from asr.microphone import MicrophoneError, sounddevice_library


class LoudspeakerError(MicrophoneError):
    """There is no device to play on."""


def play(samples: np.ndarray, sample_rate: int) -> None:
    """Play float32 (n,) to its end. Raises MicrophoneError without the sound packages,
    LoudspeakerError without a device."""
    sounddevice = sounddevice_library()
    try:
        sounddevice.play(samples, sample_rate)
        sounddevice.wait()
    except (sounddevice.PortAudioError, ValueError) as error:  # ValueError: no device of the kind
        reason = str(error).splitlines()[0]
        raise LoudspeakerError(
            f"no loudspeaker can be used ({reason}); plug one in, or close other programs"
        ) from None
