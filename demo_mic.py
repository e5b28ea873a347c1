"""Watch Earshot listen: a live view of the level, the scores and what is recognised.

python demo_mic.py                       the microphone, with the bundled keywords
python demo_mic.py --model english       the microphone, transcribed
python demo_mic.py --wav recording.wav   a file, at its own pace
"""

import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

import asr

ROWS = 8
REFRESH_SECONDS = 1 / 15
QUIETEST_DB = -60.0


class Listener:
    """Pushes the blocks of a source through a stream and draws what comes of them."""

    def __init__(self, source: asr.Microphone | asr.Playback, stream: asr.Stream) -> None:
        self.source, self.stream = source, stream
        self.events: deque[asr.Event] = deque(maxlen=ROWS)
        self.level, self.latency = QUIETEST_DB, 0.0
        self.audio = self.compute = 0.0  # seconds

    def push(self, block: np.ndarray) -> None:
        self.audio += len(block) / self.source.sample_rate
        self.level = max(QUIETEST_DB, 10 * np.log10(np.mean(block**2) + 1e-12), self.level - 1)
        start = time.perf_counter()
        events = self.stream.push(block)
        self.compute += time.perf_counter() - start
        self.keep(events)

    def keep(self, events: list[asr.Event]) -> None:
        for event in events:
            if self.events and isinstance(self.events[-1], asr.Partial):
                self.events.pop()  # what follows it says it anew
            self.events.append(event)
            if not isinstance(event, asr.Utterance):  # that one waited for a pause
                said = event.end if isinstance(event, asr.Partial) else event.time
                self.latency = self.audio - said + self.source.delay

    def figures(self) -> str:
        latency, factor = 1000 * self.latency, self.compute / max(self.audio, 1e-9)
        return f"latency {latency:.0f} ms   real-time factor {factor:.4f}"

    def view(self) -> Panel:
        labels, scores = self.stream.card.labels, self.stream.posteriors
        best = np.argsort(-scores, kind="stable")[:ROWS]
        shown = [("space" if labels[k] == " " else labels[k], float(scores[k])) for k in best]
        lines = [Text(str(event), no_wrap=True, overflow="ellipsis") for event in self.events]
        lines = (lines or [Text("say something")]) + [Text()] * ROWS
        columns = Table(Column("recognised", ratio=3), Column("scores", ratio=2), expand=True)
        columns.add_row(Group(*lines[:ROWS]), bars((*row, f"{row[1]:.2f}") for row in shown))
        level = bars([("level", 1 - self.level / QUIETEST_DB, f"{self.level:.0f} dBFS")])
        warning = Text(self.source.warning, style="bold red")
        return Panel(
            Group(level, columns, Text(self.figures(), style="dim"), warning),
            title=f"[bold]earshot[/]  {self.stream.card.name}",
            subtitle=Text(f"{self.source.name}   Ctrl-C stops", style="dim"),
        )


def bars(rows: Iterable[tuple[str, float, str]]) -> Table:
    """Draw a bar for each name, its share of 1, and what is written behind it."""
    table = Table.grid(Column(no_wrap=True), Column(ratio=1), padding=(0, 1), expand=True)
    for name, share, text in rows:
        table.add_row(Text(name), ProgressBar(total=1.0, completed=share), text)
    return table


def watch(listener: Listener) -> None:
    """Draw the view until the source ends or Ctrl-C, and leave the last one behind."""
    console, due = Console(), 0.0
    try:
        with Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
            for block in listener.source:
                listener.push(block)
                if time.monotonic() >= due:
                    live.update(listener.view(), refresh=True)
                    due = time.monotonic() + REFRESH_SECONDS
    finally:
        listener.keep(listener.stream.finish())
        console.print(listener.view())


def demo(
    model: Annotated[str, typer.Option("--model", "-m", help="A model.")] = "commands",
    device: Annotated[str | None, typer.Option("--device", "-d", help="A microphone.")] = None,
    wav: Annotated[Path | None, typer.Option(help="Play this file instead.")] = None,
) -> None:
    """Watch a model listen, until Ctrl-C. 'asr devices' lists the microphones."""
    try:
        stream = asr.Stream(asr.load(model))
        rate = stream.card.sample_rate
        with asr.Playback(wav, rate) if wav else asr.Microphone(rate, device) as source:
            watch(Listener(source, stream))
    except asr.EarshotError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(demo)
