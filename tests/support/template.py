"""A process that has imported what commands need, and forks one for each command that is asked for.

To start Python and import takes longer than most of what tests have commands do. What is forked is
a process of its own all the same, with its own arguments, environment, folder, output and end.
Arguments: the number of the socket that requests come from, and, where these are to train, "train".
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

from asr.cli import app, main
from features.errors import EarshotError

LARGEST = 1 << 18  # bytes of a request
RECOGNISING = (
    "asr.batch.sources",
    "asr.batch.workers",
    "asr.cli.card_table",
    "asr.decode.options",
    "asr.recognise",
    "asr.batch.folder",
    "typer.rich_utils",
)
TRAINING = ("asr.training.train", "export.export")


def forked(requests: socket.socket) -> list[str]:
    """Fork for each request until there are no more; return its arguments where it is forked.

    A request is JSON with the files for standard output and standard error. What is answered is
    the id of the process, and once it has ended its exit code.
    """
    while True:
        request, files, _, _ = socket.recv_fds(requests, LARGEST, 2)
        if not request:
            sys.exit()
        asked = json.loads(request)
        process = os.fork()
        if not process:
            requests.close()
            _become(asked, files)
            return asked["arguments"]
        for file in files:
            os.close(file)
        requests.send(str(process).encode())
        _, status = os.waitpid(process, 0)
        requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(asked: dict, files: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
        os.close(file)


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        importlib.import_module(name)
    threads = len([*Path("/proc/self/task").iterdir()])
    assert threads == 1, f"{names}: {threads} threads, of which a fork has only one"


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when the tests do
    with contextlib.suppress(EarshotError):  # a command imports what reads its arguments
        app(["info", "no model"], standalone_mode=False)
    _import((*RECOGNISING, *(TRAINING if "train" in sys.argv else ())))
    gc.freeze()  # or each process would look through all of it again, and copy it, as it ends
    sys.argv[1:] = forked(socket.socket(fileno=int(sys.argv[1])))
    sys.path[0] = ""
    main()
