"""The C recogniser prints the events of Python, takes no memory once it runs, and is clean.

Needs a C compiler; the library is the one inside the onnxruntime package.
"""

import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile

import asr
from asr.card import SCHEMA_VERSION
from asr.decode.keywords.typed import parse_keywords
from asr.events import Detection, Utterance
from asr.phonemes import LETTERS
from features.audio import from_int16, read_audio, to_int16
from tests.support import tiny_models, typed_keywords
from tests.support.commands import ROOT
from tests.support.tiny_models import SAMPLE_RATE, tones
from tests.support.virtual_sound import missing, virtual_sound

ALSA = Path("/usr/include/alsa/asoundlib.h")
KIT = ROOT / "export" / "c"
LIBRARIES = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
pytestmark = pytest.mark.skipif(
    not shutil.which("cc") or not LIBRARIES, reason="a C compiler or libonnxruntime is not there"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(LIBRARIES[-1])
    return folder


def build(folder: Path, library: Path, *flags: str) -> Path:
    """Compile the harness with the kit."""
    program = folder / "harness"
    strict = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror")
    sources = (ROOT / "tests" / "support" / "c_harness.c", KIT / "earshot.c")
    linked = (f"-L{library}", f"-Wl,-rpath,{library}", "-lonnxruntime", "-lm")
    command = ["cc", *strict, *flags, f"-I{KIT}", "-o", program, *sources, *linked]
    subprocess.run(command, check=True)
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Path:
    folder = tmp_path_factory.mktemp("program")
    return build(folder, library, "-DWRAPPED", "-Wl,--wrap=malloc,--wrap=calloc")


def recognised(
    program: Path, model: Path, audio: np.ndarray, folder: Path, *keywords: str
) -> tuple[list[list[list[str]]], str]:
    """The lines of both turns, cut into fields, and what is on standard error."""
    raw = folder / "sound.raw"
    to_int16(audio).astype("<i2").tofile(raw)
    command = [program, model, raw, *keywords]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    turns = done.stdout.split("reset\n")[:2]
    return [[line.split("\t") for line in turn.splitlines()] for turn in turns], done.stderr


def assert_same(
    lines: list[list[str]], model: Path, audio: np.ndarray, options: asr.SpotOptions | None = None
) -> None:
    loaded = asr.load(model)
    alone = asr.DecodeOptions(no_lm=True) if loaded.card.task == "ctc" else None
    found = asr.Stream(loaded, options or alone).finish(from_int16(to_int16(audio)))
    expected = [event for event in found if isinstance(event, Detection | Utterance)]
    assert len(lines) == len(expected) > 0
    for line, event in zip(lines, expected, strict=True):
        if isinstance(event, Detection):
            assert line[1] == event.label and float(line[2]) == pytest.approx(event.score, abs=1e-4)
            times = [event.time, event.start or 0.0, event.end or 0.0]
            assert [float(line[n]) for n in (0, 3, 4)] == pytest.approx(times, abs=1e-5)
        else:
            assert line[2] == event.text
            assert float(line[0]) == pytest.approx(event.start, abs=1e-5)
            assert float(line[1]) == pytest.approx(event.end, abs=1e-5)
            words = [text.rsplit(" ", 3) for text in line[3:]]
            assert [word[0] for word in words] == [word.text for word in event.words]
            for (_, *numbers), word in zip(words, event.words, strict=True):
                assert float(numbers[0]) == pytest.approx(word.start, abs=1e-5)
                assert float(numbers[1]) == pytest.approx(word.end, abs=1e-5)
                assert float(numbers[2]) == pytest.approx(word.confidence, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "sample"), [("commands", "commands.flac"), ("english", "digits.ogg")]
)
def test_bundled_models_give_the_events_of_python(
    program: Path, tmp_path: Path, name: str, sample: str
) -> None:
    audio = read_audio(ROOT / "samples" / sample, SAMPLE_RATE)
    (first, second), problems = recognised(program, asr.load(name).path, audio, tmp_path)
    assert first == second, "a reset changes what follows"
    assert_same(first, asr.load(name).path, audio)
    assert problems == "0 allocations\n"


def test_typed_keywords_are_those_of_python(program: Path, tmp_path: Path) -> None:
    audio = np.tile(read_audio(ROOT / "samples" / "digits.ogg", SAMPLE_RATE), 3)
    model = typed_keywords.without_dictionary(tmp_path)
    (first, second), problems = recognised(program, model, audio, tmp_path, typed_keywords.TEXT)
    assert first == second, "a reset changes what follows"
    assert_same(first, model, audio, typed_keywords.OPTIONS)
    assert {line[1] for line in first} >= set(typed_keywords.FOUND)
    assert problems == "0 allocations\n"


