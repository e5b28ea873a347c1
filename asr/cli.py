"""The `asr` command. Thin: each command says what it wants, the library does it."""

import contextlib
import dataclasses
import io
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import EarshotError

if TYPE_CHECKING:
    from asr.decode import Detection, Event, Partial, Utterance
    from asr.transcribe import Transcript

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


class Format(StrEnum):
    """How results are printed."""

    txt = "txt"
    json = "json"


Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH", help="Audio files, or folders to look for them in."),
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="A bundled model, or the path of an .onnx file.")
]
OutputFormat = Annotated[
    Format, typer.Option("--format", "-f", help="Text to read, or JSON lines for programs.")
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
    paths: Paths, model: ModelOption = "english", format: OutputFormat = Format.txt
) -> None:
    """Write down what is said in audio files.

    [bold]asr transcribe[/] talk.wav                 just the words
    [bold]asr transcribe[/] recordings/              every file in a folder, "path: words"
    [bold]asr transcribe[/] -f json talk.wav | jq    words, utterances and times

    Reads wav, flac, ogg, opus, mp3 and aiff, of any rate, length and channels.
    JSON has one object per file and line: file, text, duration, and segments,
    each with text, start, end and its words; times are in seconds.
    If a file cannot be used the others still come out, and the exit code is 2.
    """
    from asr.model import load
    from asr.transcribe import transcribe

    recogniser = load(model)

    def show(file: Path, several: bool) -> None:
        transcript = transcribe(recogniser, file)
        if format is Format.json:
            _print_json({"file": str(file)} | _transcript_fields(transcript))
        else:
            _print(f"{file}: {transcript.text}" if several else transcript.text)

    _for_each_file(paths, show)


@app.command(rich_help_panel="Hear")
def spot(paths: Paths, model: ModelOption = "commands", format: OutputFormat = Format.txt) -> None:
    """Find keywords in audio files.

    [bold]asr spot[/] clip.wav               the time, probability and keyword of each find
    [bold]asr spot[/] recordings/            every file in a folder, "path: find"
    [bold]asr spot[/] -f json clip.wav       file, time, label, score of each find

    The time, in seconds, is how much had been heard when the keyword was certain.
    If a file cannot be used the others still come out, and the exit code is 2.
    """
    from asr.model import load
    from asr.transcribe import spot

    spotter = load(model)

    def show(file: Path, several: bool) -> None:
        for detection in spot(spotter, file):
            if format is Format.json:
                _print_json({"file": str(file)} | _detection_fields(detection))
            else:
                _print(f"{file}: {detection}" if several else str(detection))

    _for_each_file(paths, show)


