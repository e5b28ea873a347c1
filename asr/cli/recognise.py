"""Commands that recognise: files, standard input and the microphone."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.archive import Address, Archive, Engine, EngineOption, Shards, process_archive
from asr.cli.errors import CommandError
from asr.cli.execute import execute_all, executing
from asr.cli.many_files import printer, process_all
from asr.cli.options import (
    Confirm,
    Execute,
    Gate,
    Jobs,
    Keywords,
    Linger,
    ModelOption,
    NearMisses,
    OutputFormat,
    Paths,
    Provider,
    RawRate,
    Refractory,
    SpottingModel,
    Threads,
    either,
    spot_options,
    spotting_model,
    takes_decoding,
    warn_of_ambiguities,
)
from asr.cli.saving import SaveOption, Saver, watched
from asr.cli.standard_input import is_piped, standard_input
from asr.cli.terminal import note, print_text, show_live, with_loss_warnings
from asr.runtime.providers import CPU
from asr.transcripts.formats import EventFormat, Format, detection_line, pieces
from features.paths import shown

if TYPE_CHECKING:
    from asr.batch.folder import OutputFolder
    from asr.decode.keywords.typed import SpotOptions
    from asr.decode.options import DecodeOptions
    from asr.model import Model


@takes_decoding()
def transcribe(
    paths: Paths,
    model: ModelOption = "english",
    format: Annotated[
        Format, typer.Option("--format", "-f", help="What to write; see above.")
    ] = Format.txt,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Write a file for each, in here; or shards."
        ),
    ] = None,
    shards: Shards = None,
    engine: EngineOption = Engine.local,
    address: Address = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --output: also what is done already.")
    ] = False,
    jobs: Jobs = None,
    raw_rate: RawRate = None,
    threads: Threads = 1,
    provider: Provider = CPU,
    *,
    decoding: "DecodeOptions",
) -> None:
    """Transcribe audio files.

    [bold]asr transcribe[/] talk.wav                     just the words
    [bold]asr transcribe[/] recordings/                  every file in a folder, "path: words"
    [bold]asr transcribe[/] -f json talk.wav | jq        words, utterances and times
    [bold]asr transcribe[/] -f srt film.mp3 > film.srt   subtitles
    [bold]asr transcribe[/] recordings/ -f vtt -o subtitles/
    [bold]asr transcribe[/] archive/ --engine ray -o results/
    [bold]asr transcribe[/] --lm letters.arpa --words words.txt --n-best 3 -f json talk.wav
    [bold]arecord[/] -f S16_LE -r 16000 | [bold]asr transcribe[/] - --raw-rate 16000

    Reads wav, flac, ogg, opus, mp3 and aiff, of any rate, length and channels.
    JSON has one object per file and line: file, text, duration, and segments,
    each with text, start, end and its words; times are in seconds. srt and vtt are
    subtitles, ctm is a line per word for NIST's scoring tools. From standard input
    each utterance is a line of its own, as soon as it ends.

    With --output the folder gets a file for each, in the same sub-folders. The same
    command again does only what is missing, or whose audio, model or options changed.
    If a file cannot be used the others still come out, and the exit code is 2.

    With --shards, and always with --engine ray, the folder gets files with the
    results of a hundred recordings each, one JSON object per recording. It may be
    a URL (s3://...), and recordings may be, too.
    """
    from asr.batch.folder import made_by
    from asr.batch.sources import find_sources, transcriber
    from asr.model import load

    archive = Archive(engine, address, shards, output, jobs)
    if archive.wanted:
        _check_shards(archive, format, overwrite)
        format = Format.json
    if decoding.n_best > 1 and format is not Format.json:
        raise CommandError(f"--n-best is about JSON and {format} has one text; add -f json")
    if is_piped(paths, raw_rate, jobs):
        if output is not None:
            raise CommandError("standard input has no name to write to; use > FILE, not --output")
        _transcribe_pipe(
            load(model, threads=threads, provider=provider), decoding, format, raw_rate
        )
        return
    sources = find_sources(paths)
    start = functools.partial(
        transcriber, model, decoding, format, threads=threads, provider=provider
    )
    if archive.wanted:
        process_archive(sources, start, functools.partial(made_by, model, decoding), archive)
        return
    if output is not None:
        with _output_folder(output, format, made_by(model, decoding)) as folder:
            pending = folder.pending(sources, overwrite)
            if len(pending) < len(sources):
                note(f"{len(sources) - len(pending)} of {len(sources)} files were done before")
            process_all(pending, start, jobs, folder.write, ordered=False)
        return
    if overwrite:
        raise CommandError("--overwrite is about the files of --output; name its folder")
    several = len(sources) > 1
    if several and format in (Format.srt, Format.vtt):
        raise CommandError(f"{format} is for one file; name a folder to write to with --output")
    process_all(sources, start, jobs, printer(several and format is Format.txt), ordered=True)


def _check_shards(archive: Archive, format: Format, overwrite: bool) -> None:
    """Refuse what goes with a file for each only."""
    if overwrite:
        raise CommandError("shards are written once; name another folder instead of --overwrite")
    if format not in (Format.txt, Format.json):
        raise CommandError(f"shards hold JSON and {format} is a file for each; leave out -f")


def spot(
    paths: Paths,
    model: SpottingModel = None,
    keywords: Keywords = None,
    near_misses: NearMisses = False,
    refractory: Refractory = None,
    confirm: Confirm = None,
    linger: Linger = None,
    format: OutputFormat = EventFormat.txt,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="DIR", help="Write shards, in here.")
    ] = None,
    shards: Shards = None,
    engine: EngineOption = Engine.local,
    address: Address = None,
    jobs: Jobs = None,
    raw_rate: RawRate = None,
    threads: Threads = 1,
    provider: Provider = CPU,
) -> None:
    """Find keywords in audio files.

    [bold]asr spot[/] clip.wav               the time, probability and keyword of each find
    [bold]asr spot[/] recordings/            every file in a folder, "path: find"
    [bold]asr spot[/] -f json clip.wav       file, time, label, score of each find
    [bold]sox[/] talk.m4a -t wav - | [bold]asr spot[/] -
    [bold]asr spot[/] --keywords "operator, wild fire" clip.wav
    [bold]asr spot[/] --keywords "operator=0.8" --near-misses clip.wav
    [bold]asr spot[/] -m commands --keywords "stop, go=0.8" clip.wav
    [bold]asr spot[/] archive/ --engine ray -o results/    an object for each recording

    The time, in seconds, is how much audio it took until the keyword was certain.
    --keywords can be any words: a model that transcribes finds them untrained. They
    score 1 if nothing fits the sound better and are found from 0.7 on, or from what
    follows their = sign, inside longer words too. JSON has their start and end. Of a
    model that spots, they are the only ones of its own words that are reported.
    If a file cannot be used the others still come out, and the exit code is 2.
    """
    from asr.batch.folder import made_by
    from asr.batch.sources import find_sources, spotter
    from asr.model import load

    archive = Archive(engine, address, shards, output, jobs)
    if output is not None and not archive.wanted:
        raise CommandError("--output holds shards; add --shards jsonl, or write to > FILE")
    options = spot_options(
        keywords, model, near_misses, refractory=refractory, confirm=confirm, linger=linger
    )
    model = model or spotting_model(options)
    if is_piped(paths, raw_rate, jobs):
        if output is not None:
            raise CommandError("standard input has no name to write to; use > FILE, not --output")
        _spot_pipe(load(model, threads=threads, provider=provider), options, format, raw_rate)
        return
    if options is not None:
        warn_of_ambiguities(load(model), options)
    sources = find_sources(paths)
    named = len(sources) > 1 and format is EventFormat.txt
    start = functools.partial(
        spotter, model, options, format, archive.wanted, threads=threads, provider=provider
    )
    if archive.wanted:
        process_archive(sources, start, functools.partial(made_by, model, options), archive)
        return
    process_all(sources, start, jobs, printer(named), ordered=True)


@takes_decoding("n_best", "native")
def listen(
    model: SpottingModel = None,
    keywords: Keywords = None,
    near_misses: NearMisses = False,
    refractory: Refractory = None,
    confirm: Confirm = None,
    linger: Linger = None,
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="Microphone: a number or name from 'asr devices'."),
    ] = None,
    format: OutputFormat = EventFormat.txt,
    execute: Execute = None,
    save: SaveOption = None,
    gate: Gate = False,
    threads: Threads = 1,
    provider: Provider = CPU,
    *,
    decoding: "DecodeOptions",
) -> None:
    """Listen to the microphone until Ctrl-C: spot keywords, or transcribe speech.

    [bold]asr listen[/]                      yes, no, stop, go and the other commands
    [bold]asr listen[/] -m english           transcribe speech as it is said
    [bold]asr listen[/] -m english --grammar lamp.gram
    [bold]asr listen[/] --keywords "operator, wild fire" --near-misses
    [bold]asr listen[/] -m commands --keywords "stop, go=0.8"
    [bold]asr listen[/] -d 3 -f json | ...   let a program act on it
    [bold]asr listen[/] --exec "python3 light.py"        or run one for each event
    [bold]asr listen[/] -m lamp.onnx --save kept/        keep the sound of keywords, to review

    JSON has one object per line. Keywords: time, label, score.
    Speech: text, start, end, final (false while the utterance goes on).

    Nothing is kept without --save. With it, what fired and what nearly fired is written
    to DIR, 2 s before and after, 200 MB at most: see 'asr review' and 'asr train --more'.

    Needs the sound packages: pip install "earshot-asr\\[mic]"
    """
    from asr.gate import Gated
    from asr.microphone import Microphone
    from asr.model import load
    from asr.stream import live_stream

    spotting = spot_options(
        keywords, model, near_misses, refractory=refractory, confirm=confirm, linger=linger
    )
    opened = load(model or spotting_model(spotting), threads=threads, provider=provider)
    warn_of_ambiguities(opened, spotting)
    chosen = either(decoding, spotting)
    stream = live_stream(opened, watched(opened, spotting) if save else chosen)
    source = Gated(stream) if gate else stream
    with (
        executing(execute) as executor,
        Microphone(stream.card.sample_rate, device) as microphone,
    ):
        saver = Saver(save, stream.card, near_misses)
        note(f"listening to '{microphone.name}' with {stream.card.name}; Ctrl-C stops")
        try:
            for block in with_loss_warnings(microphone):
                show_live(events := saver.push(block, source.push(block)), format)
                execute_all(executor, events)
        finally:
            show_live(events := saver.finish(source.finish()), format)
            execute_all(executor, events)


def devices() -> None:
    """List the microphones; a star marks the one that is used by default."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from asr.microphone import NO_MICROPHONE, MicrophoneError, input_devices

    found = input_devices()
    if not found:
        raise MicrophoneError(NO_MICROPHONE)
    table = Table("", "Number", "Name", "System", "Channels", "Rate in Hz")
    for device in found:
        facts = (device.index, device.name, device.host_api, device.channels, device.sample_rate)
        table.add_row("*" if device.default else "", *(escape(str(fact)) for fact in facts))
    Console().print(table)


def _transcribe_pipe(
    recogniser: "Model", options: "DecodeOptions", format: Format, raw_rate: int | None
) -> None:
    from asr.recognise import transcribe_blocks

    with standard_input(recogniser.card.sample_rate, raw_rate) as blocks:
        utterances = transcribe_blocks(recogniser, blocks, options, "standard input")
        for piece in pieces(utterances, "-", format):
            print_text(piece)


def _spot_pipe(
    spotter: "Model", options: "SpotOptions | None", format: EventFormat, raw_rate: int | None
) -> None:
    from asr.recognise import spot_blocks

    warn_of_ambiguities(spotter, options)
    with standard_input(spotter.card.sample_rate, raw_rate) as blocks:
        for detection in spot_blocks(spotter, blocks, options, "standard input"):
            print_text(detection_line(detection, "-", format))


@contextlib.contextmanager
def _output_folder(output: str, format: Format, made_by: str) -> "Iterator[OutputFolder]":
    """Give the folder, which no other run may write to meanwhile."""
    from asr.batch.folder import OutputFolder
    from asr.batch.locations import is_url
    from asr.batch.store import local_lock

    if is_url(output):
        raise CommandError("a file for each goes into a folder of this machine; add --shards jsonl")
    folder = Path(output)
    named_like_a_file = folder.suffix[1:] in {*Format} and not folder.is_dir()
    if folder.is_file() or named_like_a_file:
        raise CommandError(
            f"{shown(output)} is a file and --output names a folder; "
            "write one transcript to a file with > FILE"
        )
    with local_lock(folder):
        yield OutputFolder(folder, format, made_by)
