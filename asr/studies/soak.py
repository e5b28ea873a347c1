"""A stream that goes on for days: whether it stays as it was in its first hour.

Sound runs through one stream in small blocks and, beside it, through another in large ones, as
fast as they take it. What two cuts of the same sound bring must be the same events. At regular
moments both are played a probe, always the same, and what is made out of it is compared with what
a fresh stream makes of it. A recurrent model remembers, so what went before may sway a doubtful
frame; what must not happen is that a probe of the second half of the time fares worse than one of
the first.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
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
from features.audio import find_audio, stream_audio
from features.errors import EarshotError

SMALL = (1, 313, 320, 4_099)  # samples that are pushed at once
LARGE = (1_600, 16_001, 131_071)
CHUNK_SECONDS = 20.0  # after so much sound the events of both streams are compared
PROBES = 24  # or fewer, so that half of the time is left for other sounds
PROBE_SOUNDS = 5  # of which the first only leads in
PROBE_SECONDS = 4.0  # the longest of these
PAUSE_SECONDS = 3.0
SEED, PROBE_SEED = 7, 8

# Scores of two cuts agree to 1e-5 or so; among many events one may hang by less than that.
EVENTS_ALIKE = 0.9999
# What half of the probes may be worse by chance: in a day, three standard errors of the difference.
WORSE_AGREEMENT = 0.3
WORSE_DISTANCE = 0.05
MEMORY_GROWTH = 16 << 20  # bytes: what an allocator may take for itself, and no more


class SoakError(EarshotError, RuntimeError):
    """The stream did not stay as it was."""


class Heard(NamedTuple):
    """Texts or keywords that were made out of a sound, and its log_probs (frames, labels)."""

    texts: list[str]
    log_probs: np.ndarray


class Probe(NamedTuple):
    """How a probe was heard, see `compare`, and the resident memory in bytes at that moment."""

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

    data: recordings, or folders of them, that are heard in random order; synthesised sounds if
        none are given. noise: the same for the pauses between.
    Raises SoakError if the stream did not stay as it was, and EarshotError.
    """
    programme = Programme(model.card.sample_rate, data, noise)
    memory = resident_memory()
    twins = Twins(model)
    started = time.perf_counter()
    probes = [*_listen(twins, programme, hours)]
    minutes = (time.perf_counter() - started) / 60
    heard = twins.samples / programme.sample_rate / 3600
    figures = {"model": model.card.name, "hours": heard, "hours_per_minute": heard / minutes}
    figures |= {"finite": twins.finite, "events": twins.events, "differing": twins.differing}
    figures |= _drift(probes) | _memory([memory, *(probe.memory for probe in probes)])
    _print(figures)
    if json_file is not None:
        write_figures(json_file, figures)
    if problems := [*_problems(figures)]:
        raise SoakError(f"{model.path}: {'; '.join(problems)}")
    return figures


