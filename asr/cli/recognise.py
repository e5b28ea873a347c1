"""Commands that recognise: files, standard input and the microphone."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.errors import CommandError
from asr.cli.many_files import printer, process_all
from asr.cli.options import (
    CPU,
    Confirm,
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
from asr.cli.standard_input import is_piped, standard_input
from asr.cli.terminal import note, print_text, show_live
from asr.transcripts.formats import EventFormat, Format, detection_line, pieces
from features.paths import shown

if TYPE_CHECKING:
    from asr.decode.keywords.typed import SpotOptions
    from asr.decode.options import DecodeOptions
    from asr.model import Model
    from asr.transcripts.folder import OutputFolder


@takes_decoding()
def transcribe(
    paths: Paths,
    model: ModelOption = "english",
    format: Annotated[
        Format, typer.Option("--format", "-f", help="What to write; see above.")
    ] = Format.txt,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write a file for each, in here."),
    ] = None,
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
    """
    from asr.batch.sources import find_sources, transcriber
    from asr.model import load

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
    if output is not None:
        if output.is_file():
            raise CommandError(
                f"{shown(output)} is a file and --output names a folder; "
                "write one transcript to a file with > FILE"
            )
        folder = _output_folder(output, format, model, decoding)
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


def spot(
    paths: Paths,
    model: SpottingModel = None,
    keywords: Keywords = None,
    near_misses: NearMisses = False,
    refractory: Refractory = None,
    confirm: Confirm = None,
    linger: Linger = None,
    format: OutputFormat = EventFormat.txt,
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

    The time, in seconds, is how much audio it took until the keyword was certain.
    --keywords can be any words: a model that transcribes finds them untrained. They
    score 1 if nothing fits the sound better and are found from 0.7 on, or from what
    follows their = sign, inside longer words too. JSON has their start and end. Of a
    model that spots, they are the only ones of its own words that are reported.
    If a file cannot be used the others still come out, and the exit code is 2.
    """
    from asr.batch.sources import find_sources, spotter
    from asr.model import load

    options = spot_options(
        keywords, near_misses, refractory=refractory, confirm=confirm, linger=linger
    )
    model = model or spotting_model(options)
    if is_piped(paths, raw_rate, jobs):
        _spot_pipe(load(model, threads=threads, provider=provider), options, format, raw_rate)
        return
    if options is not None:
        warn_of_ambiguities(load(model), options)
    sources = find_sources(paths)
    named = len(sources) > 1 and format is EventFormat.txt
    start = functools.partial(spotter, model, options, format, threads=threads, provider=provider)
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

    JSON has one object per line. Keywords: time, label, score.
    Speech: text, start, end, final (false while the utterance goes on).

    Needs the sound packages: pip install "earshot-asr\\[mic]"
    """
    from asr.microphone import Microphone
    from asr.model import load
    from asr.stream import live_stream

    spotting = spot_options(
        keywords, near_misses, refractory=refractory, confirm=confirm, linger=linger
    )
    opened = load(model or spotting_model(spotting), threads=threads, provider=provider)
    warn_of_ambiguities(opened, spotting)
    stream = live_stream(opened, either(decoding, spotting))
    with Microphone(stream.card.sample_rate, device) as microphone:
        note(f"listening to '{microphone.name}' with {stream.card.name}; Ctrl-C stops")
        try:
            warned = False
            for block in microphone:
                show_live(stream.push(block), format)
                if not warned and microphone.warning:
                    note(f"warning: {microphone.warning}")
                    warned = True
        finally:
            show_live(stream.finish(), format)
            if microphone.warning:
                note(f"warning: {microphone.warning}")


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


def _output_folder(
    folder: Path, format: Format, model: str, options: "DecodeOptions"
) -> "OutputFolder":
    from asr.model import model_path
    from asr.transcripts.folder import OutputFolder, fingerprint

    return OutputFolder(folder, format, fingerprint(model_path(model), options))
