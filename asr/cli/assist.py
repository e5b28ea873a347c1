"""The command that waits for a wake word and recognises what follows it."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr.cli.errors import CommandError
from asr.cli.execute import Executor, executing
from asr.cli.options import (
    Execute,
    Gate,
    OutputFormat,
    Provider,
    Threads,
    takes_decoding,
    warn_of_ambiguities,
)
from asr.cli.terminal import note, print_line, print_text, with_loss_warnings
from asr.runtime.providers import CPU
from asr.transcripts.formats import EventFormat, event_fields, json_line

if TYPE_CHECKING:
    import numpy as np

    from asr.assist import Assistant
    from asr.decode.keywords.typed import Keyword, SpotOptions
    from asr.decode.options import DecodeOptions
    from asr.microphone import Microphone, Playback
    from asr.model import Model

RETRY_SECONDS = 2.0


class Then(StrEnum):
    """What follows the wake word."""

    transcribe = "transcribe"
    commands = "commands"


@takes_decoding("n_best", "native")
def assist(
    wake: Annotated[str, typer.Option(metavar="WORDS", help="Wake words: 'hey lamp=0.8'.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="For the wake words; can be repeated: each word goes to a model that was trained "
            "on it, or else to one that transcribes. [default: english]",
            show_default=False,
        ),
    ] = None,
    then: Annotated[
        Then, typer.Option(help="What follows: speech, or a keyword of a model that spots.")
    ] = Then.transcribe,
    then_model: Annotated[
        str | None,
        typer.Option(help="For what follows. [default: english or commands]", show_default=False),
    ] = None,
    cancel: Annotated[
        str | None, typer.Option(metavar="WORDS", help="A keyword that sends it back to sleep.")
    ] = None,
    nothing: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Asleep again if nothing is said.")
    ] = 5.0,
    longest: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Asleep again in any case.")
    ] = 20.0,
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="Microphone: a number or name from 'asr devices'."),
    ] = None,
    play: Annotated[
        Path | None, typer.Option(metavar="FILE", help="This file, at its pace, instead.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Wait for a microphone that is not there.")
    ] = False,
    format: OutputFormat = EventFormat.txt,
    execute: Execute = None,
    gate: Gate = False,
    threads: Threads = 1,
    provider: Provider = CPU,
    *,
    decoding: "DecodeOptions",
) -> None:
    """Wait for a wake word, recognise what follows it, and go back to sleep.

    [bold]asr assist[/] --wake "hey lamp"
    [bold]asr assist[/] --wake "hey lamp=0.8" --grammar home.jsgf -f json | ...
    [bold]asr assist[/] --wake "hey lamp" --then commands --cancel "never mind"
    [bold]asr assist[/] --wake lumos -m lamp.onnx --exec "python3 light.py"
    [bold]asr assist[/] --wake "lumos, hey lamp" -m lamp.onnx -m english

    A model that transcribes finds any wake word untrained; with -m, one that was trained
    on its words. Speaking on without a pause loses nothing. While the program of --exec
    runs, what the microphone takes up wakes nothing: it may speak. JSON has one object a line:
    type (wake, partial, utterance, detection, sleep, echo), and as --exec gets it.

    Needs the sound packages: pip install "earshot-asr\\[mic]"
    """
    from asr.assist import Assistant, Patience
    from asr.decode.keywords.typed import parse_keywords
    from asr.gate import Gated
    from asr.model import load
    from asr.stream import live_stream

    others = parse_keywords(cancel) if cancel else ()
    if len(others) > 1:
        raise CommandError("--cancel takes one keyword")
    waking = [load(name, threads=threads, provider=provider) for name in model or ["english"]]
    shared = _shared_out(parse_keywords(wake) + others, waking)
    following = load(
        then_model or ("english" if then is Then.transcribe else "commands"),
        threads=threads,
        provider=provider,
    )
    _check_task(following.card.task, then)
    streams = [live_stream(*each) for each in zip(waking, shared, strict=True)]
    assistant = Assistant(
        [Gated(stream) for stream in streams] if gate else streams,
        live_stream(following, decoding if then is Then.transcribe else None),
        others[0].text if others else None,
        Patience(nothing=nothing, longest=longest),
    )
    rate = following.card.sample_rate
    sound = functools.partial(_sound, rate, device, play, retry)
    with executing(execute) as executor:
        _run(assistant, sound, rate, format, executor)


def _shared_out(words: "tuple[Keyword, ...]", models: "list[Model]") -> "list[SpotOptions]":
    """Say which model spots which words: one that was trained on it, or else one that transcribes.

    Raises CommandError if there is none for a word, or no word for a model.
    """
    from asr.decode.keywords.typed import SpotOptions

    shares: list[list[Keyword]] = [[] for _ in models]
    for word in words:
        fitting = [k for k, model in enumerate(models) if _has_learnt(model, word.text)]
        fitting += [k for k, model in enumerate(models) if model.card.task == "ctc"]
        if not fitting and len(models) > 1:
            raise CommandError(f"no model has learnt '{word.text}'; add -m english")
        shares[fitting[0] if fitting else 0].append(word)
    for model, share in zip(models, shares, strict=True):
        if not share:
            raise CommandError(f"{model.card.name} has no wake word to find; leave it out")
    spotting = [SpotOptions(keywords=tuple(share)) for share in shares]
    for model, options in zip(models, spotting, strict=True):
        warn_of_ambiguities(model, options)
    return spotting


def _has_learnt(model: "Model", word: str) -> bool:
    return model.card.task == "classify" and word in map(str.lower, model.card.labels)


def _run(
    assistant: "Assistant",
    sound: "Callable[[Callable[[], None]], Iterator[np.ndarray]]",
    rate: int,
    format: EventFormat,
    executor: Executor | None,
) -> None:
    """Report what sound brings, to its end; then what that cost."""
    busy = 0.0
    samples = 0

    def lost() -> None:
        _report(assistant.finish(), format, executor)
        assistant.reset()

    try:
        for block in sound(lost):
            assistant.speaking = executor is not None and executor.busy
            started = time.perf_counter()
            events = assistant.push(block)
            busy += time.perf_counter() - started
            samples += len(block)
            _report(events, format, executor)
    finally:
        _report(assistant.finish(), format, executor)
        if seconds := samples / rate:
            note(f"{seconds:.0f} s of sound took {busy / seconds:.1%} of a processor core")


def _check_task(task: str, then: Then) -> None:
    if (task == "ctc") != (then is Then.transcribe):
        other = Then.commands if then is Then.transcribe else Then.transcribe
        raise CommandError(f"--then-model does not fit --then {then}; give --then {other}")


def _sound(
    rate: int,
    device: str | None,
    play: Path | None,
    retry: bool,
    lost: Callable[[], None],
) -> "Iterator[np.ndarray]":
    """Yield blocks, from a microphone for ever; with `retry` one that goes away is waited for.

    lost: called when it went away; what comes next has nothing to do with what came before.
    """
    from asr.microphone import Microphone, MicrophoneError, Playback, look_again

    waiting = False
    while True:
        try:
            if waiting:
                look_again()
            with Playback(play, rate) if play else Microphone(rate, device) as source:
                _say_name(source)
                waiting = False
                yield from with_loss_warnings(source)
                return
        except MicrophoneError as error:
            if not retry:
                raise
            if not waiting:
                note(f"warning: {error}; waiting for it")
                lost()
            waiting = True
            time.sleep(RETRY_SECONDS)


def _say_name(source: "Microphone | Playback") -> None:
    note(f"listening to '{source.name}'; Ctrl-C stops")


def _report(events: Any, format: EventFormat, executor: Executor | None) -> None:
    from asr.assist import Echo, Sleep, Wake
    from asr.events import Partial

    for event in events:
        if isinstance(event, Wake | Sleep | Echo):
            fields = {"type": type(event).__name__.lower()} | _rounded(dataclasses.asdict(event))
        else:
            fields = event_fields(event)
        if format is EventFormat.json:
            print_text(json_line(fields))
        elif not isinstance(event, Partial):
            print_line(str(event))
        if executor is not None and not isinstance(event, Partial | Echo):
            executor.run(fields)


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: round(v, 4) if isinstance(v, float) else v for name, v in fields.items()}
