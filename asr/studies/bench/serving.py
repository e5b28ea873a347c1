"""How many live streams a server holds, under clients at their own pace: the engine of `asr serve`
alone, or the command itself over WebSockets.

Each client sends MESSAGE_SECONDS of sound when it would have been recorded. Its latency is the
time from then to the events of the blocks that a message completes, so whatever comes late counts.
Over the network the clients need processor time, too: about as much as the server.
"""

import asyncio
import contextlib
import dataclasses
import functools
import json
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from asr.card import ModelCard
from asr.model import Model
from asr.serve.engine import Engine
from asr.studies.bench.timing import BenchmarkError
from asr.studies.soak import resident_memory
from features.audio import find_audio, read_audio, to_int16

MESSAGE_SECONDS = 0.1
WARM_SECONDS = 1.0
TRIAL_SECONDS = 6.0
SOUND_SECONDS = 60.0  # of recordings that clients play, each from a place of its own
P99_LIMIT = 0.15  # seconds
FIRST, MOST = 8, 4096  # streams
FINE = 0.1  # the number of streams is found to this share of it


@dataclass(frozen=True)
class Trial:
    """What a number of streams got. Latencies in seconds; processor: cores that were busy;
    memory: bytes for each stream, with its share of what the first took once and for all; both None
    where processes of a server share the work."""

    streams: int
    p50: float
    p95: float
    p99: float
    processor: float | None = None
    memory: float | None = None

    @property
    def held(self) -> bool:
        """Whether that was at real time."""
        return self.p99 <= P99_LIMIT

    def __str__(self) -> str:
        latencies = ", ".join(f"{1000 * s:.0f}" for s in (self.p50, self.p95, self.p99))
        line = f"{self.streams:5d} streams  p50, p95, p99 {latencies} ms"
        if self.processor is not None:
            a_core = f"{self.streams / self.processor:.0f} streams a core"
            line += f"  {self.processor:.2f} cores ({a_core})"
        if self.memory is not None:
            line += f"  {self.memory / 1024:.0f} KiB a stream"
        return line if self.held else f"{line}  too late"


def sound_of(path: Path, sample_rate: int) -> np.ndarray:
    """Return SOUND_SECONDS of a recording or a folder of them, repeated if they are shorter."""
    length = round(SOUND_SECONDS * sample_rate)
    pieces: list[np.ndarray] = []
    for file in find_audio(path):
        pieces.append(read_audio(file, sample_rate))
        if sum(map(len, pieces)) >= length:
            break
    if not pieces:
        raise BenchmarkError(f"{path}: has no recordings; name a folder that has some")
    return np.resize(np.concatenate(pieces), length)


def most_streams(trial_of: Callable[[int], Trial], report: Callable[[str], None]) -> Trial:
    """Try numbers of streams, by `engine_trials` or `network_trial`; return the one with the most
    that were held. Each is reported.

    Raises BenchmarkError if not even one is.
    """
    held: Trial | None = None
    streams, failed = FIRST, MOST
    while streams < failed:
        trial = trial_of(streams)
        report(str(trial))
        if trial.held:
            held = trial
        else:
            failed = streams
        low = held.streams if held else 0
        streams = 2 * low if failed == MOST else (low + failed) // 2
        if failed - low <= max(1.0, FINE * failed):
            break
    if held is None:
        raise BenchmarkError("this machine does not hold a stream; take a smaller model")
    return held


def engine_trials(model: Model, sound: np.ndarray) -> Callable[[int], Trial]:
    """Return what has a number of clients use an engine in this process.

    What one trial frees another takes again, so memory is that of the trial with most streams.
    """
    before, most = resident_memory() or 0, 0

    def trial(streams: int) -> Trial:
        nonlocal most
        most = max(most, streams)
        found = asyncio.run(_engine_trial(model, sound, streams))
        taken = max(0, (resident_memory() or 0) - before)
        return dataclasses.replace(found, memory=taken / most)

    return trial