def test_keywords_that_nearly_fit_the_same_sound(
    program: Path, speech_model: Path, tmp_path: Path
) -> None:
    """Many peaks at once: rivals, repeated letters, one letter, thresholds that are hardly met. The
    model reads no phonemes, so that a pronunciation changes nothing."""
    chance = np.random.default_rng(3)
    spoken = tones(*chance.choice(["a", "b", "c", " "], 60))
    audio = spoken + chance.normal(0.0, 0.05, len(spoken)).astype(np.float32)
    text = "a=0.2, ab (AE B)=0.1, b c=0.3, aab=0.05, abc:0.9, ba, cc=1, A B A=0.02"
    options = asr.SpotOptions(keywords=parse_keywords(text))
    (first, _), _ = recognised(program, speech_model, audio, tmp_path, text)
    assert_same(first, speech_model, audio, options)


def test_trained_keywords_may_be_chosen(program: Path, keyword_model: Path, tmp_path: Path) -> None:
    words = np.tile(tones("low", "_unknown_", "high", "high", seconds=0.35, pause=0.45), 3)
    (first, _), _ = recognised(program, keyword_model, words, tmp_path, "High (HH AY)=0.4")
    options = asr.SpotOptions(keywords=(asr.Keyword("high", 0.4),))
    assert_same(first, keyword_model, words, options)


@pytest.mark.parametrize(
    ("name", "keywords", "reason"),
    [
        ("english", "stop, 4you", "keyword '4you' has what the model cannot say"),
        ("english", "stop=1.5", "keyword 'stop' has a threshold that is not in (0, 1]"),
        ("english", "stop=high", "keyword 'stop' has a threshold that is not in (0, 1]"),
        ("english", " , ", "a keyword is missing"),
        ("english", "=0.5", "keyword '' has nothing to say"),
        ("english", "(S T AA P)", "keyword '' has nothing to say"),
        ("english", "lumos (L UX1 M OW S)", "keyword 'lumos': 'UX1' is no phoneme of CMUdict"),
        ("english", "stop, lumos (L UW M OW S) ( )", "keyword 'lumos' has an empty pronunciation"),
        ("english", "lumos (L UW", "keyword 'lumos (l uw' has what the model cannot say"),
        ("english", "wild fire, stop, WildFire=0.5", "keyword 'wildfire' is there twice"),
        ("commands", "stop, yes, Stop=0.5", "keyword 'stop' is there twice"),
        ("commands", "stop (S T 0)", "keyword 'stop': '0' is no phoneme of CMUdict"),
        ("commands", "stop, hello", "keyword 'hello' is none that the model has learnt"),
        ("commands", "_silence_", "keyword '_silence_' is none that the model has learnt"),
    ],
)
def test_keywords_that_cannot_be_spotted_are_said(
    program: Path, tmp_path: Path, name: str, keywords: str, reason: str
) -> None:
    (tmp_path / "sound.raw").write_bytes(bytes(100))
    command = [program, asr.load(name).path, tmp_path / "sound.raw", keywords]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and reason in done.stderr


def test_utterances_and_keywords_of_long_sound(
    program: Path, speech_model: Path, keyword_model: Path, tmp_path: Path
) -> None:
    pause = np.zeros(SAMPLE_RATE, np.float32)
    speech = np.concatenate([tones("a", "b", " ", "c"), pause, tones("b", "a"), pause])
    (first, _), _ = recognised(program, speech_model, np.tile(speech, 3), tmp_path)
    assert [line[2] for line in first] == 3 * ["ab c", "ba"]
    assert_same(first, speech_model, np.tile(speech, 3))
    words = np.tile(tones("low", "_unknown_", "high", "high", seconds=0.35, pause=0.45), 3)
    (first, _), _ = recognised(program, keyword_model, words, tmp_path)
    assert_same(first, keyword_model, words)


