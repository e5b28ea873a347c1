"""What commands have in common: arguments, options, and what becomes of them."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr.cli.errors import CommandError
from asr.cli.terminal import note
from asr.transcripts.formats import EventFormat

if TYPE_CHECKING:
    from asr.card import ModelCard
    from asr.decode.keywords.typed import Keyword, SpotOptions
    from asr.decode.options import DecodeOptions
    from asr.model import Model


def _complete_model(incomplete: str) -> list[str]:
    """Return the bundled models that begin so; the shell itself completes paths."""
    from asr.model import bundled_models

    return [name for name in bundled_models() if name.startswith(incomplete)]


Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Audio files, or folders to look for them in, or their URLs (s3://...); "
        "- is standard input.",
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A bundled model, or the path of an .onnx file.",
        autocompletion=_complete_model,
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A bundled model, or the path of an .onnx file.",
        autocompletion=_complete_model,
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
        autocompletion=_complete_model,
    ),
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
Keywords = Annotated[
    str | None,
    typer.Option(
        metavar="WORDS",
        help="Spot these only: 'operator, wild fire=0.8, lumos (L UW M OW S)'.",
    ),
]
NearMisses = Annotated[
    bool, typer.Option("--near-misses", help="What nearly was a keyword, and why not.")
]
Refractory = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Of keywords: none for so long after another."),
]
Confirm = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="With --keywords: how long a find waits for a better one."
    ),
]
Linger = Annotated[
    float | None,
    typer.Option(help="With --keywords: what a second between two letters costs."),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads that share a step of the model.")]
Provider = Annotated[
    str, typer.Option(help="What runs the model: a provider of the installed onnxruntime.")
]
Execute = Annotated[
    str | None,
    typer.Option(
        "--exec",
        metavar="COMMAND",
        help="Run this for each event: JSON on its standard input, EARSHOT_TEXT and others set.",
    ),
]
Gate = Annotated[
    bool, typer.Option("--gate", help="Rest the model while it is quiet, which saves power.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run was interrupted.")]
Run = Annotated[Path, typer.Argument(help="The folder of a training run.")]
Data = Annotated[
    Path, typer.Argument(help="A folder of words, a JSON-lines manifest, or a recipe.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Replace fields of it.")
]
Speaker = Annotated[
    str, typer.Option(help="What names the speaker in DATA, as in a recipe: '{speaker}'.")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
]
Negatives = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH", help="Sound that holds none of the words: a folder or file; repeatable."
    ),
]
Texts = Annotated[
    list[Path],
    typer.Argument(metavar="TEXT", help="Texts, one sentence a line, or training recipes."),
]

DECODING = "How scores become words (models that transcribe)"

Command = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """The options of `DecodeOptions`, as they are given."""

    beam: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=DECODING,
            help="Follow N texts at once, not just one.",
        ),
    ] = None
    lm: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=DECODING,
            help="A language model: of 'asr lm build' (.lm, ARPA), or 'asr export' (.onnx).",
        ),
    ] = None
    no_lm: Annotated[
        bool,
        typer.Option(
            "--no-lm",
            rich_help_panel=DECODING,
            help="Letters as recognised, without the model's own language model.",
        ),
    ] = False
    lm_weight: Annotated[
        float | None,
        typer.Option(rich_help_panel=DECODING, help="Its weight: 'asr lm tune' finds it."),
    ] = None
    word_bonus: Annotated[
        float | None,
        typer.Option(rich_help_panel=DECODING, help="What each word adds beside it."),
    ] = None
    unknown_bonus: Annotated[
        float | None,
        typer.Option(rich_help_panel=DECODING, help="What each word adds that it does not know."),
    ] = None
    words: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=DECODING, help="Recognise only these words."),
    ] = None
    grammar: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=DECODING,
            help="Recognise only what this JSGF grammar allows.",
        ),
    ] = None
    hotword: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD",
            rich_help_panel=DECODING,
            help="Expect a word or phrase; can be repeated.",
        ),
    ] = None
    boost: Annotated[
        float | None,
        typer.Option(rich_help_panel=DECODING, help="What each letter of a hotword adds."),
    ] = None
    n_best: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", rich_help_panel=DECODING, help="Give the N best texts, as JSON."
        ),
    ] = None
    native: Annotated[
        bool,
        typer.Option(
            "--native",
            rich_help_panel=DECODING,
            help="Search in C++; of guides only with an ARPA --lm of words.",
        ),
    ] = False
    trailing_silence: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", rich_help_panel=DECODING, help="Silence that ends an utterance."
        ),
    ] = None
    soft_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            rich_help_panel=DECODING,
            help="Length after which the next gap between words ends it.",
        ),
    ] = None
    hard_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", rich_help_panel=DECODING, help="Length after which it ends anyway."
        ),
    ] = None

    def read(self) -> "DecodeOptions":
        """The same as `DecodeOptions`; what is not given stays as the library has it."""
        from asr.decode.options import DecodeOptions

        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given = {name: value for name, value in given.items() if value not in (None, False)}
        for name, value in given.items():
            if isinstance(value, Path):
                given[name] = str(value)
            elif isinstance(value, list):
                given[name] = tuple(value)
        return DecodeOptions(**given)


def takes_decoding(*without: str) -> Callable[[Command], Command]:
    """Give a command the options of `Decoding`, but for those `without`.

    Typer finds the options of a command in its signature: there they stand in the place of the
    parameter `decoding`, which is the DecodeOptions that they make when the command is called.
    """
    shared = dict(inspect.signature(Decoding).parameters)
    for name in without:
        del shared[name]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            chosen = {name: values.pop(name) for name in shared}
            command(**values, decoding=Decoding(**chosen).read())

        own = dict(inspect.signature(command).parameters)
        del own["decoding"]
        parameters = [*own.values(), *shared.values()]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def spot_options(
    keywords: str | None,
    model: str | None = None,
    near_misses: bool = False,
    **rules: float | None,
) -> "SpotOptions | None":
    """Read typed keywords, or take all that the model has learnt if options are about keywords;
    None if nothing is."""
    from asr.decode.keywords.typed import SpotOptions, parse_keywords
    from asr.model import load

    if keywords is not None:
        typed = parse_keywords(keywords)
        return SpotOptions(keywords=typed, near_misses=near_misses, **rules)
    given = ["near-misses"] * near_misses + [n for n in rules if rules[n] is not None]
    if not given:
        return None
    learnt = all_keywords(load(model or spotting_model(None)).card, f"--{given[0]} is about")
    return SpotOptions(keywords=learnt, near_misses=near_misses, **rules)


def all_keywords(card: "ModelCard", about: str) -> "tuple[Keyword, ...]":
    """Return the keywords that a model has learnt. Raises CommandError, which `about` begins."""
    from asr.decode.keywords.typed import Keyword

    if card.task == "ctc":
        raise CommandError(f"{about} keywords; name them with --keywords")
    return tuple(Keyword(label.lower()) for label in card.labels if label not in card.background)


def warn_of_ambiguities(model: "Model", options: "SpotOptions | None") -> None:
    """Warn about keywords that will be mistaken, where no training taught them."""
    from asr.decode.keywords.typed import ambiguities, unpronounced

    if options is not None and model.card.task == "ctc":
        keywords = options.beside(model.language_model).keywords
        unsaid = unpronounced(keywords) if model.card.phonemes else []
        for warning in ambiguities(keywords) + unsaid:
            note(f"warning: {warning}")


def spotting_model(options: "SpotOptions | None") -> str:
    """Return the bundled model that finds typed keywords, or that which has learnt its own."""
    return "english" if options else "commands"


def either(
    decoding: "DecodeOptions", spotting: "SpotOptions | None"
) -> "DecodeOptions | SpotOptions":
    """Return the one that was chosen. Raises CommandError if both were."""
    from asr.decode.options import DecodeOptions

    if spotting and decoding != DecodeOptions():
        raise CommandError("--keywords excludes language models, word lists and the like")
    return spotting or decoding
