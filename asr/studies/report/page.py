"""The page: sections of tables, pictures and clips, all inside one HTML file."""

import base64
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from asr.files import whole_file


class Table(NamedTuple):
    """Rows of text under their heads."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """A picture as a data address, and what it shows, in words."""

    source: str
    text: str


class Clip(NamedTuple):
    """An error to play and to look at; `sound` and `picture` are data addresses; `sound` is empty
    if it is not to be played."""

    reference: str
    hypothesis: str
    confidence: str
    where: str
    sound: str
    picture: str


@dataclass(frozen=True)
class Section:
    """A part of the page under its title."""

    title: str
    note: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    clips: Sequence[Clip] = ()


def write_page(title: str, summary: str, sections: Sequence[Section], path: Path) -> None:
    """Write the page; it needs nothing beside it and no network. Raises WriteError."""
    from jinja2 import Environment

    template = files("asr.studies.report").joinpath("page.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template)
    html = page.render(title=title, summary=summary, sections=sections)
    with whole_file(path) as part:
        part.write_text(html, encoding="utf-8")


def picture_of(draw: Callable[[Path], None]) -> str:
    """What `draw` writes as PNG to the path that it is given, as a data address."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        draw(path)
        return _address("image/png", path.read_bytes())


def sound_of(samples: np.ndarray, sample_rate: int) -> str:
    """Samples float32 (samples,) as FLAC, a data address."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return _address("audio/flac", stream.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
