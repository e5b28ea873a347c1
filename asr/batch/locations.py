"""Places outside this machine's file system: URLs that fsspec knows, such as s3://bucket/talks.

fsspec, and what it needs for a kind of URL, come with the extra `ray` or with the user's own
packages (s3fs, gcsfs); keys and tokens are found where those look for them. A user name, a password
or a query in a URL is used and never shown: neither printed nor written with results.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit, urlunsplit

from features.audio import AUDIO_SUFFIXES, MEDIA_SUFFIXES, AudioError
from features.audio.media import media_reader
from features.errors import EarshotError

IN_MEMORY = 64 * 1024 * 1024  # bytes of a fetched file, before it goes to a temporary one
PLAIN = {
    "file",
    "gcs",
    "gs",
    "local",
    "memory",
    "s3",
    "s3a",
}  # whose paths may have ? and # in them
CHUNK = 1024 * 1024
REMEDY = "check the address, the network and your access to it"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class LocationError(EarshotError, OSError):
    """A URL that nothing installed can open, or that does not answer."""


@dataclass(frozen=True)
class Url:
    """A file behind a URL. `str` of it is without user, password and query.

    size: bytes, 0 if unknown; version: what changes with the content, as far as that is known.
    """

    full: str = field(repr=False)
    size: int = 0
    version: str = ""

    def __str__(self) -> str:
        return public(self.full)

    @property
    def suffix(self) -> str:
        """The suffix of its path, as of a `Path`."""
        return Path(urlsplit(self.full).path).suffix


def is_url(text: str) -> bool:
    """Return whether this is a URL: s3://..., https://..., memory://..."""
    return _SCHEME.match(text) is not None


def public(url: str) -> str:
    """Return a URL without what may be secret in it."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in PLAIN:
        rest = re.split("[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def open_filesystem(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it. Raises LocationError."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise LocationError(
            f'{public(url)}: fsspec is not installed; pip install "earshot-asr[ray]"'
        ) from None
    try:
        return url_to_fs(url)
    except ImportError as error:  # fsspec knows the kind and names the package that opens it
        reason = str(error).partition("\n")[0].rstrip(".")
        raise LocationError(f"{public(url)}: cannot be opened ({reason})") from None
    except ValueError:
        raise LocationError(
            f"{public(url)}: no such kind of address; use file://, s3://, gs://, https://"
        ) from None


def find_urls(url: str) -> list[tuple[Url, Path]]:
    """Return the audio files that a URL stands for, as `find_audio` does for paths, and their
    places below it.

    Raises AudioError if there is none, LocationError.
    """
    filesystem, path = open_filesystem(url)
    with reaching(url):
        if not path.endswith("/") and filesystem.isfile(path):  # of http, any page is one
            place = Path(PurePosixPath(urlsplit(path).path).name)
            return [(_found(filesystem, url, path, filesystem.info(path)), place)]
        listed = filesystem.find(path, detail=True)
    suffixes = AUDIO_SUFFIXES | (MEDIA_SUFFIXES if media_reader() else frozenset())
    root = PurePosixPath(path)
    found = [
        (_found(filesystem, url, name, facts), Path(PurePosixPath(name).relative_to(root)))
        for name, facts in sorted(listed.items())
        if Path(urlsplit(name).path).suffix.lower() in suffixes
        and not Path(name).name.startswith(".")
    ]
    if not found:
        raise AudioError(f"{public(url)}: no audio there; {REMEDY}")
    return found


def _found(filesystem: Any, url: str, name: str, facts: dict[str, Any]) -> Url:
    full = str(filesystem.unstrip_protocol(name))
    if urlsplit(url).scheme in ("http", "https"):  # pages list files without what opens them
        asked, here = urlsplit(url), urlsplit(full)
        query = here.query or asked.query
        full = urlunsplit((here.scheme, here.netloc, here.path, query, ""))
    marks = ("ETag", "etag", "mtime", "LastModified", "updated", "created")
    version = next((str(facts[mark]) for mark in marks if facts.get(mark)), "")
    return Url(full, int(facts.get("size") or 0), version)


class _Fetched(tempfile.SpooledTemporaryFile):
    """A copy of a file behind a URL, under its name."""

    def __init__(self, name: str) -> None:
        super().__init__(IN_MEMORY)
        self._shown = name

    @property
    def name(self) -> Any:
        return self._shown


@contextlib.contextmanager
def opened(file: Path | Url) -> Iterator[Path | BinaryIO]:
    """Give what `stream_audio` reads: a path as it is, a URL as a copy that is gone afterwards.

    Decoders go back and forth in a file: it is fetched once. Raises AudioError.
    """
    if isinstance(file, Path):
        yield file
        return
    with _Fetched(str(file)) as copy:
        try:
            filesystem, path = open_filesystem(file.full)
            with reaching(file.full), filesystem.open(path, "rb") as remote:
                shutil.copyfileobj(remote, copy, CHUNK)
        except LocationError as error:
            raise AudioError(str(error)) from None
        copy.seek(0)
        yield cast(BinaryIO, copy)


@contextlib.contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn what file systems raise into a LocationError that gives nothing secret away."""
    try:
        yield
    except EarshotError:
        raise
    except FileNotFoundError:
        raise LocationError(f"{public(url)}: no such file or folder; {REMEDY}") from None
    except Exception as error:  # each service has errors of its own, with whole URLs in them
        status = getattr(error, "status", None)
        reason = f"{type(error).__name__} {status}" if status else type(error).__name__
        raise LocationError(f"{public(url)}: cannot be used ({reason}); {REMEDY}") from None
