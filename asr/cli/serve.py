"""The command that serves models to other programs and machines."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from asr.cli.errors import CommandError, server_packages
from asr.cli.options import (
    Keywords,
    Provider,
    Threads,
    spot_options,
    takes_decoding,
    warn_of_ambiguities,
)
from asr.cli.terminal import note, print_line
from asr.runtime.providers import CPU

if TYPE_CHECKING:
    from asr.decode.keywords.typed import Keyword
    from asr.decode.options import DecodeOptions
    from asr.model import Model
    from asr.serve.server import Options

LOCALHOST = "127.0.0.1"
SAFETY = "Who may use it"
LIMITS = "How much clients may use"


@takes_decoding("n_best")
def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A bundled model, or the path of an .onnx file; can be repeated. "
            "[default: english and commands]",
            show_default=False,
        ),
    ] = None,
    keywords: Keywords = None,
    host: Annotated[
        str, typer.Option(rich_help_panel=SAFETY, help="The address to listen on.")
    ] = LOCALHOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="For HTTP and WebSockets.")] = 8080,
    wyoming: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Also Wyoming, as for Home Assistant: 10300."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=SAFETY,
            help="Clients need what it contains as a token; so does the variable ASR_TOKEN.",
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", rich_help_panel=SAFETY, help="For TLS.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="PEM", rich_help_panel=SAFETY, help="For TLS.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            rich_help_panel=SAFETY,
            help="Pages of this site may use the server, too; can be repeated.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that share the port, each with its own models."),
    ] = None,
    streams: Annotated[
        int, typer.Option(min=1, rich_help_panel=LIMITS, help="Open at once in a process.")
    ] = 64,
    seconds: Annotated[
        float, typer.Option(min=1, rich_help_panel=LIMITS, help="Of audio in a stream.")
    ] = 14400.0,
    upload: Annotated[
        int, typer.Option(min=1, rich_help_panel=LIMITS, help="MiB of a file that is sent.")
    ] = 25,
    patience: Annotated[
        float,
        typer.Option(min=0.1, rich_help_panel=LIMITS, help="Seconds without sound, then cut off."),
    ] = 60.0,
    drain: Annotated[
        float,
        typer.Option(
            min=0, rich_help_panel=LIMITS, help="Seconds for open streams when the server ends."
        ),
    ] = 10.0,
    bench: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Measure how many live streams of these recordings are held, and end; with "
            "--workers over the network.",
        ),
    ] = None,
    threads: Threads = 1,
    provider: Provider = CPU,
    *,
    decoding: "DecodeOptions",
) -> None:
    """Serve models to other programs: HTTP, WebSockets, and Wyoming for Home Assistant.

    [bold]asr serve[/]                       http://localhost:8080, for this machine only
    [bold]asr serve[/] --wyoming 10300       wake words and transcripts for Home Assistant
    [bold]asr serve[/] --keywords "hey lamp" --wyoming 0.0.0.0:10300
    [bold]asr serve[/] -m my_words.onnx --host 0.0.0.0 --token-file token.txt
    [bold]asr serve[/] --workers 4 --streams 200
    [bold]asr serve[/] -m english --bench recordings/
    [bold]curl[/] localhost:8080/v1/audio/transcriptions -F file=@talk.wav -F model=english

    POST /v1/audio/transcriptions is OpenAI's, ws:/vosk that of vosk-server, ws:/v1/stream
    our own with keywords, confidence and n-best. /health, /models, /metrics (Prometheus), and
    a page at / that transcribes a browser's microphone. Streams share the model's steps.

    Other machines need a token. Wyoming knows none: give it an address of a network whose
    machines you trust. SIGTERM and Ctrl-C let open streams finish. Nothing is stored.

    Needs more packages: pip install "earshot-asr\\[serve]"
    """
    with server_packages():
        from asr.serve.server import Options, serve
        from asr.serve.service import Limits
        from asr.serve.workers import Work, serve_together

    options = Options(
        host=host,
        port=port,
        wyoming=None if wyoming is None else _address(wyoming),
        token=_token(token_file),
        certificate=certificate,
        key=key,
        origins=frozenset(map(_origin, allow_origin or ())),
        limits=Limits(
            streams=streams,
            seconds=seconds,
            upload=upload * 2**20,
            patience=patience,
            drain=drain,
        ),
    )
    opened = _opened(model or ["english", "commands"], threads, provider)
    if bench is not None:
        _measure(opened, bench, workers)
        return
    typed, started = _typed(keywords, opened), _say_where(opened, options, workers)
    if workers is None:
        serve(opened, options, decoding, typed, started)
        return
    paths = {name: found.path for name, found in opened.items()}
    work = Work(models=paths, threads=threads, provider=provider, decoding=decoding, keywords=typed)
    serve_together(work, options, workers, started)


def _opened(names: list[str], threads: int, provider: str) -> "dict[str, Model]":
    """The models by the names that clients call them by."""
    from asr.model import load

    opened: dict[str, Model] = {}
    for name in names:
        found = load(name, threads=threads, provider=provider)
        if found.path.stem in opened:
            raise CommandError(f"two models are called {found.path.stem}; rename a file")
        opened[found.path.stem] = found
    return opened


def _typed(keywords: str | None, opened: "dict[str, Model]") -> "tuple[Keyword, ...]":
    """Keywords that were typed, if one of the models can spot them."""
    spotting = spot_options(keywords)
    if spotting is None:
        return ()
    transcribing = [found for found in opened.values() if found.card.task == "ctc"]
    if not transcribing:
        raise CommandError("--keywords needs a model that transcribes; add -m english")
    warn_of_ambiguities(transcribing[0], spotting)
    return spotting.keywords


def _origin(text: str) -> str:
    """An origin as browsers send it."""
    site = urlsplit(text)
    if not site.scheme or not site.netloc or site.path.strip("/"):
        raise CommandError(f"--allow-origin {text}: give scheme and host, as https://example.org")
    return f"{site.scheme}://{site.netloc}".lower()


def _say_where(
    opened: "dict[str, Model]", options: "Options", workers: int | None
) -> Callable[[str, int, int | None], None]:
    """What is said when the server has started: on which address and ports."""
    from asr.serve.guard import LOCAL

    scheme = "https" if options.certificate else "http"

    def started(host: str, http: int, other: int | None) -> None:
        place = f"[{host}]" if ":" in host else host
        several = f" in {workers} processes" if workers else ""
        note(f"serving {', '.join(opened)}{several} at {scheme}://{place}:{http}; Ctrl-C stops")
        if options.wyoming is not None:
            if options.wyoming[0] not in LOCAL:
                note("warning: Wyoming has no token: any machine that reaches its port may use it")
            note(f"Wyoming at port {other}")

    return started


def _measure(opened: "dict[str, Model]", recordings: Path, workers: int | None) -> None:
    from asr.studies.bench.serving import (
        engine_trials,
        most_streams,
        network_trial,
        served,
        sound_of,
    )

    for name, model in opened.items():
        where = "" if workers is None else f", over the network, {workers} processes"
        note(f"{name}: streams at their own pace{where}, held while p99 is 150 ms or less")
        sound = sound_of(recordings, model.card.sample_rate)
        if workers is None:
            best = most_streams(engine_trials(model, sound), note)
        else:
            with served(model.path, workers) as url:
                best = most_streams(functools.partial(network_trial, url, model, sound), note)
        print_line(f"{name}: {best}")


def _token(file: Path | None) -> str | None:
    from asr.files import read_text

    token = os.environ.get("ASR_TOKEN") if file is None else read_text(file, "a token")
    if token is not None and not token.strip():
        raise CommandError("the token is empty; write a long random one")
    return None if token is None else token.strip()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise CommandError(f"--wyoming {text}: give a port such as 10300, or 0.0.0.0:10300")
    return host.strip("[]") or LOCALHOST, int(port)
