"""--exec: a program for each event, which gets it as JSON and in its environment."""

import contextlib
import json
import os
import queue
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from asr.cli.errors import CommandError
from asr.cli.terminal import note
from asr.transcripts.formats import event_fields

if TYPE_CHECKING:
    from asr.events import Event

WAITING = 16  # events that may wait for the program
END_SECONDS = 10.0  # what the last runs may take when all is over
PREFIX = "EARSHOT_"


class Executor:
    """Runs a program for one event after the other, beside the recognition.

    command: split as a shell would, but no shell runs it. The event is JSON on its standard input;
    its plain fields are variables, such as EARSHOT_TEXT. Raises CommandError if it is none.
    """

    def __init__(self, command: str) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise CommandError(f"--exec {command}: cannot be split into words ({error})") from None
        if not self._command:
            raise CommandError("--exec names no program; give one, such as 'notify-send'")
        if shutil.which(self._command[0]) is None:
            raise CommandError(f"--exec {self._command[0]}: no such program; give its path")
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def run(self, fields: dict[str, Any]) -> None:
        """Have the program run for an event, once it has ended for those before."""
        try:
            self._events.put_nowait(fields)
        except queue.Full:
            note(f"warning: {self._command[0]} is too slow; it misses an event: {fields}")

    @property
    def busy(self) -> bool:
        """Whether the program runs, or is to run for events that wait."""
        return self._events.unfinished_tasks > 0

    def close(self) -> None:
        """Wait some time for the events that are left."""
        with contextlib.suppress(queue.Full):
            self._events.put(None, timeout=END_SECONDS)
        self._thread.join(END_SECONDS)

    def _work(self) -> None:
        while (fields := self._events.get()) is not None:
            try:
                done = subprocess.run(
                    self._command,
                    input=json.dumps(fields, ensure_ascii=False) + "\n",
                    env=os.environ | variables(fields),
                    text=True,
                    encoding="utf-8",
                    check=False,
                )
            except OSError as error:
                note(f"warning: {self._command[0]} cannot be run ({error.strerror})")
            else:
                if done.returncode:
                    note(f"warning: {self._command[0]} ended with {done.returncode}")
            finally:
                self._events.task_done()


def execute_all(executor: Executor | None, events: "Sequence[Event]") -> None:
    """Run the program for events that are final."""
    from asr.events import Partial

    for event in events:
        if executor is not None and not isinstance(event, Partial):
            executor.run(event_fields(event))


def variables(fields: dict[str, Any]) -> dict[str, str]:
    """Return the plain fields of an event as variables."""
    plain = {name: v for name, v in fields.items() if isinstance(v, str | int | float)}
    return {PREFIX + name.upper(): str(v).replace("\0", "") for name, v in plain.items()}


@contextlib.contextmanager
def executing(command: str | None) -> Iterator[Executor | None]:
    """Give what runs a program for each event, None if there is no program."""
    executor = None if command is None else Executor(command)
    try:
        yield executor
    finally:
        if executor is not None:
            executor.close()
