"""Commands that train models, and measure what became of them."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.errors import training_packages
from asr.cli.options import (
    Data,
    JsonFile,
    Keywords,
    ModelArgument,
    Overrides,
    Run,
    Speaker,
    either,
    spot_options,
    takes_decoding,
    warn_of_ambiguities,
)
from asr.cli.terminal import note

if TYPE_CHECKING:
    from asr.decode.options import DecodeOptions


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; see the README for its fields.")],
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run was interrupted.")
    ] = False,
) -> None:
    """Train a model on your own recordings.

    [bold]asr train[/] my_words.toml
    [bold]asr train[/] my_words.toml optimisation.epochs=10

    Needs the training packages: pip install "earshot-asr\\[train]"
    """
    with training_packages():
        from asr.training.train import train

        train(config, overrides or [], resume)


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
    note(f"wrote {manifest}")


def compare(
    config: Annotated[Path, typer.Argument(help="A TOML file, as for 'asr train'.")],
    overrides: Overrides = None,
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
    Needs the training packages: pip install "earshot-asr\\[train]"
    """
    with training_packages():
        from asr.studies.compare import compare

        compare(
            config,
            overrides or (),
            kinds=kind or (),
            minutes=minutes,
            seeds=seeds,
            parameters=parameters,
        )


def explain(
    run: Run,
    recording: Annotated[Path, typer.Argument(help="A recording; its first 8 seconds are drawn.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.png", help="The picture to write.")
    ],
    compare: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Another run, whose gradients are drawn beside these."),
    ] = None,
) -> None:
    """See why: gates and memory of an encoder over time, and how far back its output reaches.

    [bold]asr explain[/] runs/lstm stop.wav -o lstm.png
    [bold]asr explain[/] runs/lstm stop.wav -o lstm.png --compare runs/rnn

    Under the spectrogram stand the gates, the hidden state and the cell state of each
    layer; below them, how the gradient of the last output falls with the distance in
    time: in a plain recurrence it vanishes. Needs the training packages:
    pip install "earshot-asr\\[train]"
    """
    with training_packages():
        from asr.studies.explain import explain

        explain(run, recording, out, compare)


@takes_decoding("n_best")
def evaluate(
    model: ModelArgument,
    data: Data,
    json_file: JsonFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the confusion matrix, or the DET curve."),
    ] = None,
    keywords: Keywords = None,
    speaker: Speaker = "",
    *,
    decoding: "DecodeOptions",
) -> None:
    """Measure a model on recordings whose words are known.

    [bold]asr evaluate[/] commands my_recordings/
    [bold]asr evaluate[/] english test.jsonl --json figures.json
    [bold]asr evaluate[/] my_words.onnx my_words.toml    the speakers that the training held out

    [bold]asr evaluate[/] english test.jsonl --lm lm.arpa --lm-weight 0.4 --word-bonus 2
    [bold]asr evaluate[/] english calls.jsonl --keywords "operator, wild fire" --plot det.png

    Of --keywords it counts misses, false alarms and the delay. A manifest can say in
    keyword_start and keyword_end when the keyword of its text is said, in seconds.
    Intervals are 95 % confidence. Needs the training packages: pip install "earshot-asr\\[train]"
    """
    options = either(decoding, spot_options(keywords))
    with training_packages():
        from asr.decode.keywords.typed import SpotOptions
        from asr.evaluation.accuracy import evaluate
        from asr.evaluation.keywords import evaluate_keywords
        from asr.model import load

        opened = load(model)
        if isinstance(options, SpotOptions):
            warn_of_ambiguities(opened, options)
            evaluate_keywords(opened, data, options, json_file, plot, speaker)
        else:
            evaluate(opened, data, json_file, plot, options, speaker)


@takes_decoding("lm", "lm_weight", "word_bonus", "n_best")
def tune(
    model: ModelArgument,
    data: Data,
    lm: Annotated[Path, typer.Option(metavar="FILE", help="The language model, ARPA or .onnx.")],
    speaker: Speaker = "",
    halves: Annotated[
        bool, typer.Option(help="Report each half of the speakers with the weights of the other.")
    ] = True,
    json_file: JsonFile = None,
    *,
    decoding: "DecodeOptions",
) -> None:
    """Find the weights of a language model on recordings whose words are known.

    [bold]asr tune[/] english my_words.toml --lm lm.arpa
    [bold]asr tune[/] english test.jsonl --speaker '{speaker}' --lm lm.arpa

    DATA must be neither what the acoustic model nor what the language model was
    trained on; of a recipe, the speakers that it holds out are taken. Prints the
    word and character error rates of each setting, those of every speaker with
    weights that were found without that speaker, and the options for the best.

    Needs the training packages: pip install "earshot-asr\\[train]"
    """
    with training_packages():
        from asr.model import load
        from asr.studies.tune import tune

        options = dataclasses.replace(decoding, lm=str(lm))
        tune(load(model), data, options, speaker=speaker, halves=halves, json_file=json_file)


def calibrate(
    model: ModelArgument,
    data: Data,
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The model file to write.")],
    speaker: Speaker = "",
    json_file: JsonFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw how many words are right, by confidence."),
    ] = None,
) -> None:
    """Make the confidence of words mean what it says: of words at 90 %, nine in ten are right.

    [bold]asr calibrate[/] my_words.onnx my_words.toml my_words.onnx
    [bold]asr calibrate[/] english test.jsonl mine.onnx --speaker '{speaker}' --plot words.png

    Fits confidences to half of the speakers and reports on the others, before and
    after. DATA must not be what the model was trained on; of a recipe, the speakers
    that it holds out are taken. If a manifest says in keyword_start and keyword_end
    when a keyword is said, the times at which words begin are corrected too.

    Needs the training packages: pip install "earshot-asr\\[train]"
    """
    with training_packages():
        from asr.model import load
        from asr.studies.calibrate import calibrate

        calibrate(load(model), data, out, speaker=speaker, json_file=json_file, plot=plot)
