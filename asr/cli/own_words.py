"""Commands that make a model of one's own words, and the options that they share."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.errors import CommandError, training_packages
from asr.cli.options import ModelArgument, Resume
from asr.cli.terminal import metered, note, print_line

if TYPE_CHECKING:
    from asr.studies.own_words.build import Order

OF_A_FOLDER = "Of a folder of words"
FEWEST_MINUTES = 1.0
RECORDING_RATE = 16_000  # what models take

Minutes = Annotated[
    float | None,
    typer.Option(
        min=FEWEST_MINUTES,
        rich_help_panel=OF_A_FOLDER,
        help="How long it may take in all. (default: 20)",
        show_default=False,
    ),
]
StartOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MODEL",
        rich_help_panel=OF_A_FOLDER,
        help="Whose weights to start from: english, commands, an .onnx file, or nothing. "
        "(default: what a trial says)",
        show_default=False,
    ),
]
WordNegatives = Annotated[
    list[Path] | None,
    typer.Option(
        "--negative",
        metavar="PATH",
        rich_help_panel=OF_A_FOLDER,
        help="Sound that holds none of the words, the more hours the better; repeatable.",
    ),
]
MoreOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR",
        rich_help_panel=OF_A_FOLDER,
        help="What 'asr listen --save' kept and 'asr review' labelled: false alarms and missed "
        "words; repeatable.",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        metavar="RATE",
        rich_help_panel=OF_A_FOLDER,
        help="False alarms that thresholds may give. (default: 0.5)",
        show_default=False,
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=OF_A_FOLDER,
        help="Of the model and its run. (default: that of the folder)",
        show_default=False,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE.onnx",
        rich_help_panel=OF_A_FOLDER,
        help="The model file to write. (default: NAME.onnx)",
        show_default=False,
    ),
]


def order_of(
    name: str,
    out: Path | None,
    minutes: float | None,
    start: str | None,
    budget: float | None,
    overrides: Sequence[str] | None = None,
) -> "Order":
    """What the options ask for; the library has the defaults."""
    from asr.studies.own_words.build import Order

    name = re.sub(r"[\s/]+", "_", name.strip()) or "words"
    if budget is not None and not budget > 0.0:
        raise CommandError(
            f"a budget of {budget:g} false alarms an hour cannot be proved by any number of hours; "
            "allow some, for example 0.1"
        )
    given = {"minutes": minutes, "start": start, "budget": budget}
    return Order(
        name=name,
        out=out or Path(f"{name}.onnx"),
        folder=Path("runs") / name,
        overrides=tuple(overrides or ()),
        **{key: value for key, value in given.items() if value is not None},
    )


def new(
    phrases: Annotated[
        list[str], typer.Argument(metavar="PHRASE", help="What it shall react to; one or more.")
    ],
    recordings: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Own recordings, a folder for each phrase."),
    ] = None,
    language: Annotated[str, typer.Option(help="Of the voices: en, de, fr, ...")] = "en",
    speaker: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="What names the speaker in a path of --recordings."),
    ] = None,
    minutes: Minutes = None,
    start: StartOption = None,
    negative: WordNegatives = None,
    more: MoreOption = None,
    false_alarms_per_hour: Budget = None,
    name: NameOption = None,
    out: OutOption = None,
    resume: Resume = False,
) -> None:
    """Make a wake word from a phrase alone, without recordings.

    [bold]asr new[/] "hey lamp"                          writes hey_lamp.onnx
    [bold]asr new[/] "hey lamp" "lamp off" --name lamp --negative radio/
    [bold]asr new[/] "hey lamp" --recordings mine/       own ones weigh more, and are measured
    [bold]asr new[/] "hallo lampe" --language de

    All synthetic voices that are installed read the phrases (eSpeak NG, Flite, Festival,
    Piper with the voices in $PIPER_VOICES), at any speed and pitch. What sounds nearly
    like them, by their pronunciation, is learned as none of them. The rest is as in
    'asr train FOLDER'. Synthetic voices are no people: a few own recordings ('asr record')
    help more than anything else. Needs the training packages, and: apt install espeak-ng flite
    """
    with training_packages():
        from asr.studies.own_words.new import new_words

        new_words(
            phrases,
            order_of(name or phrases[0], out, minutes, start, false_alarms_per_hour),
            language=language,
            recordings=recordings,
            speaker=speaker or "",
            negatives=negative or (),
            more=more or (),
            resume=resume,
        )


def adapt(
    model: ModelArgument,
    recordings: Annotated[
        Path,
        typer.Argument(
            metavar="RECORDINGS", help="Of a person: a folder of words, a manifest, or files."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.onnx", help="The model file to write.")
    ],
    old: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Recordings of others, who must not be forgotten. (default: those that come with "
            "the package, and synthetic voices)",
        ),
    ] = None,
) -> None:
    """Adapt a model to one person, by 5 to 20 recordings, in about two minutes.

    [bold]asr adapt[/] lamp.onnx recordings/ -o mine.onnx
    [bold]asr adapt[/] english me.jsonl -o mine.onnx --old others.jsonl

    Recordings are folders of words (recordings/<word>/1.wav), a manifest with texts, or
    files named after what is said in them (hey lamp_1.wav). It prints how much is
    recognised wrongly before and after: of the person, in recordings that were held out
    in turn, and of others. If the person is not recognised better, or others are worse
    by more than 0.5 points, nothing is written.
    Needs the training packages: pip install "earshot-asr\\[train]"
    """
    with training_packages():
        from asr.studies.own_words.adapt import adapt

        adapt(model, recordings, out, old)


def record(
    words: Annotated[list[str], typer.Argument(metavar="WORD", help="What to say; one or more.")],
    takes: Annotated[int, typer.Option(min=1, help="How often each is said.")] = 10,
    folder: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where to write.")
    ] = Path("recordings"),
    speaker: Annotated[str, typer.Option(help="Who speaks, for the file names.")] = "me",
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="Microphone: a number or name from 'asr devices'."),
    ] = None,
) -> None:
    """Record takes of words from the microphone, to train on.

    [bold]asr record[/] "hey lamp"                       ten takes into recordings/hey lamp/
    [bold]asr record[/] on off --takes 5 --speaker anna -o lamp/

    Say the word when it is asked for, in another voice, pace and place each time. A take
    ends by itself, is trimmed and checked: what is clipped, too quiet or too short is
    said again. Nothing else is kept. Then: asr train recordings/, or for a phrase
    asr new "hey lamp" --recordings recordings/

    Needs the sound packages: pip install "earshot-asr\\[mic]"
    """
    from asr.microphone import Microphone
    from asr.recorder import TakeFinder, next_path, takes_in, write_take

    if "/" in "".join([*words, speaker]):
        raise CommandError("words and speakers become names of files; leave out the /")
    finder = TakeFinder(RECORDING_RATE)
    with Microphone(RECORDING_RATE, device) as microphone:
        note(f"recording with '{microphone.name}'; Ctrl-C stops, what is written stays")
        coming = takes_in(finder, metered(microphone, finder))
        for word in words:
            done = 0
            while done < takes:
                note(f"{done + 1}/{takes}: say '{word}'")
                take = next(coming)
                if take.fault:
                    note(f"  {take.fault}")
                    continue
                path = next_path(folder, word, speaker)
                write_take(path, take, RECORDING_RATE)
                print_line(f"{path}  {len(take.samples) / RECORDING_RATE:.1f} s")
                done += 1
