"""The commands of `asr lm`."""

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.errors import training_packages
from asr.cli.help import PlainCommand, PlainGroup
from asr.cli.options import Texts
from asr.cli.terminal import note, print_line

lm = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")


@lm.callback()
def _about_language_models() -> None:
    """Make and measure language models, which say what is likely to be said."""


@lm.command("build", cls=PlainCommand)
def lm_build(
    texts: Texts,
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
    with training_packages():
        from asr.training.kneser_ney import build, read_sentences, write_arpa

        sentences = (s for text in texts for s in read_sentences(text, characters))
        write_arpa(build(sentences, order), out)
        note(f"wrote {out}")


@lm.command("perplexity", cls=PlainCommand)
def lm_perplexity(
    model: Annotated[Path, typer.Argument(metavar="LM", help="An ARPA file, or an .onnx.")],
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
        from asr.training.kneser_ney import perplexity, read_sentences

        opened = read_lm(model)
        sentences = (s for text in texts for s in read_sentences(text, opened.of_characters))
        found, known, unknown = perplexity(opened, sentences)
        scored = f"{known} words and sentence ends"
        print_line(f"perplexity {found:.2f} over {scored}; {unknown} words unknown")
