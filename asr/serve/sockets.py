"""WebSockets as the protocols see them: messages in, JSON out, and a reason when they end."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from asr.serve.refusal import RefusedError
from asr.serve.service import Service

MESSAGE_LIMIT = 2**20  # bytes; half a minute of 16-bit sound
CLOSE_SECONDS = 2.0
ABORT = "earshot.abort"  # of the scope: drops the connection at once
REASON_LIMIT = 120  # bytes of UTF-8 that a close frame has room for, of 123


class Socket:
    """One connection. Iterate over it for its messages, text or bytes, until the client leaves."""

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self._websocket = websocket
        self._service = service

    async def receive(self) -> str | bytes | None:
        """Return the next message, None if the client left. Raises RefusedError: see `waiting`."""
        async with self._service.waiting():
            message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        data = message.get("bytes")
        return message["text"] if data is None else data

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while (message := await self.receive()) is not None:
            yield message

    async def send(self, fields: dict[str, Any]) -> None:
        """Send a JSON object. Raises RefusedError if the client does not read what it is sent."""
        try:
            async with self._service.waiting():
                await self._websocket.send_text(json.dumps(fields, ensure_ascii=False))
        except RefusedError as refusal:
            if self._service.ending:
                raise
            raise RefusedError("what is sent is not read; read it sooner", 408) from refusal


@contextlib.asynccontextmanager
async def accepted(websocket: WebSocket, service: Service) -> AsyncIterator[Socket]:
    """Accept a connection; close it at the end of the block, with the reason if it was refused.

    A protocol that says in a message of its own why it refuses does so before.
    """
    await websocket.accept()
    try:
        yield Socket(websocket, service)
    except RefusedError as refusal:
        service.metrics.add("earshot_refused_total", status=str(refusal.status))
        await _close(websocket, refusal.code, str(refusal))
    except WebSocketDisconnect:
        pass
    else:
        await _close(websocket, 1000, "")


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    if websocket.application_state is WebSocketState.CONNECTED:
        short = reason.encode()[:REASON_LIMIT].decode(errors="ignore")
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await websocket.close(code, short)
        except TimeoutError:  # it does not read that either
            websocket.scope["extensions"][ABORT]()
        except (RuntimeError, WebSocketDisconnect):
            pass


def read_json(text: str) -> dict[str, Any]:
    """Return the JSON object in a message. Raises RefusedError."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RefusedError("a text message must be a JSON object", 400, 1007)
    return fields
