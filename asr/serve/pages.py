"""The plain pages: what there is, how it is, and a form to try it in a browser."""

from importlib import resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from asr.serve.service import Service

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
FILES = {
    "page.html": "text/html",
    "page.js": "text/javascript",
    "page.css": "text/css",
    "recorder.js": "text/javascript",
}


async def page(request: Request) -> Response:
    """A page that transcribes the microphone of the browser through this server."""
    name = request.url.path.lstrip("/") or "page.html"  # one of FILES: the routes are these
    content = resources.files("asr.serve").joinpath("page", name).read_text(encoding="utf-8")
    headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
    return HTMLResponse(content, headers=headers, media_type=FILES[name])


async def health(request: Request) -> Response:
    """200 while streams are taken, 503 when the server is about to end."""
    service: Service = request.app.state.service
    if service.draining:
        return JSONResponse({"status": "draining"}, 503)
    return JSONResponse({"status": "ok"})


async def models(request: Request) -> Response:
    """The models: their names, and what a client needs of their cards."""
    service: Service = request.app.state.service
    return JSONResponse({"models": [_model(name, service) for name in service.engines]})


async def not_served(request: Request, error: Exception) -> Response:
    """Say in JSON that there is no such page, or that it takes no such request."""
    assert isinstance(error, HTTPException)
    message = f"no {request.method} {request.url.path} here ({error.detail}); see docs/serve.md"
    return JSONResponse({"error": {"message": message}}, error.status_code, error.headers)


async def metrics(request: Request) -> Response:
    """Counts and latencies for Prometheus."""
    service: Service = request.app.state.service
    return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _model(name: str, service: Service) -> dict[str, object]:
    card = service.engines[name].card
    return {
        "name": name,
        "task": card.task,
        "labels": [label for label in card.labels if label not in card.background],
        "sample_rate": card.sample_rate,
        "latency": ((card.block_length or 0) + card.look_ahead) / card.sample_rate,
        "parameters": card.parameters,
        "licence": card.licence,
    }
