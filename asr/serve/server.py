"""The server: all protocols on one loop, until a signal; what is open is finished first."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, WebSocketRoute
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from asr.decode.keywords.typed import Keyword
from asr.decode.options import DecodeOptions
from asr.model import Model
from asr.serve import wyoming
from asr.serve.guard import LOCAL, Application, Guard
from asr.serve.live import live
from asr.serve.metrics import Metrics
from asr.serve.openai import IGNORED, openai_model, openai_models, transcriptions
from asr.serve.pages import FILES, health, metrics, models, not_served, page
from asr.serve.service import Limits, Service
from asr.serve.sockets import ABORT, MESSAGE_LIMIT
from asr.serve.vosk import vosk
from features.errors import EarshotError

HEADER_LIMIT = 16384  # bytes
SPARE_CONNECTIONS = 64  # besides those of streams
EXCHANGE_SECONDS = 1.0
END_SECONDS = 5  # what answers may take when the server has ended


Started = Callable[[str, int, int | None], None]


class ServeError(EarshotError):
    """The server cannot be started as it was asked to."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where to listen and to whom.

    wyoming: host and port of that protocol, which knows no token; None: not at all.
    token: that HTTP clients must know; certificate, key: files for TLS; origins: of other sites
    whose pages may use the server. shared: the ports are those of other processes, too.
    Raises ServeError if others than this machine would need no token.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    wyoming: tuple[str, int] | None = None
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    origins: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    shared: bool = False

    def __post_init__(self) -> None:
        if self.host not in LOCAL and self.token is None:
            raise ServeError(
                f"{self.host} is open to other machines: set a token in ASR_TOKEN or with "
                "--token-file, or leave --host out"
            )
        if (self.certificate is None) != (self.key is None):
            raise ServeError("TLS needs both --certificate and --key")
        if self.certificate is not None:
            try:
                ssl.create_default_context().load_cert_chain(self.certificate, self.key)
            except OSError as error:  # ssl's own errors are such, too
                raise ServeError(
                    f"{self.certificate}, {self.key}: no certificate and its key "
                    f"({error.strerror or error}); name PEM files"
                ) from None


def application(service: Service, options: Options) -> Application:
    """Return the ASGI application of a service."""
    routes = [
        Route("/", page),
        *(Route(f"/{name}", page, name=name) for name in FILES),
        Route("/health", health),
        Route("/models", models),
        Route("/metrics", metrics),
        Route("/v1/models", openai_models),
        Route("/v1/models/{name}", openai_model),
        Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
        WebSocketRoute("/v1/stream", live),
        WebSocketRoute("/vosk", vosk),
        WebSocketRoute("/", vosk),  # where vosk-server has it
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: not_served})
    app.state.service = service
    guard = Guard(app, options.token, options.origins)
    if not options.origins:
        return guard
    # Browsers give a page of another site only those answers that say it may read them.
    return CORSMiddleware(
        guard,
        allow_origins=sorted(options.origins),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=[IGNORED],
    )


def serve(
    opened: Mapping[str, Model],
    options: Options,
    decoding: DecodeOptions,
    keywords: tuple[Keyword, ...],
    started: Started,
    first: Connection | None = None,
) -> None:
    """Serve models by their names until SIGTERM or Ctrl-C. Raises ServeError.

    started: called with the host and the ports of HTTP and Wyoming once both listen; first: of
    several processes, where this one exchanges its counts for those of the others.
    """
    with listening(options.host, options.port, options.shared) as http:
        asyncio.run(_serve(opened, options, decoding, keywords, started, first, http))


async def _serve(
    opened: Mapping[str, Model],
    options: Options,
    decoding: DecodeOptions,
    keywords: tuple[Keyword, ...],
    started: Started,
    first: Connection | None,
    http: socket.socket,
) -> None:
    async with Service(opened, options.limits, decoding, keywords) as service:
        other = await _start_wyoming(service, options)
        server = Server(service, options)
        started(options.host, http.getsockname()[1], _port(other))
        exchange = None if first is None else asyncio.create_task(_exchange(service.metrics, first))
        try:
            await server.serve([http])
        finally:
            if exchange is not None:
                exchange.cancel()
            if other is not None:
                other.close()


async def _exchange(metrics: Metrics, first: Connection) -> None:
    """Give the counts of this process for those of the others; end if there is nobody to take
    them."""
    try:
        while True:
            first.send(metrics.counts)
            while first.poll():
                metrics.others = first.recv()
            await asyncio.sleep(EXCHANGE_SECONDS)
    except (EOFError, OSError):
        signal.raise_signal(signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn's server, except that a first signal drains the service, and a second ends it."""

    def __init__(self, service: Service, options: Options) -> None:
        limits = options.limits
        config = uvicorn.Config(
            application(service, options),
            http=_patient(limits.patience),
            ws=Abortable,  # it reads no further than the application does
            ws_max_size=MESSAGE_LIMIT,
            ws_ping_timeout=None,  # an answer may wait behind sound that is not read yet
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            limit_concurrency=limits.streams + SPARE_CONNECTIONS,
            h11_max_incomplete_event_size=HEADER_LIMIT,
            timeout_graceful_shutdown=END_SECONDS,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.key,
        )
        super().__init__(config)
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Called by uvicorn for SIGTERM and SIGINT."""
        if self._service.draining:
            self.should_exit = True
        else:
            self._service.draining = True
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._draining = asyncio.create_task(self._service.drain())
        self._draining.add_done_callback(self._exit)

    def _exit(self, _: object) -> None:
        self.should_exit = True


class Abortable(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which lets an application drop a client that does not read."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and not self.close_sent:
            scope: Any = self.scope
            scope["extensions"][ABORT] = self.transport.abort


def _patient(patience: float) -> type[H11Protocol]:
    """Return uvicorn's protocol with an end to waiting for the head of a request."""

    class Patient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(patience, self._look)

        def _look(self) -> None:
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()
            else:
                self.loop.call_later(patience, self._look)

    return Patient


async def _start_wyoming(service: Service, options: Options) -> asyncio.Server | None:
    if options.wyoming is None:
        return None
    try:
        return await wyoming.start(service, *options.wyoming, options.shared)
    except OSError as error:
        raise _in_use(*options.wyoming, error) from None


@contextlib.contextmanager
def listening(host: str, port: int, shared: bool = False) -> Iterator[socket.socket]:
    """Give a socket that listens, `shared` at a port of other processes, too. Raises ServeError."""
    try:
        made = socket.create_server(
            (host, port), family=_family(host), backlog=1024, reuse_port=shared
        )
    except OSError as error:
        raise _in_use(host, port, error) from None
    with made:
        yield made


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _in_use(host: str, port: int, error: OSError) -> ServeError:
    reason = os.strerror(error.errno) if error.errno else error  # strerror names the place again
    return ServeError(f"cannot listen on {host} port {port} ({reason}); choose another port")


def _port(server: asyncio.Server | None) -> int | None:
    return None if server is None else server.sockets[0].getsockname()[1]
