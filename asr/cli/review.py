"""`asr review`: what a stream reacted to, played to a person who says what it was."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.errors import CommandError
from asr.cli.terminal import note, print_line
from features.paths import shown

if TYPE_CHECKING:
    import numpy as np

    from asr.kept import Moment

YES, NO, WORD, AGAIN, BACK, SKIP, QUIT = "y", "n", "w", "r", "b", "s", "q"
KEYS = "y yes, n no, w another word, r again, b back, s skip, q quit"
STEPS = " ▁▂▃▄▅▆▇█"
RATE = 16_000  # that recordings are played at
LINE_LENGTH = 72
QUIETEST_DB = -60.0  # of full scale


def review(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What 'asr listen --save' wrote.")],
) -> None:
    """Say of kept recordings whether the word was said in them.

    [bold]asr listen[/] --model lamp.onnx --save kept/
    [bold]asr review[/] kept/
    [bold]asr train[/] recordings/ --more kept/

    Each recording is played, or drawn where there is no loudspeaker, with what the model
    made of it. Keys: y, the word is said; n, none of the words is; w, another word is,
    which is then typed; r plays it again; b goes back to the one before; s skips it; q
    ends. Every answer is written at once, to decisions.jsonl, and the next review goes
    on where this one ended. From a pipe, answers are lines: y, n, or w and the word.
    """
    from asr.kept import read_decisions, read_moments, write_decisions
    from features.audio import AudioError, read_audio

    moments, decisions = read_moments(folder), read_decisions(folder)
    place, open_ones = 0, [m for m in moments if m.audio not in decisions]
    player = _Player()
    while place < len(open_ones):
        moment = open_ones[place]
        try:
            samples = read_audio(folder / moment.audio, RATE)
        except AudioError as error:
            note(f"warning: {error}: left out")
            place += 1
            continue
        note(f"{place + 1}/{len(open_ones)}  {_described(moment)}")
        player.show(samples, moment)
        while (answer := _answer()) == AGAIN:
            player.show(samples, moment)
        if answer == QUIT:
            break
        if answer == BACK:
            place = max(0, place - 1)
            continue
        place += 1
        if answer != SKIP:
            decisions[moment.audio] = {YES: moment.label, NO: ""}.get(answer, answer[1:].strip())
            write_decisions(folder, decisions)
    left = sum(moment.audio not in decisions for moment in moments)
    print_line(
        f"{len(moments) - left} of {len(moments)} recordings in {shown(folder)} are reviewed"
    )


def _described(moment: "Moment") -> str:
    why = "fired" if moment.fired else f"nearly: {moment.reason}"
    return f"'{moment.label}' {moment.score:.0%}, {why}, {moment.at.replace('T', ' ')}"


def _answer() -> str:
    """A key; of another word, WORD and what it is."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        answer = line.strip() if line else QUIT
    else:
        print(f"{KEYS}: ", end="", file=sys.stderr, flush=True)
        answer = typer.getchar().lower()
        note(answer if answer.isprintable() else "")
        if answer == WORD:
            answer += " " + typer.prompt("which word", err=True)
    if answer in (YES, NO, AGAIN, BACK, SKIP, QUIT):
        return answer
    if answer[:1] == WORD and answer[1:2].isspace() and answer[1:].strip():
        return answer
    if not sys.stdin.isatty():
        raise CommandError(f"'{answer}' is no answer; give {KEYS}, a line each")
    return _answer()


class _Player:
    """Plays recordings; draws them from the first on that cannot be played."""

    def __init__(self) -> None:
        self._plays = True

    def show(self, samples: "np.ndarray", moment: "Moment") -> None:
        """Play float32 (n,) at RATE, or print its level over time with the moment marked."""
        from asr.loudspeaker import play
        from asr.microphone import MicrophoneError

        if self._plays:
            try:
                play(samples, RATE)
                return
            except MicrophoneError as error:
                self._plays = False
                note(f"{error}; recordings are drawn instead, ^ is where the keyword was certain")
        note(level_line(samples))
        note(
            " " * min(LINE_LENGTH - 1, int(moment.moment * RATE * LINE_LENGTH / len(samples))) + "^"
        )


def level_line(samples: "np.ndarray") -> str:
    """Draw the level of float32 (n,), n > 0, from QUIETEST_DB up, as LINE_LENGTH marks."""
    import numpy as np

    parts = np.array_split(samples, LINE_LENGTH)
    levels = [
        10.0 * np.log10(np.square(part).mean() + 1e-12) if len(part) else -120.0 for part in parts
    ]
    shares = np.clip(1.0 - np.array(levels) / QUIETEST_DB, 0.0, 1.0)
    return "".join(STEPS[round(share * (len(STEPS) - 1))] for share in shares.tolist())