@pytest.mark.slow
def test_sanitizers_find_nothing(
    tmp_path: Path, library: Path, speech_model: Path, keyword_model: Path
) -> None:
    program = build(tmp_path, library, *SANITIZED)
    speech = tones("a", "b", " ", "c")
    (first, _), _ = recognised(program, speech_model, speech, tmp_path)
    assert_same(first, speech_model, speech)
    english = asr.load("english").path
    for model, keywords in (
        (speech_model, "ab (AE B)=0.3, b c"),
        (keyword_model, "low"),
        (english, "ab (AE B)=0.3, b c"),
    ):
        recognised(program, model, speech, tmp_path, keywords)
    refused = [program, speech_model, tmp_path / "sound.raw", "ab, 4"]
    done = subprocess.run(refused, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not installed")
@pytest.mark.parametrize("keywords", [(), ("ab (AE B) (EY B)=0.3, b c",)])
def test_valgrind_finds_nothing(
    tmp_path: Path, library: Path, speech_model: Path, keywords: tuple[str, ...]
) -> None:
    """In the kit's own code: nothing is used unset or after its end, and nothing stays behind."""
    program = build(tmp_path, library, "-g")
    to_int16(tones("a", "b", " ", "c")).astype("<i2").tofile(tmp_path / "sound.raw")
    suppressions = f"--suppressions={ROOT / 'tests' / 'support' / 'onnxruntime.supp'}"
    checked = ["valgrind", "-q", "--leak-check=full", "--errors-for-leak-kinds=definite"]
    command = [program, speech_model, tmp_path / "sound.raw", *keywords]
    done = subprocess.run(
        [*checked, "--show-leak-kinds=definite", "--error-exitcode=9", suppressions, *command],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["whole_ctc", "damaged", "missing", "cardless"])
def test_what_cannot_be_opened_is_said(program: Path, tmp_path: Path, kind: str) -> None:
    model = tmp_path / "model.onnx"
    if kind == "whole_ctc":
        tiny_models.whole_ctc(model)
    elif kind == "damaged":
        model.write_bytes(b"\x08" * 100)
    elif kind == "cardless":
        model.write_bytes(
            tiny_models.streaming_ctc(model).read_bytes().replace(b"earshot", b"earsh0t")
        )
    (tmp_path / "sound.raw").write_bytes(bytes(100))
    command = [program, model, tmp_path / "sound.raw"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and str(model) in done.stderr


def test_card_schema_is_the_one_of_python() -> None:
    assert f"CARD_SCHEMA = {SCHEMA_VERSION} " in (KIT / "earshot.c").read_text()


def test_phonemes_are_those_of_python() -> None:
    source = (KIT / "earshot.c").read_text()
    assert re.findall(r'"([A-Z]{1,2})"', source) == list(LETTERS)
    assert f'"{"".join(LETTERS.values())}"' in source


@pytest.mark.slow
def test_the_example_builds_as_its_makefile_says(library: Path, tmp_path: Path) -> None:
    kit = shutil.copytree(KIT, tmp_path / "c")
    subprocess.run(["make", "-s", "-C", kit, f"ORT={library}"], check=True)
    audio = to_int16(read_audio(ROOT / "samples" / "commands.flac", SAMPLE_RATE))
    command = [kit / "pipe", asr.load("commands").path]
    done = subprocess.run(command, input=audio.astype("<i2").tobytes(), capture_output=True)
    assert [line.split(b"\t")[1] for line in done.stdout.splitlines()] == [b"yes", b"stop", b"left"]


@pytest.mark.slow
@pytest.mark.skipif(not ALSA.is_file(), reason="the headers of ALSA are not installed")
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_alsa_example_spots_what_a_microphone_records(
    library: Path, keyword_model: Path, tmp_path: Path
) -> None:
    kit = shutil.copytree(KIT, tmp_path / "c")
    subprocess.run(["make", "-s", "-C", kit, f"ORT={library}", "alsa"], check=True)
    soundfile.write(tmp_path / "words.wav", tones("low", "high", seconds=0.4, pause=0.6), 16000)
    with tempfile.TemporaryDirectory() as home, virtual_sound(Path(home)) as sound:
        command = [kit / "alsa", keyword_model]
        with subprocess.Popen(
            command, env=sound.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout and process.stderr
            assert process.stderr.readline() == b"listening to 'default'; Ctrl-C stops\n"
            sound.play(tmp_path / "words.wav")
            lines = [process.stdout.readline() for _ in range(2)]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    assert [line.split(b"\t")[1] for line in lines] == [b"low", b"high"]
    unknown = subprocess.run([*command, "no-such-device"], capture_output=True, text=True)
    assert unknown.returncode == 2 and "'no-such-device' cannot be opened" in unknown.stderr