def _listen(twins: "Twins", programme: "Programme", hours: float) -> Iterator[Probe]:
    """Hear `hours` of sound, and yield the probes in it."""
    probe, chunks = programme.probe(), programme.chunks()
    limit = hours * 3600 * programme.sample_rate
    room = limit / sum(map(len, probe))
    probes = 2 * max(1, min(PROBES, int(room / 2)) // 2)
    expected = twins.hear_probe(probe)
    twins.reset()
    with _progress() as bar:
        task = bar.add_task("", total=hours)
        for number in range(1, probes + 1):
            while twins.samples < limit * number / probes:
                twins.hear(next(chunks))
                bar.update(task, completed=hours * twins.samples / limit)
            yield Probe(*compare(expected, twins.hear_probe(probe)), resident_memory())


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
        return np.concatenate([np.zeros((0, len(self.card.labels)), np.float32), *rows])


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

    def hear(self, audio: np.ndarray) -> Heard:
        """Hear as much of float32 (n,) as makes whole steps, so that each begins like a stream."""
        audio = audio[: len(audio) - len(audio) % self._step]
        self.samples += len(audio)
        small = self._push(self._streams[0], audio, SMALL)
        log_probs = self._model.take()
        large = self._push(self._streams[1], audio, LARGE)
        self._model.take()
        self.events += len(small)
        self.differing += sum(a != b for a, b in zip_longest(map(_told, small), map(_told, large)))
        texts = [event.label if isinstance(event, Detection) else event.text for event in small]
        return Heard(texts, log_probs)

    def hear_probe(self, sounds: Sequence[np.ndarray]) -> list[Heard]:
        """Hear the sounds of a probe; what comes of the first depends on what was before."""
        return [self.hear(sound) for sound in sounds][1:]

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


def _told(event: Detection | Utterance) -> tuple[object, ...]:
    """What an event says, without scores, which differ by rounding."""
    if isinstance(event, Detection):
        return event.label, event.time
    return tuple((word.text, word.start, word.end) for word in event.words)


# The sound


class Programme:
    """Recordings or synthesised sounds in random order, with pauses between, without end."""

    def __init__(self, sample_rate: int, data: Sequence[Path], noise: Sequence[Path]) -> None:
        self.sample_rate = sample_rate
        self._recordings = [file for path in data for file in find_audio(path)]
        self._noises = [file for path in noise for file in find_audio(path)]

    def probe(self) -> list[np.ndarray]:
        """Return the sounds of the probe, (n,) each; a soft pause ends what is said in it."""
        rng = np.random.default_rng(PROBE_SEED)
        length = round(PROBE_SECONDS * self.sample_rate)
        pause = 0.01 * _hiss(rng, round(1.5 * self.sample_rate))
        sounds = [next(self._sound(rng, PROBE_SECONDS)) for _ in range(PROBE_SOUNDS)]
        return [np.concatenate([sound[:length], pause]) for sound in sounds]

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield sounds and pauses, in chunks of CHUNK_SECONDS or a little more, for ever."""
        rng = np.random.default_rng(SEED)
        pauses = self._pauses(rng)
        waiting: list[np.ndarray] = []
        while True:
            for block in chain(self._sound(rng, 1.0), [next(pauses)]):
                waiting.append(block)
                if sum(map(len, waiting)) >= CHUNK_SECONDS * self.sample_rate:
                    yield np.concatenate(waiting)
                    waiting = []

    def _sound(self, rng: np.random.Generator, block_seconds: float) -> Iterator[np.ndarray]:
        """Return the blocks of a recording, or of a synthesised sound."""
        if self._recordings:
            path = self._recordings[int(rng.integers(len(self._recordings)))]
            return stream_audio(path, self.sample_rate, block_seconds=block_seconds)
        seconds = np.arange(round(rng.uniform(0.2, 8.0) * self.sample_rate)) / self.sample_rate
        make = SOUNDS[int(rng.integers(len(SOUNDS)))]
        return iter([make(rng, seconds).astype(np.float32)])

    def _pauses(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield noise of any length up to PAUSE_SECONDS and of any level down to nothing."""
        while True:
            blocks: Iterator[np.ndarray] = iter(
                [_hiss(rng, round(PAUSE_SECONDS * self.sample_rate))]
            )
            if self._noises:
                path = self._noises[int(rng.integers(len(self._noises)))]
                blocks = stream_audio(path, self.sample_rate, block_seconds=PAUSE_SECONDS)
            for block in blocks:
                gain = np.float32(rng.choice([0.0, 0.01, 0.1, 1.0]))
                yield gain * block[: int(rng.integers(1, len(block) + 1))]


def _hiss(rng: np.random.Generator, samples: int) -> np.ndarray:
    return 0.1 * rng.standard_normal(samples, np.float32)


def _silence(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    del rng
    return np.zeros_like(seconds)


def _tone(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    return rng.uniform(0.01, 1.0) * np.sin(2 * np.pi * rng.uniform(50, 4_000) * seconds)


def _babble(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Voices of twelve harmonics each that swell and fade as syllables do."""
    babble = np.zeros_like(seconds)
    for pitch, pace in zip(rng.uniform(80, 300, 6), rng.uniform(2, 6, 6), strict=True):
        phase = 2 * np.pi * pitch * seconds
        voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 13))
        babble += voice * np.square(np.sin(np.pi * pace * seconds))
    return rng.uniform(0.01, 0.1) * babble


def _clicks(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    return rng.choice([-1.0, 0.0, 1.0], p=[0.0005, 0.999, 0.0005], size=len(seconds))


def _burst(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    return rng.choice([-1.0, 1.0], size=len(seconds))


SOUNDS = (_silence, _tone, _babble, _clicks, _burst)


# The figures


def compare(expected: Sequence[Heard], found: Sequence[Heard]) -> tuple[float, float]:
    """Return the share of sounds that were heard alike, and how far the probabilities are apart.

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
    disable = not console.is_terminal
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
        "heard": f"{figures['hours']:.2f} h",
        "speed, two streams": f"{figures['hours_per_minute']:.2f} h a minute",
        "scores and states finite": "yes" if figures["finite"] else "no",
        "events": str(figures["events"]),
        "events that differ between two cuts": str(figures["differing"]),
        "probes": str(figures["probes"]),
        "heard as by a fresh stream, first and second half": f"{first:.1%}   {later:.1%}",
        "distance from it, first and second half": f"{near:.4f}   {far:.4f}",
        "memory in MiB: start, warm, most after": "   ".join(sizes),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
