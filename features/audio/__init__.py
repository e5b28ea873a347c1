"""Reading sound: files, pipes and arrays to float32 mono at the rate that a model wants.

Samples are in [-1, 1], channels are averaged. What is read whole and the same streamed are the
same samples. All that can be decoded of a damaged file is used, and one warning says what is
wrong with it.
"""

from features.audio.errors import AudioError
from features.audio.folders import AUDIO_SUFFIXES, MEDIA_SUFFIXES, find_audio
from features.audio.mix import Mixer
from features.audio.read import Source, name_of, read_audio, stream_audio, stream_pipe
from features.audio.resample import Resampler, check_rate
from features.audio.samples import FULL_SCALE, PEAK_LIMIT, fault_of, from_int16, to_int16

__all__ = [
    "AUDIO_SUFFIXES",
    "FULL_SCALE",
    "MEDIA_SUFFIXES",
    "PEAK_LIMIT",
    "AudioError",
    "Mixer",
    "Resampler",
    "Source",
    "check_rate",
    "fault_of",
    "find_audio",
    "from_int16",
    "name_of",
    "read_audio",
    "stream_audio",
    "stream_pipe",
    "to_int16",
]
