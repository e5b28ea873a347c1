"""A folder of transcripts, one for each audio file: whole or not there, and never made twice."""

import contextlib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.batch.sources import Source
from asr.batch.workers import File
from asr.decode.keywords.typed import SpotOptions
from asr.decode.options import DecodeOptions
from asr.files import read_bytes, whole_file, writing
from asr.model import language_model_of, model_path
from features.audio import AudioError
from features.errors import EarshotError

JOURNAL = ".earshot.jsonl"
REMEDY = "make room or name another folder, then give the same command again: what is done is kept"


class OutputError(EarshotError, ValueError):
    """Two transcripts would have the same name."""


@dataclass(frozen=True)
class Origin:
    """What a transcript was made from and how: while that is so, it need not be made again.

    modified: in nanoseconds, or what a service has for it. made_by: a hash of the model and of the
    options.
    """

    file: str
    size: int
    modified: int | str
    made_by: str


def fingerprint(model: Path, options: DecodeOptions | SpotOptions | None) -> str:
    """Return a hash of what decides results: the options, and what the model and the files
    that they name, or that stand beside it, contain. Raises ReadError."""
    lm, files = language_model_of(model), ()
    if isinstance(options, DecodeOptions):
        files = options.beside(lm).files
    elif options is not None:
        options = options.beside(lm)
    digest = hashlib.sha256(repr(options).encode())
    for path in (model, *files):
        digest.update(hashlib.sha256(read_bytes(path, "a file")).digest())
    return digest.hexdigest()


def made_by(model: str, options: DecodeOptions | SpotOptions | None) -> str:
    """Return the fingerprint of a model, by its name, and options. Raises ReadError, ModelError."""
    return fingerprint(model_path(model), options)


class OutputFolder:
    """Transcripts with one suffix, in the sub-folders that their audio files have.

    A journal in the folder, `.earshot.jsonl`, holds the origin of each. Raises WriteError if the
    folder cannot be written to.
    """

    def __init__(self, folder: Path, suffix: str, made_by: str) -> None:
        self._folder = folder
        self._suffix = suffix
        self._made_by = made_by
        self._journal = folder / JOURNAL
        self._origins = self._read_journal()
        self._new_origins: dict[File, Origin] = {}
        # Written anew, it loses the half line that a run may have left when it was cut off.
        lines = (_line(place, origin) for place, origin in self._origins.items())
        _write(self._journal, "".join(lines))

    def pending(
        self, sources: Iterable[Source | AudioError], overwrite: bool
    ) -> list[Source | EarshotError]:
        """Return what there is to do: files whose transcript is not there, or made otherwise.

        overwrite: all the same for the others. Errors stay; where several transcripts would have
        the same name, all but the first become one.
        """
        pending: list[Source | EarshotError] = []
        first: dict[Path, Source] = {}
        for source in sources:
            if isinstance(source, AudioError):
                pending.append(source)
                continue
            place = self._place(source)
            other = first.setdefault(place, source)
            if other.path != source.path:
                pending.append(_collision(source, other, self._folder / place))
            elif other is source and (not self._is_current(source) or overwrite):
                pending.append(source)
        return pending

    def write(self, source: Source, text: str) -> None:
        """Write a transcript and remember its origin. Raises WriteError."""
        place = self._place(source)
        _write(self._folder / place, text)
        with writing(self._journal, REMEDY), self._journal.open("a", encoding="utf-8") as journal:
            journal.write(_line(place.as_posix(), self._new_origins[source.path]))

    def _is_current(self, source: Source) -> bool:
        """Return whether its transcript is there. Its origin is noted before the file is read."""
        place = self._place(source)
        origin = Origin(*source.state(), self._made_by)
        self._new_origins[source.path] = origin
        return self._origins.get(place.as_posix()) == origin and (self._folder / place).exists()

    def _place(self, source: Source) -> Path:
        return source.place.with_suffix(f".{self._suffix}")

    def _read_journal(self) -> dict[str, Origin]:
        origins = {}
        with writing(self._journal, REMEDY):
            text = self._journal.read_text("utf-8") if self._journal.exists() else ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                fields = json.loads(line)
                place = fields.pop("transcript")
                origins[place] = Origin(**fields)
        return origins


def _line(place: str, origin: Origin) -> str:
    return json.dumps({"transcript": place} | asdict(origin)) + "\n"


def _write(path: Path, text: str) -> None:
    with whole_file(path, REMEDY) as part:
        part.write_text(text, "utf-8", "backslashreplace", newline="\n")


def _collision(source: Source, other: Source, path: Path) -> OutputError:
    return OutputError(
        f"{source.path}: its transcript would be {path}, as that of {other.path}; "
        "rename it, or transcribe it into another folder"
    )