@app.command(rich_help_panel="Hear")
def listen(
    model: ModelOption = "commands",
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="Microphone: a number or name from 'asr devices'."),
    ] = None,
    format: OutputFormat = Format.txt,
) -> None:
    """Listen to the microphone until Ctrl-C: spot keywords, or write speech down.

    [bold]asr listen[/]                      yes, no, stop, go and the other commands
    [bold]asr listen[/] -m english           write down what is said, as it is said
    [bold]asr listen[/] -d 3 -f json | ...   let a program act on it

    JSON has one object per line. Keywords: time, label, score.
    Speech: text, start, end, final (false while the utterance goes on).

    Needs the sound packages: pip install "earshot\\[mic]"
    """
    from asr.microphone import Microphone
    from asr.model import load
    from asr.stream import live_stream

    stream = live_stream(load(model))
    with Microphone(stream.card.sample_rate, device) as microphone:
        _note(f"listening to '{microphone.name}' with {stream.card.name}; Ctrl-C stops")
        try:
            for block in microphone:
                _show_live(stream.push(block), format)
        finally:
            _show_live(stream.finish(), format)
            if microphone.overruns:
                _note(f"warning: sound was lost {microphone.overruns} times; close busy programs")


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
) -> None:
    """Turn a training run into one .onnx file that runs anywhere.

    [bold]asr export[/] runs/my_words my_words.onnx

    Nothing is written unless the file gives the same results as the training code.
    """
    with _training_packages():
        from export.export import export_run

        export_run(run, out)


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
        Path | None, typer.Option(metavar="FILE.png", help="Draw the confusion matrix (keywords).")
    ] = None,
) -> None:
    """Measure a model on recordings whose words are known.

    [bold]asr evaluate[/] commands my_recordings/
    [bold]asr evaluate[/] english test.jsonl --json figures.json
    [bold]asr evaluate[/] my_words.onnx my_words.toml    the speakers that the training held out

    Intervals are 95 % confidence. Needs the training packages: pip install "earshot\\[train]"
    """
    with _training_packages():
        from asr.model import load
        from asr.training.evaluate import evaluate

        evaluate(load(model), data, json_file, plot)


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
    model: Annotated[Path, typer.Argument(metavar="LM", help="An ARPA file, plain or gzip.")],
    texts: Annotated[
        list[Path],
        typer.Argument(metavar="TEXT", help="Texts, one sentence a line, or training recipes."),
    ],
) -> None:
    """Measure how well a language model foretells texts: the lower, the better.

    [bold]asr lm perplexity[/] lm.arpa other_sentences.txt

    Words that the model does not know are counted and left out.
    """
    with _training_packages():
        from asr.decode.ngram import read_arpa
        from asr.training.ngram import perplexity, read_sentences

        opened = read_arpa(model)
        sentences = (s for text in texts for s in read_sentences(text, opened.of_characters))
        found, known, unknown = perplexity(opened, sentences)
        scored = f"{known} words and sentence ends"
        _print(f"perplexity {found:.2f} over {scored}; {unknown} words unknown")


def _for_each_file(paths: list[Path], show: Callable[[Path, bool], None]) -> None:
    """Call show(file, several) for each; what goes wrong with one does not stop the others."""
    from features.audio import AudioError, find_audio

    files: list[Path | AudioError] = []
    for path in paths:
        try:
            files += find_audio(path)
        except AudioError as error:
            files.append(error)
    failed = 0
    for file in files:
        try:
            if isinstance(file, AudioError):
                raise file
            show(file, len(files) > 1)
        except AudioError as error:
            failed += 1
            _complain(error)
    if failed and len(files) > 1:
        _complain(f"{failed} of {len(files)} files failed")
    if failed:
        raise typer.Exit(2)


def _show_live(events: "list[Event]", format: Format) -> None:
    """Print events as they come; on a terminal an utterance that goes on is rewritten in place."""
    from asr.decode import Detection, Partial

    for event in events:
        goes_on = isinstance(event, Partial)
        if format is Format.json:
            spots = isinstance(event, Detection)
            fields = _detection_fields(event) if spots else _span_fields(event)
            _print_json(fields if spots else fields | {"final": not goes_on})
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


def _transcript_fields(transcript: "Transcript") -> dict[str, Any]:
    return {
        "text": transcript.text,
        "duration": round(transcript.duration, 3),
        "segments": [_utterance_fields(segment) for segment in transcript.segments],
    }


def _utterance_fields(utterance: "Utterance") -> dict[str, Any]:
    words = [
        {"text": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
        for word in utterance.words
    ]
    return _span_fields(utterance) | {"words": words}


def _span_fields(span: "Partial | Utterance") -> dict[str, Any]:
    return {"text": span.text, "start": round(span.start, 3), "end": round(span.end, 3)}


def _detection_fields(detection: "Detection") -> dict[str, Any]:
    score = round(detection.score, 4)
    return {"time": round(detection.time, 3), "label": detection.label, "score": score}


def _print_json(fields: dict[str, Any]) -> None:
    _print(json.dumps(fields, ensure_ascii=False))


def _print(line: str) -> None:
    print(line, flush=True)


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _complain(problem: EarshotError | str) -> None:
    _note(f"error: {problem}")
