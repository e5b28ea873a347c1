"""The commands of `asr lm`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.errors import CommandError, training_packages
from asr.cli.help import PlainCommand, PlainGroup
from asr.cli.options import Data, JsonFile, ModelArgument, Speaker, Texts, takes_decoding
from asr.cli.terminal import note, print_line

if TYPE_CHECKING:
    from asr.decode.lm.ngrams import NgramModel
    from asr.decode.options import DecodeOptions

SHOWN = 5  # words in a message
COMPACT = ".lm"  # the suffix of compact files; what is written to any other name is an ARPA file

lm = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")


@lm.callback()
def _about_language_models() -> None:
    """Make and measure language models, which say what is likely to be said."""


@lm.command("build", cls=PlainCommand)
def lm_build(
    texts: Texts,
    out: Annotated[
        Path, typer.Option("--output", "-o", help="What to write: .lm is compact, others are ARPA.")
    ],
    order: Annotated[int, typer.Option(min=1, help="Words that are looked at together.")] = 3,
    characters: Annotated[
        bool, typer.Option("--characters", help="Model characters instead of words.")
    ] = False,
    vocabulary: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the N most frequent words.")
    ] = None,
    min_count: Annotated[
        int, typer.Option(metavar="N", min=1, help="Leave out word sequences seen less often.")
    ] = 1,
    prune: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0.0, help="Leave out those that change perplexity less: 1e-8."
        ),
    ] = 0.0,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT=SHARE", help="A text that gets so much of the probability; repeatable."
        ),
    ] = None,
) -> None:
    """Estimate an n-gram language model from texts (modified Kneser-Ney).

    [bold]asr lm build[/] sentences.txt -o lm.arpa
    [bold]asr lm build[/] my_words.toml -o lm.lm        what the speakers of the training say
    [bold]asr lm build[/] names.txt -o letters.arpa --characters --order 5
    [bold]asr lm build[/] books/ --vocabulary 65000 --prune 1e-8 -o small.lm
    [bold]asr lm build[/] books/ --mix requests.txt=0.3 -o mixed.lm

    Texts are lower-cased; folders and compressed texts (.gz, .xz, .bz2) are read too.
    A text of --mix is counted by itself, so that little of it can weigh as much as
    books. The result works in [bold]asr transcribe --lm[/].
    """
    with training_packages():
        from asr.training.ngrams.build import Plan, build
        from asr.training.ngrams.texts import read_sentences

        mixed = [_share(entry) for entry in mix or []]
        rest = 1.0 - sum(share for _, share in mixed)
        if rest <= 0.0:
            raise CommandError("the shares of --mix leave nothing for TEXT; let them add up to < 1")
        plan = Plan(order=order, vocabulary=vocabulary, least=min_count, threshold=prune)
        parts = [(s for text in texts for s in read_sentences(text, characters))]
        parts += [read_sentences(path, characters) for path, _ in mixed]
        shares = [rest, *(share for _, share in mixed)]
        model = build(list(zip(parts, shares, strict=True)), plan, note)
        _write(model.finished(str(out)), out)
    note(f"wrote {out}, {out.stat().st_size / 1e6:.1f} MB")


def _share(entry: str) -> tuple[Path, float]:
    """Read TEXT=SHARE of --mix."""
    name, _, share = entry.rpartition("=")
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not name or not 0.0 < value < 1.0:
        raise CommandError(f"--mix {entry}: is no TEXT=SHARE; give it as in requests.txt=0.3")
    return Path(name), value


def _write(model: "NgramModel", out: Path) -> None:
    from asr.decode.lm.arpa import write_arpa
    from asr.decode.lm.compact import write_compact

    (write_compact if out.suffix == COMPACT else write_arpa)(model, out)


@lm.command("compact", cls=PlainCommand)
def lm_compact(
    model: Annotated[Path, typer.Argument(metavar="LM", help="An ARPA file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write: english.lm")],
) -> None:
    """Turn an ARPA file into one that is a fraction of its size and opens at once.

    [bold]asr lm compact[/] lm.arpa small.lm
    [bold]asr transcribe[/] talk.wav --lm small.lm

    Probabilities are rounded to 256 values. Programs that use the file at the same
    time share the memory. From it, [bold]asr lm perplexity[/] tells what rounding costs.
    """
    from asr.decode.lm.arpa import read_arpa
    from asr.decode.lm.compact import write_compact

    write_compact(read_arpa(model), out)
    note(f"wrote {out}, {out.stat().st_size / 1e6:.1f} MB")


@lm.command("pronounce", cls=PlainCommand)
def lm_pronounce(
    model: Annotated[Path, typer.Argument(metavar="LM", help="A compact or ARPA file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write: english.lm")],
) -> None:
    """Say how the words of an English language model sound.

    [bold]asr lm pronounce[/] lm.arpa english.lm
    [bold]asr transcribe[/] talk.wav --lm english.lm

    With a model that reads phonemes, as [bold]english[/] does, words are then found by
    their sound, however they are spelled. Pronunciations are those of CMUdict and,
    where it has none, of eSpeak NG, if that is installed.
    """
    with training_packages():
        from asr.decode.lm.compact import write_compact
        from asr.decode.options import read_ngrams
        from asr.training.ngrams.pronounce import pronounce

        opened = read_ngrams(model)
        said, unsaid = pronounce(opened)
        write_compact(said, out)
    size = f"{out.stat().st_size / 1e6:.1f} MB"
    note(f"wrote {out}, {size}: {said.known - len(unsaid)} of {said.known} words are pronounced")
    if unsaid:
        note(f"{len(unsaid)} are not and can be recognised by their letters only: {_some(unsaid)}")


def _some(words: list[str]) -> str:
    return ", ".join(words[:SHOWN]) + (", ..." if len(words) > SHOWN else "")


@lm.command("perplexity", cls=PlainCommand)
def lm_perplexity(
    model: Annotated[
        Path, typer.Argument(metavar="LM", help="An ARPA file, a compact one, or an .onnx.")
    ],
    texts: Texts,
) -> None:
    """Measure how well a language model predicts texts: the lower, the better.

    [bold]asr lm perplexity[/] lm.arpa other_sentences.txt
    [bold]asr lm perplexity[/] letters.onnx other_sentences.txt

    Words that the model does not know are counted and left out. The figures of a
    model of characters are per character: only such models compare with each other.
    """
    with training_packages():
        from asr.decode.options import read_lm
        from asr.training.ngrams.perplexity import perplexity
        from asr.training.ngrams.texts import read_sentences

        opened = read_lm(model)
        sentences = (s for text in texts for s in read_sentences(text, opened.of_characters))
        found, known, unknown = perplexity(opened, sentences)
        scored = f"{known} words and sentence ends"
        print_line(f"perplexity {found:.2f} over {scored}; {unknown} words unknown")


@lm.command("tune", cls=PlainCommand)
@takes_decoding("lm", "no_lm", "lm_weight", "word_bonus", "n_best")
def lm_tune(
    model: ModelArgument,
    data: Data,
    language_model: Annotated[
        Path | None,
        typer.Option("--lm", metavar="FILE", help="The language model. [default: the model's own]"),
    ] = None,
    speaker: Speaker = "",
    halves: Annotated[
        bool, typer.Option(help="Report each half of the speakers with the weights of the other.")
    ] = True,
    json_file: JsonFile = None,
    *,
    decoding: "DecodeOptions",
) -> None:
    """Find the weights of a language model on recordings whose words are known.

    [bold]asr lm tune[/] english my_words.toml
    [bold]asr lm tune[/] english test.jsonl --speaker '{speaker}' --lm lm.arpa

    DATA must be neither what the acoustic model nor what the language model was
    trained on; of a recipe, the speakers that it holds out are taken. Prints the
    word and character error rates of each setting, those of every speaker with
    weights that were found without that speaker, and the options for the best.

    Needs the training packages: pip install "earshot-asr\\[train]"
    """
    with training_packages():
        from asr.model import load
        from asr.studies.lm_weights import tune

        opened = load(model)
        language_model = language_model or opened.language_model
        if language_model is None:
            raise CommandError(f"{model} has no language model of its own; name one with --lm")
        options = dataclasses.replace(decoding, lm=str(language_model))
        tune(opened, data, options, speaker=speaker, halves=halves, json_file=json_file)
