"""Who may talk to the server over HTTP: programs with the token, and browsers on its own pages."""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from asr.serve.pages import FILES

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]

LOCAL = {"localhost", "127.0.0.1", "::1"}
OPEN = {"/", "/health", *(f"/{name}" for name in FILES)}  # they say and do nothing that is anyone's


@dataclass(frozen=True)
class Guard:
    """Passes on requests that are allowed.

    Browsers send their Origin: it must be the host that they asked, or one of `origins`, so that no
    other site uses the server behind its reader's back. Without a token the host must be this
    machine, whatever name an attacker's DNS has for it.
    """

    application: Application
    token: str | None = None
    origins: frozenset[str] = frozenset()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket") and (problem := self._problem(scope)):
            status, message = problem
            await JSONResponse({"error": {"message": message}}, status)(scope, receive, send)
            return
        await self.application(scope, receive, send)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.token is None and _name(host) not in LOCAL:
            return (
                403,
                f"this server is for this machine and not for '{host}'; start it with a token",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host and origin not in self.origins:
            return 403, f"pages of {origin} may not use this server; allow it with --allow-origin"
        if self.token is None or (scope["path"] in OPEN and scope["type"] == "http"):
            return None
        if not hmac.compare_digest(_given(scope, headers).encode(), self.token.encode()):
            return 401, "a token is needed: the header 'Authorization: Bearer TOKEN'"
        return None


def _given(scope: Scope, headers: Headers) -> str:
    """The token of a request. A browser cannot give a WebSocket a header, so that takes ?token=."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return query.get("token", [""])[0] if scope["type"] == "websocket" else ""


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
