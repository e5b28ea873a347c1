"""Watch Earshot listen: a live view of the level, the scores and what was heard.

    python demo_mic.py                       the microphone, with the bundled keywords
    python demo_mic.py --model english       the microphone, written down
    python demo_mic.py --wav recording.wav   a file, played through the same path at real time

Everything happens on this machine: nothing is recorded, nothing is sent.
"""

import io
import math
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import asr
from asr import cli
from asr.cli.options import ModelOption
from asr.files import whole_file
from asr.microphone import BLOCK_SECONDS, QUEUE_SECONDS, Microphone
from asr.stream import Stream, live_stream
from features.audio import stream_audio

ROWS = 8
FRAMES_PER_SECOND = 15
QUIETEST_DB = -60.0
LEVEL_FALL_DB = 1.0  # per block, so that the meter can be read
SVG_WIDTH = 92

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Playback:
    """A file in place of a microphone: the same blocks, at the pace of real time."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.name = path.name
        self.overruns = 0
        self._path = path
        self._sample_rate = sample_rate
        self._due = time.monotonic()

    def __iter__(self) -> Iterator[np.ndarray]:
        length = round(BLOCK_SECONDS * self._sample_rate)
        self._due = time.monotonic()
        for audio in stream_audio(self._path, self._sample_rate):
            for start in range(0, len(audio), length):
                block = audio[start : start + length]
                self._due += len(block) / self._sample_rate
                time.sleep(max(0.0, self._due - time.monotonic()))
                yield block

    @property
    def delay(self) -> float:
        """Seconds since the end of the newest block was due."""
        return time.monotonic() - self._due

    @property
    def warning(self) -> str:
        """What the user should know if the file cannot be heard at real time."""
        if self.delay < QUEUE_SECONDS:
            return ""
        return f"this machine is too slow: it is {self.delay:.1f} s behind; take a smaller model"


class Listening:
    """Pushes blocks through a stream and keeps what the view shows. Times in seconds."""

    def __init__(self, source: Microphone | Playback, stream: Stream) -> None:
        self.source = source
        self.stream = stream
        self.heard: deque[asr.Event] = deque(maxlen=ROWS)
        self.partial: asr.Partial | None = None
        self.level = QUIETEST_DB
        self.latency: float | None = None
        self.audio = 0.0
        self.compute = 0.0

    def push(self, block: np.ndarray) -> list[asr.Event]:
        self.audio += len(block) / self.stream.card.sample_rate
        self.level = max(decibels(block), self.level - LEVEL_FALL_DB, QUIETEST_DB)
        start = time.perf_counter()
        events = self.stream.push(block)
        self.compute += time.perf_counter() - start
        return self._keep(events)

    def finish(self) -> list[asr.Event]:
        return self._keep(self.stream.finish())

    def _keep(self, events: list[asr.Event]) -> list[asr.Event]:
        for event in events:
            if isinstance(event, asr.Partial):
                self.partial = event
            else:
                self.partial = None
                self.heard.append(event)
            # An utterance ends by a pause, so the delay of its words is that of its partials.
            if not isinstance(event, asr.Utterance):
                said = event.end if isinstance(event, asr.Partial) else event.time
                self.latency = self.audio - said + self.source.delay
        return events

    def figures(self) -> str:
        card = self.stream.card
        factor = self.compute / self.audio if self.audio else 0.0
        step = (card.block_length or card.hop_length) / card.sample_rate
        latency = "-" if self.latency is None else f"{1000 * self.latency:.0f} ms"
        return (
            f"latency {latency}   compute {1000 * factor * step:.2f} ms per {1000 * step:.0f} ms "
            f"(real-time factor {factor:.4f})   overruns {self.source.overruns}"
        )


def decibels(block: np.ndarray) -> float:
    """Return the level of float32 (n,) in dBFS: its root mean square, full scale being 0 dB."""
    return 10.0 * math.log10(float(np.mean(np.square(block))) + 1e-12)


def view(listening: Listening) -> Panel:
    """Draw the screen."""
    card = listening.stream.card
    level = Table.grid(padding=(0, 2), expand=True)
    level.add_column(width=6)
    level.add_column(ratio=1)
    level.add_column(justify="right", width=9)
    loudness = 1.0 - listening.level / QUIETEST_DB
    colour = "red" if listening.level > -3.0 else "green"
    meter = ProgressBar(total=1.0, completed=loudness, complete_style=colour, finished_style="red")
    level.add_row("level", meter, f"{listening.level:.0f} dBFS")

    columns = Table.grid(padding=(0, 2), expand=True)
    columns.add_column(ratio=3)
    columns.add_column(ratio=2)
    columns.add_row(
        Panel(heard(listening), title="heard", title_align="left", height=ROWS + 2),
        Panel(scores(listening), title="scores", title_align="left", height=ROWS + 2),
    )
    return Panel(
        Group(
            level,
            columns,
            Text(listening.figures(), style="dim"),
            Text(listening.source.warning, style="bold red"),
        ),
        title=Text.assemble(("earshot", "bold"), f"  {card.name}"),
        subtitle=Text(f"{listening.source.name}   Ctrl-C stops", style="dim"),
        padding=(0, 1),
    )


def heard(listening: Listening) -> Text:
    """The newest events, the newest last, what is still being said below them."""
    lines = [Text(str(event)) for event in listening.heard]
    if lines:
        lines[-1].stylize("bold green")
    if listening.partial:
        lines.append(Text(str(listening.partial), style="italic yellow"))
    if not lines:
        return Text("say something", style="dim")
    for line in lines:
        line.no_wrap = True
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines[-ROWS:])


def scores(listening: Listening) -> Table:
    """The likeliest labels of this moment as bars."""
    stream = listening.stream
    bars = Table.grid(padding=(0, 1), expand=True)
    bars.add_column(no_wrap=True)
    bars.add_column(ratio=1)
    bars.add_column(justify="right")
    for index in np.argsort(-stream.posteriors, kind="stable")[:ROWS]:
        score = float(stream.posteriors[index])
        label = Text(stream.card.labels[index].replace(" ", "space"))
        bars.add_row(label, ProgressBar(total=1.0, completed=score), f"{score:.2f}")
    return bars


def draw_live(listening: Listening, console: Console) -> None:
    """Listen to the end of the source on a screen of its own, then leave the last view behind."""
    due = 0.0
    try:
        with Live(view(listening), console=console, screen=True, auto_refresh=False) as live:
            for block in listening.source:
                if listening.push(block) or time.monotonic() >= due:
                    live.update(view(listening), refresh=True)
                    due = time.monotonic() + 1.0 / FRAMES_PER_SECOND
    finally:
        listening.finish()
        console.print(view(listening))


def print_lines(listening: Listening, console: Console) -> None:
    """Listen to the end of the source, one line for each thing heard."""

    def show(events: list[asr.Event]) -> None:
        for event in events:
            if not isinstance(event, asr.Partial):
                print(event, flush=True)

    warned = False
    try:
        for block in listening.source:
            show(listening.push(block))
            if not warned and listening.source.warning:
                print(f"warning: {listening.source.warning}", file=sys.stderr, flush=True)
                warned = True
    finally:
        show(listening.finish())
        if listening.audio:
            console.print(listening.figures())


def save_picture(listening: Listening, path: Path) -> None:
    """Save the view as an SVG picture that loads nothing from elsewhere, fonts included."""
    console = Console(record=True, width=SVG_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(view(listening))
    picture = console.export_svg(title="demo_mic.py")
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    with whole_file(path) as part:
        part.write_text(picture, encoding="utf-8")


@app.command()
def demo(
    model: ModelOption = "commands",
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Microphone: its number or name.")
    ] = None,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="Show the microphones and stop.")
    ] = False,
    wav: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Hear this file instead, at real time.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the last view as a picture.")
    ] = None,
) -> None:
    """Watch a model listen, until Ctrl-C."""
    if list_devices:
        cli.devices()
        return
    stream = live_stream(asr.load(model))
    if wav is not None:
        show(Listening(Playback(wav, stream.card.sample_rate), stream), svg)
        return
    with Microphone(stream.card.sample_rate, device) as microphone:
        show(Listening(microphone, stream), svg)


def show(listening: Listening, svg: Path | None) -> None:
    """Listen in the way that suits the terminal, then save the picture if one is wanted."""
    console = Console()
    try:
        if console.is_terminal:
            draw_live(listening, console)
        else:
            Console(stderr=True).print(f"listening to '{listening.source.name}'; Ctrl-C stops")
            print_lines(listening, console)
    finally:
        if svg is not None:
            save_picture(listening, svg)


if __name__ == "__main__":
    cli.run(app)
