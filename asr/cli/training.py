"""Commands that train models, and measure what became of them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.errors import CommandError, training_packages
from asr.cli.options import (
    Data,
    Jobs,
    JsonFile,
    Keywords,
    ModelArgument,
    Negatives,
    Overrides,
    Resume,
    Speaker,
    either,
    spot_options,
    takes_decoding,
    warn_of_ambiguities,
)
from asr.cli.own_words import (
    OF_A_FOLDER,
    Budget,
    Minutes,
    MoreOption,
    NameOption,
    OutOption,
    StartOption,
    WordNegatives,
    order_of,
)
from asr.cli.terminal import note, print_line

if TYPE_CHECKING:
    from asr.decode.options import DecodeOptions


class SearchMethod(StrEnum):
    """How `asr tune` chooses values."""

    bayes = "bayes"
    random = "random"
    grid = "grid"


def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|CONFIG", help="A folder with a folder for each word, or a TOML file."
        ),
    ],
    overrides: Overrides = None,
    resume: Resume = False,
    speaker: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            rich_help_panel=OF_A_FOLDER,
            help="What names the speaker in a path, as group 1. (default: guessed)",
            show_default=False,
        ),
    ] = None,
    minutes: Minutes = None,
    start: StartOption = None,
    negative: WordNegatives = None,
    more: MoreOption = None,
    false_alarms_per_hour: Budget = None,
    name: NameOption = None,
    out: OutOption = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            rich_help_panel=OF_A_FOLDER,
            help="Write the settings that it amounts to, and do not train.",
        ),
    ] = None,
) -> None:
    """Train a model on your own recordings.

    [bold]asr train[/] recordings/                       words are folders; writes recordings.onnx
    [bold]asr train[/] recordings/ --minutes 5 --negative radio/
    [bold]asr train[/] recordings/ --more kept/          and what 'asr review' says of kept sound
    [bold]asr train[/] recordings/ --config my_words.toml
    [bold]asr train[/] my_words.toml
    [bold]asr train[/] my_words.toml optimisation.epochs=10

    Of a folder: recordings/<word>/<recording>, in any language, of any rate. Speakers are
    guessed from the names (<speaker>_...) and some are held out. It starts from the
    weights of the bundled model that suits best, learns other words and silence from
    sound that comes with the package and from --negative, stops on time, sets the
    thresholds by the budget of false alarms and says what is right, what is confused,
    and what is missing most. Folders that begin with _ hold no word: noise, or other
    words if 'unknown' is in the name.

    Needs the training packages: pip install "earshot-asr\\[train]"
    """
    given = {
        "--speaker": speaker,
        "--minutes": minutes,
        "--from": start,
        "--negative": negative,
        "--more": more,
        "--false-alarms-per-hour": false_alarms_per_hour,
        "--name": name,
        "--out": out,
        "--config": config,
    }
    if not data.is_dir():
        if of_folders := [option for option, value in given.items() if value is not None]:
            raise CommandError(
                f"{of_folders[0]} is about folders of words; {data} is none: give a folder, or say "
                "it in the TOML file"
            )
        with training_packages():
            from asr.training.train import train

            if not data.exists():
                raise CommandError(f"{data}: no such folder of words or TOML file; check the path")
            train(data, overrides or [], resume)
        return
    with training_packages():
        from asr.studies.own_words.train import train_folder

        train_folder(
            data,
            order_of(
                name or data.resolve().name, out, minutes, start, false_alarms_per_hour, overrides
            ),
            speaker=speaker or "",
            negatives=negative or (),
            more=more or (),
            config=config,
            resume=resume,
        )


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


def cut(
    model: ModelArgument,
    data: Annotated[Path, typer.Argument(help="A manifest of sentences, or a folder with one.")],
    out: Annotated[Path, typer.Argument(help="The folder to write to.")],
    words: Annotated[
        str,
        typer.Option(help="Only these, as in 'on, off, stop'. [default: all]", show_default=False),
    ] = "",
    most: Annotated[int, typer.Option(min=1, help="Cuts of one word at most.")] = 100,
    margin: Annotated[float, typer.Option(min=0.0, help="Seconds kept around a word.")] = 0.1,
    confidence: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="That the model needs in a word.")
    ] = 0.5,
) -> None:
    """Cut words out of recorded sentences, to train keywords on as people say them.

    [bold]asr cut[/] english sentences.jsonl words/
    [bold]asr cut[/] english sentences.jsonl commands/ --words "on, off, yes, no" --most 500

    Aligns every recording with its text by a model that transcribes, and writes a folder for each
    word and a manifest.jsonl that a training configuration can name as a source. Speakers stay
    those of the sentences. What is not cut is counted, with the reason.
    """
    from asr.model import load
    from asr.training.cut import CutOptions, cut_words
    from asr.training.data.texts import plain_text

    wanted = frozenset(plain_text(word) for word in words.split(",") if word.strip())
    options = CutOptions(words=wanted, most=most, margin=margin, confidence=confidence)
    tally = cut_words(load(model), data, out, options)
    note(f"{tally.cut.total()} cuts of {len(tally.cut)} words in {out}")
    for reason, count in tally.left_out.most_common():
        note(f"left out {count} words {reason}")
    if missing := sorted(wanted - tally.cut.keys()):
        note(f"not found: {', '.join(missing)}")


def shard(
    config: Annotated[Path, typer.Argument(help="A TOML file, as for 'asr train'.")],
    out: Annotated[Path, typer.Argument(help="The folder to write to.")],
    overrides: Overrides = None,
) -> None:
    """Write the recordings of a training into tar files, to be read one after the other.

    [bold]asr shard[/] my_words.toml shards/

    Makes a folder for each source of speech, in the layout of WebDataset, with FLAC at
    the model's rate. A training reads it as a source of kind = "shards", without a
    cache of decoded audio. What is written already stays; noises and texts do.
    """
    with training_packages():
        from asr.training.config import read_config
        from asr.training.data.shards import write_shards

        for folder, recordings, shards in write_shards(read_config(config, overrides or []), out):
            note(f'{recordings} recordings in {shards} shards: path = "{folder}", kind = "shards"')


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
    model: Annotated[
        str, typer.Argument(metavar="MODEL|RUN", help="A model, or the folder of a training run.")
    ],
    recording: Annotated[Path, typer.Argument(help="A recording; its first 8 seconds are drawn.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.png", help="The picture to write.")
    ],
    label: Annotated[
        str | None, typer.Option(metavar="WORD", help="Of a model: why this, or why not.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Of a run: another, whose gradients are drawn beside these."
        ),
    ] = None,
) -> None:
    """See why a word was recognised, or why not; or the gates and the memory of an encoder.

    [bold]asr explain[/] commands stop.wav -o why.png
    [bold]asr explain[/] mine.onnx stop.wav -o why_not.png --label lamp
    [bold]asr explain[/] english talk.wav -o word.png --label garden
    [bold]asr explain[/] runs/lstm stop.wav -o lstm.png --compare runs/rnn

    Of a model: waveform, spectrogram, the parts of the sound that speak for and
    against the word (each is taken out in turn), the posteriors, and the score with
    the threshold. A model that transcribes explains any word, as it is spotted;
    without --label, the recognised word that is least certain.

    Of a training run, under the spectrogram: the gates, the hidden state and the cell
    state of each layer, and how the gradient of the last output falls with the
    distance in time: in a plain recurrence it vanishes. Needs the training packages:
    pip install "earshot-asr\\[train]"
    """
    from asr.model import bundled_models, load

    exported = model in bundled_models() or model.endswith(".onnx")
    if exported and compare:
        raise CommandError(f"--compare is about training runs; {model} is a model")
    if label and not exported:
        raise CommandError(f"--label is about models; export {model} and name the .onnx file")
    with training_packages():
        if exported:
            from asr.studies.plot_why import plot_why
            from asr.studies.why import explain_label

            why = explain_label(load(model), recording, label)
            plot_why(why, out)
            print_line(why.trace.reason)
        else:
            from asr.studies.explain import explain

            explain(Path(model), recording, out, compare)


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
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Of keywords: as they come in a stream, amid the sound of --negative."
        ),
    ] = False,
    negative: Negatives = None,
    save_alarms: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --stream: write what caused false alarms."),
    ] = None,
    jobs: Jobs = None,
    *,
    decoding: "DecodeOptions",
) -> None:
    """Measure a model on recordings whose words are known.

    [bold]asr evaluate[/] commands my_recordings/
    [bold]asr evaluate[/] english test.jsonl --json figures.json
    [bold]asr evaluate[/] my_words.onnx my_words.toml    the speakers that the training held out

    [bold]asr evaluate[/] english test.jsonl --lm lm.arpa --lm-weight 0.6 --word-bonus 1
    [bold]asr evaluate[/] english calls.jsonl --keywords "operator, wild fire" --plot det.png

    [bold]asr evaluate[/] lamp.onnx lamp/ --stream --negative radio/ --save-alarms alarms/

    With --stream it puts the recordings into the sound of --negative, which must hold
    none of the keywords, and runs the model over both as a device does: misses, false
    alarms an hour with what the hours prove, delay, and --plot draws DET curves. --jobs
    processes share the files of --negative; the figures are the same.
    Of --keywords it counts misses, false alarms and the delay. A manifest can say in
    keyword_start and keyword_end when the keyword of its text is said, in seconds.
    Intervals are 95 % confidence. Needs the training packages: pip install "earshot-asr\\[train]"
    """
    options = either(decoding, spot_options(keywords))
    if not stream and (negative or save_alarms or jobs):
        raise CommandError("--negative, --save-alarms and --jobs are about streams; add --stream")
    with training_packages():
        from asr.cores import cores
        from asr.decode.keywords.typed import SpotOptions
        from asr.evaluation.accuracy import evaluate
        from asr.evaluation.alarms import evaluate_stream
        from asr.evaluation.keywords import evaluate_keywords
        from asr.model import load

        opened = load(model)
        spotting = options if isinstance(options, SpotOptions) else None
        if spotting:
            warn_of_ambiguities(opened, spotting)
        if stream:
            evaluate_stream(
                opened,
                data,
                negative or [],
                options=spotting,
                speaker=speaker,
                json_file=json_file,
                plot=plot,
                alarms=save_alarms,
                jobs=jobs or cores(),
            )
        elif isinstance(options, SpotOptions):
            evaluate_keywords(opened, data, options, json_file, plot, speaker)
        else:
            evaluate(opened, data, json_file, plot, options, speaker)


@takes_decoding("n_best")
def report(
    model: ModelArgument,
    data: Annotated[
        list[Path],
        typer.Argument(help="Folders of words, manifests, recipes: see 'asr evaluate'."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Where to write: a folder, or FILE.html."),
    ],
    speaker: Speaker = "",
    no_audio: Annotated[
        bool, typer.Option("--no-audio", help="Without players: no recording is in the page.")
    ] = False,
    *,
    decoding: "DecodeOptions",
) -> None:
    """Write a page about a model: what it gets right, for whom, in what noise, and its errors.

    [bold]asr report[/] commands my_recordings/ -o report/
    [bold]asr report[/] english test.jsonl calls.jsonl -o report/
    [bold]asr report[/] commands my_recordings/ --no-audio -o published.html

    One HTML file that needs nothing beside it: figures with intervals, groups of
    speakers that a manifest tells (gender, age, accent, dialect, phone), the worst
    speakers and words, noise and rooms, and the most confident errors to play and to look at.
    Needs the training packages: pip install "earshot-asr\\[train]"
    """
    with training_packages():
        from asr.model import load
        from asr.studies.report.report import report

        page = report(load(model), data, out, decoding, speaker, audio=not no_audio)
    note(f"wrote {page}")


def tune(
    config: Annotated[Path, typer.Argument(help="A TOML file, as for 'asr train'.")],
    ranges: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=RANGE", help="Fields to search, low..high or a|b|c; KEY=VALUE fixes one."
        ),
    ] = None,
    method: Annotated[
        SearchMethod, typer.Option(help="How values are chosen.")
    ] = SearchMethod.bayes,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trainings in all. [default: 20, or the whole grid]")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.001, help="After which the search pauses.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Trainings at a time.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="Share the search with other machines: a journal file, or an SQL URL.",
        ),
    ] = None,
) -> None:
    """Search for the settings that train the best model.

    [bold]asr tune[/] my_words.toml
    [bold]asr tune[/] my_words.toml optimisation.learning_rate=1e-4..1e-2
    [bold]asr tune[/] my_words.toml 'data.balance=0|0.5|1' model.encoder.layers=1..3 --method grid
    [bold]asr tune[/] my_words.toml --minutes 60 --jobs 2
    [bold]asr tune[/] my_words.toml --storage /shared/my_words.journal

    Any setting of the configuration can have a range; one that spans a factor of
    ten or more is searched on a logarithmic scale. bayes learns from the trials
    before (TPE), random does not, grid tries every choice and five values of each
    range. A training that is worse than most were at the same validation is cut
    short. After an interruption the same command goes on. With --storage, any number
    of machines share a search: give each of them the same command, in a folder that
    all see.

    Writes to runs/<name>-tune: a table of the trials, a picture of what mattered,
    the best configuration as best.toml, and the weights of the best. Needs more:
    pip install "earshot-asr\\[tune]"
    """
    with training_packages("tune"):
        from asr.studies.tune import tune
        from asr.training.interrupts import Interrupted

        try:
            tune(
                config,
                ranges or (),
                method=method.value,
                trials=trials,
                minutes=minutes,
                jobs=jobs,
                storage=storage,
            )
        except Interrupted as stop:
            note(f"{stop}; the same command goes on")
            raise


def calibrate(
    model: ModelArgument,
    data: Data,
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The model file to write.")],
    speaker: Speaker = "",
    json_file: JsonFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw confidence against right words, or the DET."),
    ] = None,
    false_alarms_per_hour: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Set thresholds of keywords to keep this budget."),
    ] = None,
    negative: Negatives = None,
    keywords: Keywords = None,
    jobs: Jobs = None,
) -> None:
    """Set what a card promises: a budget of false alarms, or what the confidence of words means.

    [bold]asr calibrate[/] lamp.onnx lamp/ lamp.onnx --negative radio/ --false-alarms-per-hour 0.1
    [bold]asr calibrate[/] english calls.jsonl mine.onnx --keywords "operator, wild fire" ...

    Keywords, trained or typed: runs the stream over hours of sound without any of them
    and over the recordings of DATA put into it, chooses the threshold of each keyword,
    and writes them into the card, with what the hours prove: without one false alarm in
    three of them, no more than that there is less than one an hour.

    [bold]asr calibrate[/] my_words.onnx my_words.toml my_words.onnx
    [bold]asr calibrate[/] english test.jsonl mine.onnx --speaker '{speaker}' --plot words.png

    Without a budget, of a model that transcribes: of words at 90 %, nine in ten are right.
    Fits confidences to half of the speakers and reports on the others, before and
    after. DATA must not be what the model was trained on; of a recipe, the speakers
    that it holds out are taken. If a manifest says in keyword_start and keyword_end
    when a keyword is said, the times at which words begin are corrected too.

    Needs the training packages: pip install "earshot-asr\\[train]"
    """
    with training_packages():
        from asr.cores import cores
        from asr.model import load
        from asr.studies.budget import calibrate_alarms
        from asr.studies.calibrate import calibrate

        if false_alarms_per_hour is not None:
            calibrate_alarms(
                load(model),
                data,
                out,
                negative or [],
                false_alarms_per_hour,
                options=spot_options(keywords),
                speaker=speaker,
                json_file=json_file,
                plot=plot,
                jobs=jobs or cores(),
            )
            return
        if negative or keywords or jobs:
            raise CommandError(
                "--negative, --keywords and --jobs are about thresholds; say how many false alarms "
                "are allowed with --false-alarms-per-hour"
            )
        calibrate(load(model), data, out, speaker=speaker, json_file=json_file, plot=plot)
