"""Folders that results are written to, here or behind a URL: each file whole or not there."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from asr.batch.locations import is_url, open_filesystem, public, reaching
from asr.batch.signs import STALE_SECONDS, renewed
from asr.files import WriteError, whole_file, writing
from features.errors import EarshotError
from features.paths import shown

if os.name == "nt":
    import msvcrt
else:
    import fcntl

LOCK = ".earshot.lock"
BUCKETS = {"gs", "s3"}  # kinds of addresses
REMEDY = "make room or name another folder, then give the same command again: what is done is kept"


class LockError(EarshotError, OSError):
    """A folder that another run is writing to."""


class Store:
    """The files of one folder, a path or a URL. Can be pickled; opens what it needs where it is.

    Raises LocationError, WriteError.
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def __str__(self) -> str:
        return public(self._place) if is_url(self._place) else shown(self._place)

    def names(self) -> set[str]:
        """Return the names of the files that are there."""
        if not is_url(self._place):
            folder = Path(self._place)
            return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        filesystem, path = open_filesystem(self._place)
        with reaching(self._place):
            filesystem.invalidate_cache()
            found = filesystem.ls(path, detail=False) if filesystem.exists(path) else []
        return {name.rstrip("/").rpartition("/")[2] for name in found}

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        if not is_url(self._place):
            return Path(self._place, name).exists()
        filesystem, path = open_filesystem(self._place)
        with reaching(self._place):
            filesystem.invalidate_cache()
            return filesystem.exists(f"{path}/{name}")

    def read(self, name: str) -> bytes | None:
        """Return what is in a file, None if there is no such file."""
        if not is_url(self._place):
            path = Path(self._place, name)
            with writing(path, REMEDY):
                return path.read_bytes() if path.exists() else None
        filesystem, path = open_filesystem(self._place)
        with reaching(self._place):
            try:
                return filesystem.cat_file(f"{path}/{name}")
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole: whoever looks sees all of it or nothing."""
        if not is_url(self._place):
            with whole_file(Path(self._place, name), REMEDY) as part:
                part.write_bytes(content)
            return
        filesystem, path = open_filesystem(self._place)
        with reaching(self._place):
            _make_folder(filesystem, path)
            filesystem.pipe_file(f"{path}/{name}", content)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder for this run. Raises LockError if another one has it."""
        held = self._remote_lock() if is_url(self._place) else local_lock(Path(self._place))
        with held:
            yield

    @contextlib.contextmanager
    def _remote_lock(self) -> Iterator[None]:
        """A file that says who writes, and when that was so; after a kill it goes stale."""
        filesystem, path = open_filesystem(self._place)
        name = f"{path}/{LOCK}"
        with reaching(self._place):
            _make_folder(filesystem, path)
            if (old := _lock_of(filesystem, name)) is not None:
                if time.time() - old["renewed"] < STALE_SECONDS:
                    raise LockError(_taken(str(self), f"{old['host']}, process {old['process']}"))
                filesystem.rm_file(name)
            try:
                filesystem.pipe_file(name, _sign_of_life(), mode="create")
            except FileExistsError:
                raise LockError(_taken(str(self), "another process")) from None

        try:
            with renewed(lambda: filesystem.pipe_file(name, _sign_of_life())):
                yield
        finally:
            with contextlib.suppress(Exception):  # it goes stale
                filesystem.rm_file(name)


def _make_folder(filesystem: Any, path: str) -> None:
    """Where there are folders: in a bucket there are none, and a bucket with a typing error in its
    name is not to be made."""
    if not BUCKETS.intersection(filesystem.protocol):
        filesystem.makedirs(path, exist_ok=True)


def _sign_of_life() -> bytes:
    who = {"host": socket.gethostname(), "process": os.getpid(), "renewed": time.time()}
    return json.dumps(who).encode()


def _lock_of(filesystem: Any, name: str) -> dict[str, Any] | None:
    try:
        return json.loads(filesystem.cat_file(name))
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def local_lock(folder: Path) -> Iterator[None]:
    """Keep a folder of this machine for this process: the system forgets who holds it when that
    process ends, however it ends. Raises LockError, WriteError."""
    path = folder / LOCK
    with writing(path, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            if os.name == "nt":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError | PermissionError):
                raise LockError(_taken(shown(folder), "another process")) from None
            raise WriteError(f"{shown(folder)}: cannot be locked; {REMEDY}") from None
        if not _is_at(file, path):  # its last holder took it away after it was opened here
            raise LockError(_taken(shown(folder), "another process"))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows removes no open file
                path.unlink()


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _taken(folder: str, who: str) -> str:
    return (
        f"{folder}: another run is writing there ({who}); wait for it to end, or name another "
        "folder"
    )
