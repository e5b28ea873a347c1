"""Wake word, what follows it, back to sleep; and the programs that are run for it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import asr
from asr.assist import Assistant, AssistError, Echo, Patience, Sleep, Wake
from asr.events import Detection, Utterance
from features.audio import read_audio
from tests.support.commands import ROOT, run_asr
from tests.support.tiny_models import SAMPLE_RATE, tones, with_card

# The last label is as short as a CTC model makes it: what is held on would be read once more.
WAKE = np.concatenate([tones("b", pause=0.02), tones("a", seconds=0.02, pause=0.0)])
COMMAND = tones("c", "a", " ", "c", seconds=0.15, pause=0.0)
PAUSE = np.zeros(round(1.3 * SAMPLE_RATE), np.float32)
THREE, ONE = (
    round(0.75 * SAMPLE_RATE),
    round(0.79 * SAMPLE_RATE),
)  # in digits.ogg: its end, the next
OPTIONS = asr.SpotOptions(keywords=(asr.Keyword("ba"), asr.Keyword("cb")))


def gap(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


@pytest.fixture
def assistant(speech_model: Path) -> Assistant:
    model = asr.load(speech_model)
    patience = Patience(nothing=1.0, longest=3.0)
    return Assistant(asr.Stream(model, OPTIONS), asr.Stream(model), "cb", patience)


def run(assistant: Assistant, *sound: np.ndarray, step: int = 320) -> list[Any]:
    audio = np.concatenate(sound)
    pieces = [audio[start : start + step] for start in range(0, len(audio), step)]
    return [event for piece in pieces for event in assistant.push(piece)] + assistant.finish()


def final(events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, Wake | Sleep | Utterance | Detection)]


@pytest.mark.parametrize("pause", [0.0, 0.03, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("step", [320, 1111])
def test_no_word_after_the_wake_word_is_lost(assistant: Assistant, pause: float, step: int) -> None:
    wake, said, asleep = final(run(assistant, WAKE, gap(pause), COMMAND, PAUSE, step=step))
    assert isinstance(wake, Wake) and wake.label == "ba"
    assert said.text == "ca c" and asleep.reason == "done"
    begins = (len(WAKE) / SAMPLE_RATE) + pause
    assert said.start == pytest.approx(begins, abs=0.05) and wake.end <= said.start + 0.01
    assert said.words[-1].end == pytest.approx(begins + len(COMMAND) / SAMPLE_RATE, abs=0.05)


def test_nothing_is_recognised_while_asleep(assistant: Assistant) -> None:
    assert run(assistant, COMMAND, PAUSE, COMMAND, PAUSE) == []


def test_it_wakes_again_and_again(assistant: Assistant) -> None:
    once = [WAKE, gap(0.1), COMMAND, PAUSE]
    events = final(run(assistant, *(3 * once)))
    assert [type(event) for event in events] == 3 * [Wake, Utterance, Sleep]
    assert [e.text for e in events if isinstance(e, Utterance)] == 3 * ["ca c"]


def test_it_sleeps_if_nothing_is_said_or_it_goes_on_for_too_long(assistant: Assistant) -> None:
    wake, asleep = final(run(assistant, WAKE, PAUSE))
    assert asleep.reason == "nothing said"
    assert asleep.time == pytest.approx(wake.end + 1.0, abs=0.05)
    assistant.reset()
    events = final(run(assistant, WAKE, gap(0.1), np.tile(COMMAND, 6), PAUSE))
    assert [type(event) for event in events] == [Wake, Utterance, Sleep]
    assert events[1].text.startswith("ca ca ca")


def test_a_word_cancels(assistant: Assistant) -> None:
    cancel = tones("c", "b", pause=0.02)
    events = final(run(assistant, WAKE, gap(0.4), cancel, gap(0.3), COMMAND, PAUSE))
    assert [type(event) for event in events] == [Wake, Sleep]
    assert events[1].reason == "cancelled"


def test_a_trained_keyword_can_follow(speech_model: Path, keyword_model: Path) -> None:
    wake = asr.Stream(asr.load(speech_model), OPTIONS)
    assistant = Assistant(wake, asr.Stream(asr.load(keyword_model)))
    events = final(run(assistant, WAKE, gap(0.1), tones("high", seconds=0.4), PAUSE))
    assert [type(event) for event in events] == [Wake, Detection, Sleep]
    assert events[1].label == "high" and events[1].time > events[0].end


def test_a_trained_keyword_can_wake(speech_model: Path, keyword_model: Path) -> None:
    wake = asr.Stream(asr.load(keyword_model))
    assistant = Assistant(wake, asr.Stream(asr.load(speech_model)))
    low = tones("low", seconds=0.4, pause=0.1)
    events = final(run(assistant, low, gap(0.3), COMMAND, PAUSE))
    assert [type(event) for event in events] == [Wake, Utterance, Sleep]
    assert events[1].text.endswith("c")


def test_what_this_machine_says_while_it_speaks_does_not_wake_it(assistant: Assistant) -> None:
    assistant.speaking = True
    (echo,) = assistant.push(np.concatenate([COMMAND, PAUSE, WAKE, gap(0.5)]))
    assert isinstance(echo, Echo) and echo.label == "ba" and "played" in str(echo)
    assistant.speaking = False
    # What still sounds in the room when it ends does not wake it either; what comes later does.
    events = assistant.push(np.concatenate([WAKE, gap(1.5), WAKE, COMMAND, PAUSE]))
    assert [type(event) for event in events if not isinstance(event, asr.Partial)] == (
        [Echo, Wake, Utterance, Sleep]
    )


def test_speaking_does_not_disturb_what_follows_the_wake_word(assistant: Assistant) -> None:
    events = assistant.push(np.concatenate([WAKE, gap(0.5)]))
    assistant.speaking = True  # a sound that says: I am awake
    events += assistant.push(np.concatenate([COMMAND, PAUSE]))
    assert [type(event) for event in final(events)] == [Wake, Utterance, Sleep]


def test_a_wake_word_that_is_played_wakes_nobody_and_another_does(speech_model: Path) -> None:
    model = asr.load(speech_model)
    options = asr.SpotOptions(keywords=(asr.Keyword("ba"),))
    streams = (asr.Stream(model, options), asr.Stream(model))
    assistant = Assistant(*streams, played=asr.Stream(model, options))
    said = np.concatenate([WAKE, gap(1.0), WAKE, gap(0.1), COMMAND, PAUSE])
    played = np.concatenate([WAKE, gap(1.0), COMMAND])
    played = np.pad(played, (0, len(said) - len(played)))
    recorded = 0.5 * np.pad(said, (1600, 0))[: len(said)]  # 0.1 s later
    events: list[Any] = []
    for start in range(0, len(said), 320):
        piece = slice(start, start + 320)
        events += assistant.push(recorded[piece], played[piece])
    assert [type(e) for e in events if not isinstance(e, asr.Partial)] == (
        [Echo, Wake, Utterance, Sleep]
    )
    with pytest.raises(AssistError, match="3 samples were played beside 320"):
        assistant.push(recorded[:320], played[:3])


LOW = tones("low", seconds=0.4, pause=0.4)
CC = np.concatenate([tones("c", pause=0.05), tones("c", seconds=0.02, pause=0.0)])


def test_several_models_wait_on_one_microphone(speech_model: Path, keyword_model: Path) -> None:
    model = asr.load(speech_model)
    trained = asr.SpotOptions(keywords=(asr.Keyword("low"),))
    typed = asr.SpotOptions(keywords=(asr.Keyword("cc"),))
    wakes = [asr.Stream(asr.load(keyword_model), trained), asr.Stream(model, typed)]
    assistant = Assistant(wakes, asr.Stream(model))
    sound = [LOW, COMMAND, PAUSE, CC, gap(0.1), COMMAND, PAUSE]
    events = final(run(assistant, *sound))
    assert [type(event) for event in events] == 2 * [Wake, Utterance, Sleep]
    assert [event.label for event in events if isinstance(event, Wake)] == ["low", "cc"]


@pytest.mark.slow
def test_wake_words_go_to_the_models_that_know_them(
    speech_model: Path, keyword_model: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "talk.wav", np.concatenate([LOW, COMMAND, PAUSE, CC, PAUSE]), 16000)
    both = ("-m", keyword_model, "-m", speech_model, "--then-model", speech_model)
    played = ("--play", tmp_path / "talk.wav", "-f", "json")
    result = run_asr("assist", "--wake", "cc, low", *both, *played)
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [e["label"] for e in events if e["type"] == "wake"] == ["low", "cc"]
    idle = run_asr("assist", "--wake", "cc", *both, *played)
    assert idle.returncode == 2 and "has no wake word to find; leave it out" in idle.stderr


def test_a_long_block_brings_the_same(assistant: Assistant) -> None:
    sound = np.concatenate([WAKE, gap(0.1), COMMAND, PAUSE])
    _, said, asleep = final(assistant.push(sound) + assistant.finish())
    assert said.text == "ca c" and asleep.reason == "done"


def test_models_of_different_rates_are_refused(speech_model: Path, tmp_path: Path) -> None:
    other = asr.load(with_card(speech_model, tmp_path / "other.onnx", sample_rate=8000))
    with pytest.raises(AssistError, match="16000 Hz and tiny-ctc 8000"):
        Assistant(asr.Stream(asr.load(speech_model), OPTIONS), asr.Stream(other))


@pytest.mark.parametrize("pause", [0.0, 0.1, 0.2, 0.3])
def test_bundled_model_wakes_by_a_typed_word_and_transcribes_what_follows(pause: float) -> None:
    model = asr.load("english")
    wake = asr.Stream(model, asr.SpotOptions(keywords=(asr.Keyword("three", 0.5),)))
    audio = read_audio(ROOT / "samples" / "digits.ogg", SAMPLE_RATE)
    first, rest = audio[:THREE], audio[ONE:]
    events = final(run(Assistant(wake, asr.Stream(model)), first, gap(pause), rest, PAUSE))
    assert [type(event) for event in events] == [Wake, Utterance, Sleep]
    assert events[1].text == "one four one five"


@pytest.mark.slow
def test_command_prints_events_and_runs_a_program_for_each(
    speech_model: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "talk.wav", np.concatenate([WAKE, COMMAND, PAUSE]), SAMPLE_RATE)
    script, log = tmp_path / "act on.py", tmp_path / "log"
    script.write_text(
        "import json, os, sys\n"
        "fields = json.load(sys.stdin)\n"
        f"with open({str(log)!r}, 'a') as log:\n"
        "    print(fields['type'], os.environ.get('EARSHOT_TEXT'), file=log)\n"
    )
    result = run_asr(
        *("assist", "--wake", "ba", "-m", speech_model, "--then-model", speech_model),
        *("--play", tmp_path / "talk.wav", "-f", "json"),
        *("--exec", f"{sys.executable} '{script}' '; touch {tmp_path / 'shell'}'"),
    )
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    types = [event["type"] for event in events if event["type"] != "partial"]
    assert types == ["wake", "utterance", "sleep"]
    assert log.read_text() == "wake None\nutterance ca c\nsleep None\n"
    assert not (tmp_path / "shell").exists()
    assert "of a processor core" in result.stderr


@pytest.mark.slow
def test_a_program_that_speaks_does_not_wake_its_own_machine(
    speech_model: Path, tmp_path: Path
) -> None:
    talk = np.concatenate([WAKE, COMMAND, PAUSE, WAKE, gap(0.3), COMMAND, PAUSE])
    soundfile.write(tmp_path / "talk.wav", talk, SAMPLE_RATE)
    speak = "import json, sys, time; time.sleep(4 * ('text' in json.load(sys.stdin)))"
    result = run_asr(
        *("assist", "--wake", "ba", "-m", speech_model, "--then-model", speech_model),
        *("--play", tmp_path / "talk.wav", "-f", "json", "--gate"),
        *("--exec", f'{sys.executable} -c "{speak}"'),
    )
    assert result.returncode == 0, result.stderr
    types = [json.loads(line)["type"] for line in result.stdout.splitlines()]
    assert [kind for kind in types if kind != "partial"] == ["wake", "utterance", "sleep", "echo"]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("--then", "commands"), "--then transcribe"),
        (("--longest", 3), "nothing, 5 s without a word, must be above 0 and not beyond longest"),
        (("--exec", "/nowhere/light on"), "--exec /nowhere/light: no such program"),
    ],
)
def test_what_does_not_fit_is_said(
    speech_model: Path, options: tuple[object, ...], remedy: str
) -> None:
    wake = ("assist", "--wake", "ba", "-m", speech_model, "--then-model", speech_model)
    result = run_asr(*wake, *options)
    assert result.returncode == 2 and remedy in result.stderr


def test_a_file_that_is_missing_is_all_that_is_said(speech_model: Path) -> None:
    wake = ("assist", "--wake", "ba", "-m", speech_model, "--then-model", speech_model)
    result = run_asr(*wake, "--play", "nowhere.wav")
    assert result.returncode == 2 and "processor" not in result.stderr
