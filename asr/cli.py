"""The `asr` command. Thin: each command says what it wants, the library does it."""

import contextlib
import dataclasses
import functools
import io
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr.formats import (
    EventFormat,
    Format,
    detection_fields,
    detection_line,
    json_line,
    pieces,
    span_fields,
)
from features.errors import EarshotError

if TYPE_CHECKING:
    import numpy as np

    from asr.batch import Source
    from asr.decode import Event
    from asr.decode.options import DecodeOptions
    from asr.decode.spotting import SpotOptions
    from asr.output import OutputFolder
    from asr.workers import Start

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

lm = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(lm, name="lm", rich_help_panel="Models")

TRAINING_PACKAGES = {"torch", "torchaudio", "librosa", "onnx", "onnxscript", "jiwer", "matplotlib"}
CLEAR_LINE = "\r\x1b[K"


class CommandError(EarshotError):
    """The command cannot be carried out as it was given."""


Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH", help="Audio files, or folders to look for them in; - is standard input."
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="A bundled model, or the path of an .onnx file.")
]
OutputFormat = Annotated[
    EventFormat, typer.Option("--format", "-f", help="Text to read, or JSON lines for programs.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1, help="Processes that share the files; as many as there are cores."
    ),
]
RawRate = Annotated[
    int | None,
    typer.Option(
        metavar="HZ",
        min=1000,
        max=768_000,
        help="Standard input is raw PCM of this rate: 16 bits, little-endian, mono.",
    ),
]

SpottingModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A bundled model, or the path of an .onnx file. "
        "[default: commands; for --keywords english]",
        show_default=False,
    ),
]
Keywords = Annotated[
    str | None,
    typer.Option(metavar="WORDS", help="Spot these instead: 'operator, wild fire=0.8'."),
]
NearMisses = Annotated[
    bool, typer.Option("--near-misses", help="With --keywords: what nearly was one, and why not.")
]

DECODING = "How scores become words (models that transcribe)"
Beam = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", rich_help_panel=DECODING, help="Follow N texts at once, not just one."
    ),
]
Lm = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=DECODING,
        help="A language model: ARPA ('asr lm build'), or .onnx ('asr train', 'asr export').",
    ),
]
LmWeight = Annotated[
    float | None, typer.Option(rich_help_panel=DECODING, help="Its weight: 'asr tune' finds it.")
]
WordBonus = Annotated[
    float | None, typer.Option(rich_help_panel=DECODING, help="What each word adds beside it.")
]
Words = Annotated[
    Path | None,
    typer.Option(metavar="FILE", rich_help_panel=DECODING, help="Hear no words but these."),
]
GrammarFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=DECODING, help="Hear what this JSGF grammar says only."
    ),
]
Hotword = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WORD", rich_help_panel=DECODING, help="Expect a word or phrase; can be repeated."
    ),
]
NBest = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", rich_help_panel=DECODING, help="Give the N best texts, as JSON."
    ),
]


def main() -> None:
    """Run the `asr` command."""
    run(app)


