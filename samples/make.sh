#!/usr/bin/env bash
# Makes the samples anew. Needs espeak-ng, flite and an environment with earshot and hibari-tts.
set -euo pipefail
cd "$(dirname "$0")"
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

espeak-ng -v en-gb -s 150 -w "$parts/yes.wav" "yes"
flite -voice awb -t "stop." "$parts/stop.wav"
flite -voice awb -t "erase." "$parts/erase.wav"
espeak-ng -v en-us+m7 -s 110 -w "$parts/ruby.wav" "r. u. b. y."
flite -voice rms -t "three, one, four, one, five." "$parts/digits.wav"
flite -voice awb -t "enter seven." "$parts/enter.wav"
flite -voice awb -t "open." "$parts/open.wav"
hibari --seed 0 -o "$parts/rain.wav" \
    "It was raining when we left the house, but the sun came out in the afternoon."
for word in yes stop left; do
    flite -voice slt --setf duration_stretch=1.2 -t "$word." "$parts/command-$word.wav"
done

python - "$parts" <<'PYTHON'
"""Put parts one after the other, a second of silence between, in the format of each sample."""

import sys
from pathlib import Path

import numpy as np
import soundfile as sf

from features.audio import read_audio

SAMPLES = {
    # file: (parts, rate, channels, subtype)
    "yes.wav": (["yes"], 16000, 1, "PCM_16"),
    "stop-48k-stereo.wav": (["stop"], 48000, 2, "PCM_24"),
    "erase.opus": (["erase"], 48000, 1, "OPUS"),
    "ruby.flac": (["ruby"], 16000, 1, "PCM_16"),
    "digits.ogg": (["digits"], 44100, 1, "VORBIS"),
    "enter-seven.mp3": (["enter"], 44100, 1, "MPEG_LAYER_III"),
    "open-8k.wav": (["open"], 8000, 1, "PCM_16"),
    "rain.ogg": (["rain"], 24000, 1, "VORBIS"),
    "commands.flac": (["command-yes", "command-stop", "command-left"], 16000, 1, "PCM_16"),
}

for name, (parts, rate, channels, subtype) in SAMPLES.items():
    around, between = np.zeros(rate // 4), np.zeros(rate)
    sounds = [read_audio(Path(sys.argv[1], f"{part}.wav"), rate) for part in parts]
    pieces = [piece for sound in sounds for piece in (sound, between)][:-1]
    sound = np.concatenate([around, *pieces, around])
    container = {"OPUS": "OGG", "MPEG_LAYER_III": "MP3"}.get(subtype)
    sf.write(name, np.stack([sound] * channels, axis=1), rate, subtype, format=container)
PYTHON