def network_trial(url: str, model: Model, sound: np.ndarray, streams: int) -> Trial:
    """Have so many clients use a server: `url` is its ws://HOST:PORT."""
    return asyncio.run(_network_trial(url, model, sound, streams))


@contextlib.contextmanager
def served(path: Path, workers: int) -> Iterator[str]:
    """Serve a model in so many processes while the block runs; give the server's ws://HOST:PORT.

    Raises BenchmarkError.
    """
    command = [sys.executable, "-m", "asr", "serve", "--port", "0", "--model", str(path)]
    command += ["--workers", str(workers), "--streams", str(MOST)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            place = re.search(r"http://([\w.]+:\d+)", line)
            if place is None:
                raise BenchmarkError(f"the server did not start: {line.strip()}")
            yield f"ws://{place[1]}"
        finally:
            process.terminate()


async def _engine_trial(model: Model, sound: np.ndarray, streams: int) -> Trial:
    engine = Engine(model.card.name, model, lambda name, seconds: None)
    work = asyncio.create_task(engine.run())
    sessions = [engine.open() for _ in range(streams)]
    started = time.monotonic() + MESSAGE_SECONDS
    cpu = time.process_time()
    clients = (
        _play(model.card, sound, n / streams, started, session.push)
        for n, session in enumerate(sessions)
    )
    p50, p95, p99 = _percentiles(await asyncio.gather(*clients))
    busy = (time.process_time() - cpu) / (time.monotonic() - started)
    work.cancel()
    return Trial(streams, p50, p95, p99, busy)


async def _network_trial(url: str, model: Model, sound: np.ndarray, streams: int) -> Trial:
    wanted = json.dumps({"model": model.path.stem, "partials": False})
    async with contextlib.AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(connect(f"{url}/v1/stream", open_timeout=None))
            for _ in range(streams)
        ]
        for socket in sockets:
            await socket.send(wanted)
        started = time.monotonic() + MESSAGE_SECONDS
        clients = (
            _play(model.card, sound, n / streams, started, functools.partial(_send, socket))
            for n, socket in enumerate(sockets)
        )
        p50, p95, p99 = _percentiles(await asyncio.gather(*clients))
    return Trial(streams, p50, p95, p99)


def _percentiles(latencies: list[list[float]]) -> tuple[float, float, float]:
    p50, p95, p99 = np.percentile([each for own in latencies for each in own], [50, 95, 99])
    return float(p50), float(p95), float(p99)


async def _play(
    card: ModelCard,
    sound: np.ndarray,
    phase: float,
    started: float,
    send: Callable[[np.ndarray], Awaitable[object]],
) -> list[float]:
    """Play the sound at its pace, from a place and a time that `phase`, in [0, 1), says.

    send: takes a message of float32 samples and comes back when its events are there; how long
    after the time of the message that is, is returned for each that completes a block.
    """
    length = round(MESSAGE_SECONDS * card.sample_rate)
    block = card.block_length or card.hop_length
    count = round((WARM_SECONDS + TRIAL_SECONDS) / MESSAGE_SECONDS)
    first = round(phase * (len(sound) - count * length))
    begin = started + phase * block / card.sample_rate
    latencies: list[float] = []
    for number in range(count):
        due = begin + (number + 1) * MESSAGE_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        start, end = number * length, (number + 1) * length
        await send(sound[first + start : first + end])
        completes = end // block > start // block
        if completes and number * MESSAGE_SECONDS >= WARM_SECONDS:
            latencies.append(time.monotonic() - due)
    return latencies


async def _send(socket: ClientConnection, samples: np.ndarray) -> None:
    """Send sound to a server and wait until it is acknowledged, after its events."""
    await socket.send(to_int16(samples).astype("<i2").tobytes())
    while (kind := json.loads(await socket.recv())["type"]) != "ack":
        if kind == "error":
            raise BenchmarkError("the server refused a stream; see its --streams")