def run(command: typer.Typer) -> None:
    """Run a command line; a failure is one line on stderr and exit code 2."""
    logging.basicConfig(format="warning: %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):  # any file name and any word can be printed
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command()
    except EarshotError as error:
        _complain(error)
        sys.exit(2)


@app.callback()
def _about() -> None:
    """Speech and keyword recognition on your own machine. Nothing you say leaves it.

    [bold]asr transcribe[/] talk.wav     write down what is said in a file
    [bold]asr spot[/] clip.wav           find yes, no, stop, go and other commands in it
    [bold]asr listen[/]                  do either, live, from the microphone
    """


@app.command(rich_help_panel="Hear")
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
    beam: Beam = None,
    lm: Lm = None,
    lm_weight: LmWeight = None,
    word_bonus: WordBonus = None,
    words: Words = None,
    grammar: GrammarFile = None,
    hotword: Hotword = None,
    n_best: NBest = None,
) -> None:
    """Write down what is said in audio files.

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
    from asr.batch import find_sources, transcriber

    options = _decode_options(
        beam=beam,
        lm=lm,
        alpha=lm_weight,
        beta=word_bonus,
        words=words,
        grammar=grammar,
        hotword=hotword,
        n_best=n_best,
    )
    if _from_pipe(paths, raw_rate):
        if output is not None:
            raise CommandError("standard input has no name to write to; use > FILE, not --output")
        _transcribe_pipe(model, options, format, raw_rate)
        return
    sources = find_sources(paths)
    start = functools.partial(transcriber, model, options, format)
    if output is not None:
        folder = _output_folder(output, format, model, options)
        pending = folder.pending(sources, overwrite)
        if len(pending) < len(sources):
            _note(f"{len(sources) - len(pending)} of {len(sources)} files were done before")
        _hear_all(pending, start, jobs, folder.write, ordered=False)
        return
    if overwrite:
        raise CommandError("--overwrite is about the files of --output; name its folder")
    several = len(sources) > 1
    if several and format in (Format.srt, Format.vtt):
        raise CommandError(f"{format} is for one file; name a folder to write to with --output")
    _hear_all(sources, start, jobs, _printer(several and format is Format.txt), ordered=True)


@app.command(rich_help_panel="Hear")
def spot(
    paths: Paths,
    model: SpottingModel = None,
    keywords: Keywords = None,
    near_misses: NearMisses = False,
    format: OutputFormat = EventFormat.txt,
    jobs: Jobs = None,
    raw_rate: RawRate = None,
) -> None:
    """Find keywords in audio files.

    [bold]asr spot[/] clip.wav               the time, probability and keyword of each find
    [bold]asr spot[/] recordings/            every file in a folder, "path: find"
    [bold]asr spot[/] -f json clip.wav       file, time, label, score of each find
    [bold]sox[/] talk.m4a -t wav - | [bold]asr spot[/] -
    [bold]asr spot[/] --keywords "operator, wild fire" clip.wav
    [bold]asr spot[/] --keywords "operator=0.8" --near-misses clip.wav

    The time, in seconds, is how much had been heard when the keyword was certain.
    --keywords can be any words: a model that transcribes finds them untrained. They
    score 1 if nothing fits the sound better and are found from 0.7 on, or from what
    follows their = sign, inside longer words too. JSON has their start and end.
    If a file cannot be used the others still come out, and the exit code is 2.
    """
    from asr.batch import find_sources, spotter

    options = _spot_options(keywords, near_misses)
    model = model or _spotting_model(options)
    if _from_pipe(paths, raw_rate):
        _spot_pipe(model, options, format, raw_rate)
        return
    sources = find_sources(paths)
    named = len(sources) > 1 and format is EventFormat.txt
    start = functools.partial(spotter, model, options, format)
    _hear_all(sources, start, jobs, _printer(named), ordered=True)


@app.command(rich_help_panel="Hear")
def listen(
    model: SpottingModel = None,
    keywords: Keywords = None,
    near_misses: NearMisses = False,
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="Microphone: a number or name from 'asr devices'."),
    ] = None,
    format: OutputFormat = EventFormat.txt,
    beam: Beam = None,
    lm: Lm = None,
    lm_weight: LmWeight = None,
    word_bonus: WordBonus = None,
    words: Words = None,
    grammar: GrammarFile = None,
    hotword: Hotword = None,
) -> None:
    """Listen to the microphone until Ctrl-C: spot keywords, or write speech down.

    [bold]asr listen[/]                      yes, no, stop, go and the other commands
    [bold]asr listen[/] -m english           write down what is said, as it is said
    [bold]asr listen[/] -m english --grammar lamp.gram
    [bold]asr listen[/] --keywords "operator, wild fire" --near-misses
    [bold]asr listen[/] -d 3 -f json | ...   let a program act on it

    JSON has one object per line. Keywords: time, label, score.
    Speech: text, start, end, final (false while the utterance goes on).

    Needs the sound packages: pip install "earshot\\[mic]"
    """
    from asr.microphone import Microphone
    from asr.model import load
    from asr.stream import live_stream

    spotting = _spot_options(keywords, near_misses)
    decoding = _decode_options(
        beam=beam,
        lm=lm,
        alpha=lm_weight,
        beta=word_bonus,
        words=words,
        grammar=grammar,
        hotword=hotword,
    )
    stream = live_stream(load(model or _spotting_model(spotting)), _either(decoding, spotting))
    with Microphone(stream.card.sample_rate, device) as microphone:
        _note(f"listening to '{microphone.name}' with {stream.card.name}; Ctrl-C stops")
        try:
            warned = False
            for block in microphone:
                _show_live(stream.push(block), format)
                if not warned and microphone.warning:
                    _note(f"warning: {microphone.warning}")
                    warned = True
        finally:
            _show_live(stream.finish(), format)
            if microphone.warning:
                _note(f"warning: {microphone.warning}")


@app.command(rich_help_panel="Hear")
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


@app.command(rich_help_panel="Models")
def info(
    model: Annotated[str, typer.Argument(help="A bundled model, or the path of an .onnx file.")],
    as_json: Annotated[bool, typer.Option("--json", help="The card as it is in the file.")] = False,
) -> None:
    """Show a model's card: what it hears, how it was trained, what it may be used for.

    [bold]asr info[/] english
    [bold]asr info[/] --json my_words.onnx | jq .metrics
    """
    from asr.model import load

    opened = load(model)
    if as_json:
        _print(opened.card.to_json())
        return
    from rich.console import Console

    Console().print(_card_table(opened.path, dataclasses.asdict(opened.card)))


@app.command(rich_help_panel="Models")
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; see the README for its fields.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Replace fields of it.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run was interrupted.")
    ] = False,
) -> None:
    """Train a model on your own recordings.

    [bold]asr train[/] my_words.toml
    [bold]asr train[/] my_words.toml optimisation.epochs=10

    Needs the training packages: pip install "earshot\\[train]"
    """
    with _training_packages():
        from asr.training.train import train

        train(config, overrides or [], resume)


@app.command(rich_help_panel="Models")
def synthesise(
    texts: Annotated[Path, typer.Argument(help="A text file, one text a line.")],
    out: Annotated[Path, typer.Argument(help="The folder to write to.")],
    takes: Annotated[int, typer.Option(min=1, help="How often each text is read.")] = 1,
) -> None:
    """Have texts read aloud by synthetic voices, to train on beside recordings.

    [bold]asr synthesise[/] texts.txt synthetic/ --takes 20

    Writes FLAC files and a manifest.jsonl that a training configuration can name as a source.
    Needs the programs espeak-ng and flite.
    """
    from asr.training.synthesise import synthesise

    manifest = synthesise(texts, out, takes)
    _note(f"wrote {manifest}")


@app.command(rich_help_panel="Models")
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The model file to write.")],
    latency: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="BLOCK LOOK_AHEAD", help="Another latency, in encoder frames as in a recipe."
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Smaller and faster: int8 weights, if they do no harm.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Judge int8 on this folder, manifest or recipe. [default: held out]"),
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0.0, help="Points of accuracy or CER that int8 may lose.")
    ] = 0.3,
) -> None:
    """Turn a training run into one .onnx file that runs anywhere.

    [bold]asr export[/] runs/my_words my_words.onnx
    [bold]asr export[/] runs/my_words my_words.onnx --int8
    [bold]asr export[/] runs/my_words quick.onnx --latency 6 0    no look-ahead at all
    [bold]asr export[/] runs/letters letters.onnx     a language model, for --lm

    Nothing is written unless the file gives the same results as the training code
    (with --int8: results as good, on speakers that the training held out).
    """
    with _training_packages():
        from asr.training.encoders import Latency
        from export.export import Int8, export_language_model, export_run, is_language_model

        if is_language_model(run):
            if latency or int8:
                raise CommandError("a language model has no latency and no int8; leave these out")
            export_language_model(run, out)
            return
        export_run(
            run,
            out,
            latency=Latency(*latency) if latency else None,
            int8=Int8(data, max_loss) if int8 else None,
        )


@app.command(rich_help_panel="Models")
def frontier(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the figures.")] = None,
) -> None:
    """Measure what hearing further ahead is worth: one model at several latencies.

    [bold]asr frontier[/] runs/my_words --plot frontier.png

    Exports the run with look-aheads from none to the whole utterance and measures each on the
    speakers that the training held out. Train with [bold]encoder.also[/] for weights that serve
    them all. Needs the training packages: pip install "earshot\\[train]"
    """
    with _training_packages():
        from export.frontier import frontier

        frontier(run, json_file, plot)


@app.command(rich_help_panel="Models")
def compare(
    config: Annotated[Path, typer.Argument(help="A TOML file, as for 'asr train'.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Replace fields of it.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.001, help="Of each training, validation not counted.")
    ] = 30.0,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each encoder.")] = 3,
    parameters: Annotated[
        int | None,
        typer.Option(min=1, help="Of each model. [default: those of CONFIG]", show_default=False),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this encoder; can be repeated. [default: all]")
    ] = None,
) -> None:
    """Compare the encoders: equal parameters, equal time to train, equal recordings.

    [bold]asr compare[/] my_words.toml --minutes 30 --seeds 3
    [bold]asr compare[/] my_words.toml --kind lstm --kind gru --parameters 300000

    Trains each encoder of the family by the same recipe, exports it and measures it on
    speakers that the training held out. The table, a plot and all runs are written to
    runs/<name>-compare; after an interruption, the same command goes on.
    Needs the training packages: pip install "earshot\\[train]"
    """
    with _training_packages():
        from export.compare import compare

        compare(
            config,
            overrides or (),
            kinds=kind or (),
            minutes=minutes,
            seeds=seeds,
            parameters=parameters,
        )


@app.command(rich_help_panel="Models")
def explain(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.")],
    recording: Annotated[Path, typer.Argument(help="What it hears; of this the first 8 seconds.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.png", help="The picture to write.")
    ],
    compare: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Another run, whose gradients are drawn beside these."),
    ] = None,
) -> None:
    """See why: gates and memory of an encoder over time, and how far back it hears.

    [bold]asr explain[/] runs/lstm stop.wav -o lstm.png
    [bold]asr explain[/] runs/lstm stop.wav -o lstm.png --compare runs/rnn

    Under the spectrogram stand the gates, the hidden state and the cell state of each
    layer; below them, how the gradient of the last output falls with the distance in
    time: in a plain recurrence it vanishes. Needs the training packages:
    pip install "earshot\\[train]"
    """
    with _training_packages():
        from asr.training.explain import explain

        explain(run, recording, out, compare)


@app.command(rich_help_panel="Models")
def evaluate(
    model: Annotated[str, typer.Argument(help="A bundled model, or the path of an .onnx file.")],
    data: Annotated[
        Path, typer.Argument(help="A folder of words, a JSON-lines manifest, or a recipe.")
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the confusion matrix, or the DET curve."),
    ] = None,
    keywords: Keywords = None,
    beam: Beam = None,
    lm: Lm = None,
    lm_weight: LmWeight = None,
    word_bonus: WordBonus = None,
    words: Words = None,
    grammar: GrammarFile = None,
    hotword: Hotword = None,
) -> None:
    """Measure a model on recordings whose words are known.

    [bold]asr evaluate[/] commands my_recordings/
    [bold]asr evaluate[/] english test.jsonl --json figures.json
    [bold]asr evaluate[/] my_words.onnx my_words.toml    the speakers that the training held out

    [bold]asr evaluate[/] english test.jsonl --lm lm.arpa --lm-weight 0.4 --word-bonus 2
    [bold]asr evaluate[/] english calls.jsonl --keywords "operator, wild fire" --plot det.png

    Of --keywords it counts misses, false alarms and the delay. A manifest can say in
    keyword_start and keyword_end when the keyword of its text is said, in seconds.
    Intervals are 95 % confidence. Needs the training packages: pip install "earshot\\[train]"
    """
    decoding = _decode_options(
        beam=beam,
        lm=lm,
        alpha=lm_weight,
        beta=word_bonus,
        words=words,
        grammar=grammar,
        hotword=hotword,
    )
    options = _either(decoding, _spot_options(keywords))
    with _training_packages():
        from asr.decode.spotting import SpotOptions
        from asr.model import load
        from asr.training.evaluate import evaluate
        from asr.training.evaluate_keywords import evaluate_keywords

        if isinstance(options, SpotOptions):
            evaluate_keywords(load(model), data, options, json_file, plot)
        else:
            evaluate(load(model), data, json_file, plot, options)


@app.command(rich_help_panel="Models")
def tune(
    model: Annotated[str, typer.Argument(help="A bundled model, or the path of an .onnx file.")],
    data: Annotated[
        Path, typer.Argument(help="A folder of words, a JSON-lines manifest, or a recipe.")
    ],
    lm: Annotated[Path, typer.Option(metavar="FILE", help="The language model, ARPA or .onnx.")],
    beam: Beam = None,
    words: Words = None,
    grammar: GrammarFile = None,
    hotword: Hotword = None,
    speaker: Annotated[
        str, typer.Option(help="What names the speaker in DATA, as in a recipe: '{speaker}'.")
    ] = "",
    halves: Annotated[
        bool, typer.Option(help="Tune on half of the speakers and report on the others.")
    ] = True,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
    ] = None,
) -> None:
    """Find the weights of a language model on recordings whose words are known.

    [bold]asr tune[/] english my_words.toml --lm lm.arpa
    [bold]asr tune[/] english test.jsonl --speaker '{speaker}' --lm lm.arpa

    DATA must be neither what the acoustic model nor what the language model was
    trained on; of a recipe, the speakers that it holds out are taken. Prints the
    word and character error rates of each setting, and the options for the best.

    Needs the training packages: pip install "earshot\\[train]"
    """
    options = _decode_options(beam=beam, lm=lm, words=words, grammar=grammar, hotword=hotword)
    with _training_packages():
        from asr.model import load
        from asr.training.tune import tune

        tune(load(model), data, options, speaker=speaker, halves=halves, json_file=json_file)


@app.command(rich_help_panel="Models")
def bench(
    model: Annotated[str, typer.Argument(help="A bundled model, or the path of an .onnx file.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A recording or a folder of them, instead of noise."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of a step.")] = 1,
    peers: Annotated[
        bool, typer.Option("--peers", help="Measure torch and pocketsphinx beside it.")
    ] = False,
) -> None:
    """Measure how fast and how large a model is on this machine.

    [bold]asr bench[/] commands
    [bold]asr bench[/] my_words.onnx --json figures.json
    [bold]asr bench[/] english --peers --audio digits/    and who gets the words right

    The real-time factor is seconds of computing per second of audio. p50 and p99
    are of all pushed blocks, of which some only wait until there is enough for a step.
    --peers needs more packages: pip install "earshot\\[bench]"
    """
    with _training_packages("bench"):
        from asr.model import load
        from export.benchmark import benchmark

        benchmark(load(model), audio=audio, threads=threads, peers=peers, json_file=json_file)


@app.command(rich_help_panel="Models")
def soak(
    model: Annotated[str, typer.Argument(help="A bundled model, or the path of an .onnx file.")],
    hours: Annotated[float, typer.Option(min=0.001, help="Of sound, not of waiting.")] = 24.0,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Recordings to hear, not tones; can be repeated."),
    ] = None,
    noise: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Noise for the pauses, not hiss; can be repeated."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
    ] = None,
) -> None:
    """Let a model listen for a day of sound, as fast as it can, and see that it stays as it was.

    [bold]asr soak[/] commands
    [bold]asr soak[/] english --data recordings/ --noise rain/ --hours 100

    The same sound runs through two streams, cut in two ways: their events must be the
    same, scores and states finite, and memory flat. A probe that is repeated must be
    heard at the end as it was at the beginning. If not, the exit code is 2.
    """
    from asr.model import load
    from asr.soak import soak

    soak(load(model), hours, data=data or (), noise=noise or (), json_file=json_file)


@lm.callback()
def _about_language_models() -> None:
    """Make and measure language models, which say what is likely to be said."""


@lm.command("build")
def lm_build(
    texts: Annotated[
        list[Path],
        typer.Argument(metavar="TEXT", help="Texts, one sentence a line, or training recipes."),
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="The ARPA file to write.")],
    order: Annotated[int, typer.Option(min=1, help="Words that are looked at together.")] = 3,
    characters: Annotated[
        bool, typer.Option("--characters", help="Model characters instead of words.")
    ] = False,
) -> None:
    """Estimate an n-gram language model from texts (modified Kneser-Ney).

    [bold]asr lm build[/] sentences.txt -o lm.arpa
    [bold]asr lm build[/] names.txt -o letters.arpa --characters --order 5
    [bold]asr lm build[/] my_words.toml -o lm.arpa      what the speakers of the training say

    Texts are lower-cased. The result works in [bold]asr transcribe --lm[/].
    """
    with _training_packages():
        from asr.training.ngram import build, read_sentences, write_arpa

        sentences = (s for text in texts for s in read_sentences(text, characters))
        write_arpa(build(sentences, order), out)
        _note(f"wrote {out}")


@lm.command("perplexity")
def lm_perplexity(
    model: Annotated[Path, typer.Argument(metavar="LM", help="An ARPA file, or an .onnx.")],
    texts: Annotated[
        list[Path],
        typer.Argument(metavar="TEXT", help="Texts, one sentence a line, or training recipes."),
    ],
) -> None:
    """Measure how well a language model foretells texts: the lower, the better.

    [bold]asr lm perplexity[/] lm.arpa other_sentences.txt
    [bold]asr lm perplexity[/] letters.onnx other_sentences.txt

    Words that the model does not know are counted and left out. The figures of a
    model of characters are per character: only such models compare with each other.
    """
    with _training_packages():
        from asr.decode.options import read_lm
        from asr.training.ngram import perplexity, read_sentences

        opened = read_lm(model)
        sentences = (s for text in texts for s in read_sentences(text, opened.of_characters))
        found, known, unknown = perplexity(opened, sentences)
        scored = f"{known} words and sentence ends"
        _print(f"perplexity {found:.2f} over {scored}; {unknown} words unknown")


def _from_pipe(paths: list[Path], raw_rate: int | None) -> bool:
    """Tell whether standard input is to be heard. Raises CommandError if it cannot be."""
    pipe = Path("-")
    if pipe not in paths:
        if raw_rate is not None:
            raise CommandError("--raw-rate is about standard input; give - as the PATH")
        return False
    if len(paths) > 1:
        raise CommandError("- is standard input and stands alone; hear the files in another run")
    if sys.stdin is None or sys.stdin.isatty():
        raise CommandError("no sound comes from a keyboard; pipe a recording into this command")
    return True


def _decode_options(
    *,
    lm: Path | None = None,
    words: Path | None = None,
    grammar: Path | None = None,
    hotword: list[str] | None = None,
    **numbers: float | None,
) -> "DecodeOptions":
    """Read the files that options name; what is not given stays as the library has it."""
    from asr.decode.grammar import read_grammar
    from asr.decode.options import DecodeOptions, read_lm, read_words

    chosen: dict[str, Any] = {
        **numbers,
        "lm": read_lm(lm) if lm else None,
        "words": read_words(words) if words else None,
        "grammar": read_grammar(grammar) if grammar else None,
        "hotwords": tuple(word.lower() for word in hotword) if hotword else None,
    }
    return DecodeOptions(**{name: value for name, value in chosen.items() if value is not None})


def _spot_options(keywords: str | None, near_misses: bool = False) -> "SpotOptions | None":
    """Read typed keywords, and warn about those that will be mistaken; None if there are none."""
    from asr.decode.spotting import SpotOptions, doubts, parse_keywords

    if keywords is None:
        if near_misses:
            raise CommandError("--near-misses is about typed keywords; give them with --keywords")
        return None
    options = SpotOptions(keywords=parse_keywords(keywords), near_misses=near_misses)
    for doubt in doubts(options.keywords):
        _note(f"warning: {doubt}")
    return options


def _spotting_model(options: "SpotOptions | None") -> str:
    return "english" if options else "commands"


def _either(
    decoding: "DecodeOptions", spotting: "SpotOptions | None"
) -> "DecodeOptions | SpotOptions":
    """Return the one that was chosen. Raises CommandError if both were."""
    from asr.decode.options import DecodeOptions

    if spotting and decoding != DecodeOptions():
        raise CommandError("--keywords excludes language models, word lists and the like")
    return spotting or decoding


def _transcribe_pipe(
    model: str, options: "DecodeOptions", format: Format, raw_rate: int | None
) -> None:
    from asr.model import load
    from asr.transcribe import transcribe_blocks

    recogniser = load(model)
    blocks = _standard_input(recogniser.card.sample_rate, raw_rate)
    utterances = transcribe_blocks(recogniser, blocks, options, "standard input")
    for piece in pieces(utterances, "-", format):
        print(piece, end="", flush=True)


def _spot_pipe(
    model: str, options: "SpotOptions | None", format: EventFormat, raw_rate: int | None
) -> None:
    from asr.model import load
    from asr.transcribe import spot_blocks

    spotter = load(model)
    blocks = _standard_input(spotter.card.sample_rate, raw_rate)
    for detection in spot_blocks(spotter, blocks, options, "standard input"):
        print(detection_line(detection, "-", format), end="", flush=True)


def _standard_input(sample_rate: int, raw_rate: int | None) -> "Iterator[np.ndarray]":
    from features.audio import stream_pipe

    with os.fdopen(sys.stdin.fileno(), "rb", closefd=False) as pipe:
        yield from stream_pipe(pipe, sample_rate, source_rate=raw_rate)


def _output_folder(
    folder: Path, format: Format, model: str, options: "DecodeOptions"
) -> "OutputFolder":
    from asr.model import model_path
    from asr.output import OutputFolder, fingerprint

    return OutputFolder(folder, format, fingerprint(model_path(model), options))


def _hear_all(
    sources: "Sequence[Source | EarshotError]",
    start: "Start",
    jobs: int | None,
    take: "Callable[[Source, str], None]",
    ordered: bool,
) -> None:
    """Call take(source, what was heard) for each; what went wrong is reported at the end."""
    from asr.batch import Source
    from asr.workers import cores, hear_files, in_order

    failures = {n: source for n, source in enumerate(sources) if not isinstance(source, Source)}
    files = [(n, source) for n, source in enumerate(sources) if isinstance(source, Source)]
    results = hear_files(start, [file.path for _, file in files], min(jobs or cores(), len(files)))
    try:
        with contextlib.closing(results), _progress(len(files), not ordered) as advance:
            for index, result in in_order(results) if ordered else results:
                place, source = files[index]
                if isinstance(result, str):
                    take(source, result)
                else:
                    failures[place] = result
                advance()
    finally:
        for _, failure in sorted(failures.items()):
            _complain(failure)
        if failures and len(sources) > 1:
            _complain(f"{len(failures)} of {len(sources)} files failed")
    if failures:
        raise typer.Exit(2)


def _printer(named: bool) -> "Callable[[Source, str], None]":
    """Return what prints a file's results, each line after its name if `named`."""

    def show(source: "Source", text: str) -> None:
        if named:
            text = "".join(f"{source.path}: {line}\n" for line in text.splitlines())
        print(text, end="", flush=True)

    return show


