"""What runs on a device runs without the training packages."""

from pathlib import Path

import pytest
import soundfile

from tests.support import tiny_models
from tests.support.commands import hide_packages, run_asr, run_python
from tests.support.tiny_models import SAMPLE_RATE, tones

TRAINING_ONLY = ("torch", "torchaudio", "librosa", "matplotlib", "jiwer", "onnx", "onnxscript")


def test_the_device_path_imports_and_works_without_training_packages(tmp_path: Path) -> None:
    model = tiny_models.streaming_ctc(tmp_path / "speech.onnx")
    keywords = tiny_models.whole_classify(tmp_path / "keywords.onnx")
    wav, clip = tmp_path / "a.wav", tmp_path / "clip.wav"
    soundfile.write(wav, tones("a", "b", " ", "c"), SAMPLE_RATE)
    soundfile.write(clip, tones("low", seconds=0.5, pause=0.3), SAMPLE_RATE)
    hidden = hide_packages(tmp_path / "hidden", *TRAINING_ONLY)

    result = run_python(
        f"""
import sys
import asr, asr.cli, asr.microphone, asr.stream, asr.recognise, features.audio
print(asr.transcribe(asr.load({str(model)!r}), {str(wav)!r}).text)
print(sorted(set({TRAINING_ONLY!r}) & set(sys.modules)))
""",
        **hidden,
    )
    assert result.stdout == "ab c\n[]\n", result.stderr
    assert run_asr("transcribe", wav, "-m", model, **hidden).stdout == "ab c\n"
    assert run_asr("spot", clip, "-m", keywords, **hidden).stdout.endswith("low\n")


@pytest.mark.slow
def test_files_need_no_sound_package(tmp_path: Path) -> None:
    model = tiny_models.streaming_ctc(tmp_path / "speech.onnx")
    wav = tmp_path / "a.wav"
    soundfile.write(wav, tones("a"), SAMPLE_RATE)
    hidden = hide_packages(tmp_path / "hidden", "sounddevice")
    assert run_asr("transcribe", wav, "-m", model, **hidden).stdout == "a\n"
    result = run_asr("listen", "-m", model, **hidden)
    (line,) = result.stderr.splitlines()
    assert 'pip install "earshot-asr[mic]"' in line and result.returncode == 2
