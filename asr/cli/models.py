"""Commands about model files: what they are, how they are made, how fast they are."""

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.errors import CommandError, training_packages
from asr.cli.options import (
    JsonFile,
    Keywords,
    ModelArgument,
    Negatives,
    Overrides,
    Run,
    spot_options,
)
from asr.cli.terminal import note, print_line


def info(
    model: ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="The card as it is in the file.")] = False,
) -> None:
    """Show a model's card: what it recognises, how it was trained, what it may be used for.

    [bold]asr info[/] english
    [bold]asr info[/] --json my_words.onnx | jq .metrics
    """
    from asr.model import load

    opened = load(model)
    if as_json:
        print_line(opened.card.to_json())
        return
    from rich.console import Console

    from asr.cli.card_table import card_table

    Console().print(card_table(opened.path, opened.card))


def export(
    run: Run,
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
    from asr.cli.card_table import written_lines

    with training_packages():
        from asr.training.network.encoders import Latency
        from export.export import Int8
        from export.export import export as export_to

        model, parity = export_to(
            run,
            out,
            latency=Latency(*latency) if latency else None,
            int8=Int8(data, max_loss) if int8 else None,
        )
    for line in written_lines(out, model.card, parity):
        note(line)


def frontier(
    run: Run,
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the figures.")] = None,
) -> None:
    """Measure what more look-ahead is worth: one model at several latencies.

    [bold]asr frontier[/] runs/my_words --plot frontier.png

    Exports the run with look-aheads from none to the whole utterance and measures each on the
    speakers that the training held out. Train with [bold]encoder.also[/] for weights that serve
    them all. Needs the training packages: pip install "earshot-asr\\[train]"
    """
    with training_packages():
        from asr.studies.frontier import frontier

        frontier(run, json_file, plot)


def bench(
    model: Annotated[
        str,
        typer.Argument(
            help="A bundled model, the path of an .onnx file, a recipe, or figures of --json."
        ),
    ],
    overrides: Overrides = None,
    json_file: JsonFile = None,
    audio: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A recording or a folder of them, instead of noise."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of a step.")] = 1,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers", help="Measure others beside it: torch, pocketsphinx, ctc-beam-decoder."
        ),
    ] = False,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Of a recipe in --audio, this source; repeatable."),
    ] = None,
    keywords: Keywords = None,
    negative: Negatives = None,
) -> None:
    """Measure how fast and how large a model is on this machine, or how fast a recipe trains.

    [bold]asr bench[/] commands
    [bold]asr bench[/] my_words.onnx --json figures.json
    [bold]asr bench[/] english --peers --audio digits/    and who gets the words right
    [bold]asr bench[/] english --peers --audio test.jsonl    and who gets sentences right
    [bold]asr bench[/] english --peers --audio words/ --keywords alexa --negative talk/
    [bold]asr bench[/] my_words.toml optimisation.precision=fp32
    [bold]asr bench[/] figures.json theirs.json     a table of several machines, in Markdown

    The real-time factor is seconds of computing per second of audio. p50 and p99
    are of all pushed blocks, of which some only wait until there is enough for a step.
    The step of a training is measured beside torch's bare LSTMs of the same sizes.

    --peers needs more packages: pip install "earshot-asr\\[bench]"

    With a manifest or a recipe (then: the speakers that it holds out) in --audio the peers
    are those that transcribe, Whisper, Moonshine and pocketsphinx; with a wake word in
    --keywords microWakeWord and openWakeWord. Each is measured where it is installed.
    """
    if (source or negative or keywords) and not (peers and audio):
        raise CommandError(
            "--source, --keywords and --negative say what to compare peers on; give --peers and "
            "--audio, too"
        )
    with training_packages("bench"):
        from asr.model import load
        from asr.studies.bench.inference import benchmark

        if model.endswith(".json"):
            from asr.studies.bench.machines import machine_table

            print_line(machine_table([Path(name) for name in (model, *(overrides or []))]))
            return
        if model.endswith(".toml"):
            if audio or peers:
                raise CommandError("a recipe has its own recordings; leave out --audio and --peers")
            from asr.studies.bench.training import benchmark_training
            from asr.training.config import read_config

            config = read_config(Path(model), overrides or [])
            benchmark_training(config, threads=threads, json_file=json_file)
            return
        recipe = peers and audio is not None and audio.suffix == ".toml"
        if overrides and not recipe:
            raise CommandError(f"{overrides[0]} would replace a field of a recipe; {model} is none")
        spotting = spot_options(keywords)
        if spotting and audio:
            from asr.studies.bench.wake_words import compare_wake_word

            compare_wake_word(
                load(model),
                spotting,
                audio,
                negative or (),
                source or (),
                overrides or (),
                json_file,
            )
        elif peers and audio and audio.suffix in (".toml", ".jsonl", ".json"):
            from asr.studies.bench.sentences import compare_sentences

            compare_sentences(load(model), audio, source or (), overrides or (), json_file)
        else:
            benchmark(load(model), audio=audio, threads=threads, peers=peers, json_file=json_file)


def soak(
    model: ModelArgument,
    hours: Annotated[float, typer.Option(min=0.001, help="Of sound, not of waiting.")] = 24.0,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Recordings to play, not tones; can be repeated."),
    ] = None,
    noise: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Noise for the pauses, not hiss; can be repeated."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Run a model through a day of sound, as fast as it can, and check that it stays as it was.

    [bold]asr soak[/] commands
    [bold]asr soak[/] english --data recordings/ --noise rain/ --hours 100

    The same sound runs through two streams, cut in two ways: their events must be the
    same, scores and states finite, and memory flat. A probe that is repeated must be
    recognised at the end as it was at the beginning. If not, the exit code is 2.
    """
    from asr.model import load
    from asr.studies.soak import soak

    soak(load(model), hours, data=data or (), noise=noise or (), json_file=json_file)