@contextlib.contextmanager
def _progress(files: int, silent: bool) -> Iterator[Callable[[], None]]:
    """Yield what moves a bar on stderr, if that is a terminal on which nothing else is printed."""
    if files < 2 or not sys.stderr.isatty() or not (silent or not sys.stdout.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=files)
        yield lambda: bar.advance(task)


def _show_live(events: "list[Event]", format: EventFormat) -> None:
    """Print events as they come; on a terminal an utterance that goes on is rewritten in place."""
    from asr.decode import Detection, NearMiss, Partial

    for event in events:
        goes_on = isinstance(event, Partial)
        if format is EventFormat.json:
            spots = isinstance(event, Detection | NearMiss)
            fields = detection_fields(event) if spots else span_fields(event)
            line = json_line(fields if spots else fields | {"final": not goes_on})
            print(line, end="", flush=True)
        elif sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
            line = str(event)[-width:] if goes_on else f"{event}\n"
            print(f"{CLEAR_LINE}{line}", end="", flush=True)
        elif not goes_on:
            _print(str(event))


@contextlib.contextmanager
def _training_packages(extra: str = "train") -> Iterator[None]:
    """Say which extra installs the training packages if one of them turns out to be missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in TRAINING_PACKAGES:
            raise
        raise CommandError(
            f'{package} is not installed; get what this needs: pip install "earshot[{extra}]"'
        ) from None


def _card_table(path: Path, card: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=str(path), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in card.items():
        if name == "training_data":
            value = "\n".join(" - ".join(source.values()) for source in value)
        elif isinstance(value, dict):
            value = "\n".join(f"{key} = {entry}" for key, entry in value.items())
        elif isinstance(value, tuple):
            value = "  ".join(json.dumps(entry, ensure_ascii=False) for entry in value)
        table.add_row(name, Text("-" if value in (None, "") else str(value)))
    return table


def _print(line: str) -> None:
    print(line, flush=True)


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _complain(problem: EarshotError | str) -> None:
    _note(f"error: {problem}")
