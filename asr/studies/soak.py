"""A stream that goes on for days: whether it stays as it was in its first hour.

Sound runs through one stream in small blocks and, beside it, through another in large ones, as
fast as they take it. What two cuts of the same sound bring must be the same events. At regular
moments both are played a probe, always the same, and what is made out of it is compared with what
a fresh stream makes of it. A recurrent model remembers, so what went before may sway an uncertain
frame; what must not happen is that a probe of the second half of the time fares worse than one of
the first.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from asr.events import Detection, Event, Utterance
from asr.files import write_figures
from asr.model import Model, State
from asr.stream import Stream, live_stream
from asr.studies.programme import Programme
from features.errors import EarshotError

SEED = 7
SMALL = (1, 313, 320, 4_099)  # samples that are pushed at once
LARGE = (1_600, 16_001, 131_071)
PROBES = 24  # or fewer, so that half of the time is left for other sounds

# Scores of two cuts agree to 1e-5 or so; among many events one may hang by less than that.
EVENTS_ALIKE = 0.9999
# What half of the probes may be worse by chance: in a day, three standard errors of the difference.
WORSE_AGREEMENT = 0.3
WORSE_DISTANCE = 0.05
MEMORY_GROWTH = 16 << 20  # bytes: what an allocator may take for itself, and no more


class SoakError(EarshotError, RuntimeError):
    """The stream did not stay as it was."""


class Recognised(NamedTuple):
    """Texts or keywords that were made out of a sound, and its log_probs (frames, labels)."""

    texts: list[str]
    log_probs: np.ndarray


class Probe(NamedTuple):
    """How a probe was recognised (see `compare`), and the resident memory in bytes then."""

    agreement: float
    distance: float
    memory: int | None


def soak(
    model: Model,
    hours: float,
    *,
    data: Sequence[Path] = (),
    noise: Sequence[Path] = (),
    json_file: Path | None = None,
) -> dict[str, Any]:
    """Print how a stream fares through `hours` of sound, and return the figures.

    data: recordings, or folders of them, that are played in random order; synthesised sounds if
        none are given. noise: the same for the pauses between.
    Raises SoakError if the stream did not stay as it was, and EarshotError.
    """
    programme = Programme(model.card.sample_rate, data, noise)
    memory = resident_memory()
    twins = Twins(model)
    started = time.perf_counter()
    probes = [*_probes(twins, programme, hours)]
    minutes = (time.perf_counter() - started) / 60
    played = twins.samples / programme.sample_rate / 3600
    figures = {"model": model.card.name, "hours": played, "hours_per_minute": played / minutes}
    figures |= {"finite": twins.finite, "events": twins.events, "differing": twins.differing}
    figures |= _drift(probes) | _memory([memory, *(probe.memory for probe in probes)])
    _print(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    if problems := [*_problems(figures)]:
        raise SoakError(f"{model.path}: {'; '.join(problems)}")
    return figures


def _probes(twins: "Twins", programme: Programme, hours: float) -> Iterator[Probe]:
    """Play `hours` of sound, and yield the probes in it."""
    probe, chunks = programme.probe(), programme.chunks()
    limit = hours * 3600 * programme.sample_rate
    room = limit / sum(map(len, probe))
    probes = 2 * max(1, min(PROBES, int(room / 2)) // 2)
    expected = twins.play_probe(probe)
    twins.reset()
    with _progress() as bar:
        task = bar.add_task("", total=hours)
        for number in range(1, probes + 1):
            while twins.samples < limit * number / probes:
                twins.play(next(chunks))
                bar.update(task, completed=hours * twins.samples / limit)
            yield Probe(*compare(expected, twins.play_probe(probe)), resident_memory())


# The streams


class Watched(Model):
    """A model that keeps the log_probs of its steps, and whether all it returns is finite."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.finite = True
        self._rows: list[np.ndarray] = []

    def step(self, pcm: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        log_probs, following = super().step(pcm, state)
        self.finite &= all(np.isfinite(x).all() for x in (log_probs, *following.values()))
        self._rows.append(log_probs[0])
        return log_probs, following

    def take(self) -> np.ndarray:
        """Return the log_probs (frames, labels) of the steps since the last call."""
        rows, self._rows = self._rows, []
        return np.concatenate([np.zeros((0, self.card.width), np.float32), *rows])


class Twins:
    """The same sound through two streams of a model, cut in two ways. Figures over all of it."""

    def __init__(self, model: Model) -> None:
        self._model = Watched(model.path)
        self._streams = (live_stream(self._model), live_stream(self._model))
        self._step = model.card.block_length or model.card.hop_length
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        for stream in self._streams:
            stream.reset()
        self._rng = np.random.default_rng(SEED)
        self.samples = self.events = self.differing = 0

    @property
    def finite(self) -> bool:
        """Whether all scores and states were numbers."""
        return self._model.finite

    def play(self, audio: np.ndarray) -> Recognised:
        """Play as much of float32 (n,) as makes whole steps, so that each begins like a stream."""
        audio = audio[: len(audio) - len(audio) % self._step]
        self.samples += len(audio)
        small = self._push(self._streams[0], audio, SMALL)
        log_probs = self._model.take()
        large = self._push(self._streams[1], audio, LARGE)
        self._model.take()
        self.events += len(small)
        self.differing += sum(
            a != b for a, b in zip_longest(map(_content, small), map(_content, large))
        )
        texts = [event.label if isinstance(event, Detection) else event.text for event in small]
        return Recognised(texts, log_probs)

    def play_probe(self, sounds: Sequence[np.ndarray]) -> list[Recognised]:
        """Play the sounds of a probe; what comes of the first depends on what was before."""
        return [self.play(sound) for sound in sounds][1:]

    def _push(
        self, stream: Stream, audio: np.ndarray, sizes: Sequence[int]
    ) -> list[Detection | Utterance]:
        """Push `audio` in blocks of random sizes; a Partial depends on them and is left out."""
        events: list[Event] = []
        start = 0
        while start < len(audio):
            end = start + int(self._rng.choice(sizes))
            events += stream.push(audio[start:end])
            start = end
        return [event for event in events if isinstance(event, Detection | Utterance)]


def _content(event: Detection | Utterance) -> tuple[object, ...]:
    """What an event contains, without scores, which differ by rounding."""
    if isinstance(event, Detection):
        return event.label, event.time
    return tuple((word.text, word.start, word.end) for word in event.words)


# The figures


def compare(expected: Sequence[Recognised], found: Sequence[Recognised]) -> tuple[float, float]:
    """Return the share of sounds recognised alike, and how far the probabilities are apart.

    The latter is the total variation distance, 0 to 1, averaged over the frames.
    """
    alike = [a.texts == b.texts for a, b in zip(expected, found, strict=True)]
    ours, theirs = (np.exp(np.concatenate([x.log_probs for x in h])) for h in (expected, found))
    return float(np.mean(alike)), float(np.abs(ours - theirs).sum(axis=1).mean() / 2)


def _drift(probes: Sequence[Probe]) -> dict[str, Any]:
    """Average the probes of the first and of the second half of the time."""
    values = np.array([(probe.agreement, probe.distance) for probe in probes])
    agreement, distance = values.reshape(2, -1, 2).mean(axis=1).T.tolist()
    return {"probes": len(probes), "agreement": agreement, "distance": distance}


def _memory(readings: Sequence[int | None]) -> dict[str, Any]:
    """Resident memory in bytes before the streams, at the first probe, and the most after it."""
    known = [reading for reading in readings if reading is not None]
    if not known:
        return {"memory": None}
    return {"memory": {"start": known[0], "warm": known[1], "most": max(known[1:])}}


def resident_memory() -> int | None:
    """Return the bytes of memory that this process takes, None where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def _problems(figures: dict[str, Any]) -> Iterator[str]:
    memory, events = figures["memory"], figures["events"]
    (first, later), (near, far) = figures["agreement"], figures["distance"]
    if not figures["finite"]:
        yield "scores or states are not finite"
    if figures["differing"] > events * (1 - EVENTS_ALIKE):
        yield f"{figures['differing']} of {events} events depend on how the sound is cut"
    if later < first - WORSE_AGREEMENT:
        yield f"agreement with a fresh stream falls from {first:.0%} to {later:.0%}"
    if far > near + WORSE_DISTANCE:
        yield f"distance from a fresh stream grows from {near:.3f} to {far:.3f}"
    if memory and memory["most"] > memory["warm"] + MEMORY_GROWTH:
        yield f"memory grows by {(memory['most'] - memory['warm']) / 2**20:.0f} MiB"


def _progress() -> Progress:
    hours = TextColumn("{task.completed:.2f} of {task.total:g} h")
    console = Console(stderr=True)
    console.quiet = disable = not console.is_terminal  # rich 13 ends a disabled bar with a line
    return Progress(BarColumn(None), hours, TimeRemainingColumn(), console=console, disable=disable)


def _print(figures: dict[str, Any]) -> None:
    table = Table(title=figures["model"], title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    memory = figures["memory"]
    sizes = [f"{memory[k] / 2**20:.1f}" for k in ("start", "warm", "most")] if memory else ["-"]
    first, later = figures["agreement"]
    near, far = figures["distance"]
    rows = {
        "sound": f"{figures['hours']:.2f} h",
        "speed, two streams": f"{figures['hours_per_minute']:.2f} h a minute",
        "scores and states finite": "yes" if figures["finite"] else "no",
        "events": str(figures["events"]),
        "events that differ between two cuts": str(figures["differing"]),
        "probes": str(figures["probes"]),
        "probes as from a fresh stream, first and second half": f"{first:.1%}   {later:.1%}",
        "distance from it, first and second half": f"{near:.4f}   {far:.4f}",
        "memory in MiB: start, warm, most after": "   ".join(sizes),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
