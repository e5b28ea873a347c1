"""Headless Chromium, driven over its DevTools protocol."""

import base64
import contextlib
import functools
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WAIT_SECONDS = 120
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._number += 1
        call = {"id": self._number, "method": method, "params": parameters}
        self._connection.send(json.dumps(call))
        while (answer := json.loads(self._connection.recv(WAIT_SECONDS))).get("id") != call["id"]:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        result = self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Return the value of an expression once it is true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (value := self.run(expression)):
            assert time.monotonic() < deadline, expression
            time.sleep(0.1)
        return value

    def open(self, url: str) -> None:
        """Load a page and wait until its modules ran."""
        self.send("Page.navigate", url=url)
        self.wait_for(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    def screenshot(self, path: Path, width: int, height: int) -> None:
        """Write what a window of this size shows."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def browser(profile: Path, *flags: str) -> Iterator[Page]:
    """Start Chromium with a profile folder of its own."""
    assert CHROMIUM
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *flags, "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if match := re.search(r"DevTools listening on (ws://\S+)", line):
                break
        else:
            raise AssertionError("Chromium did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        with connect(match[1], max_size=None) as control:
            root = Page(control)
            target = root.send("Target.createTarget", url="about:blank")["targetId"]
            address = re.sub(r"/devtools/.*", f"/devtools/page/{target}", match[1])
            with connect(address, max_size=None) as connection:
                yield Page(connection)
            root.send("Browser.close")
    finally:
        process.kill()
        process.wait(WAIT_SECONDS)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def static_host(folder: Path) -> Iterator[str]:
    """Serve a folder as any host of static files does; yield its URL."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
