"""Writes a page that runs a model in the browser: static files, nothing to build, nothing fetched
from elsewhere. onnxruntime-web exposes no metadata, so the card lies beside the model as JSON.
"""

import hashlib
import json
from importlib import resources
from pathlib import Path

from asr.files import read_bytes, whole_file
from asr.model import Model
from features.errors import EarshotError

RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
INSTALLED = Path("node_modules/onnxruntime-web/dist")
WORKER = "sw.js"
VERSION, FILES = "@VERSION@", "@FILES@"  # what stands for them in the service worker


class WebError(EarshotError, ValueError):
    """A page cannot be made of this model, or without these files."""


def write_site(model: Model, folder: Path, runtime: Path | None = None) -> list[Path]:
    """Write a page for a streaming model into a folder; return its files.

    runtime: the folder with onnxruntime-web's files, INSTALLED if not given. Raises WebError,
    WriteError.
    """
    if not model.card.streaming:
        raise WebError(
            f"{model.path}: this model needs whole utterances; a page streams, so export it with "
            "a latency ('asr export --latency')"
        )
    contents = {f"ort/{name}": content for name, content in _runtime(runtime).items()}
    contents["model.onnx"] = read_bytes(model.path, "a model")
    contents["card.json"] = model.card.to_json().encode()
    contents |= {entry.name: entry.read_bytes() for entry in _kit()}
    contents[WORKER] = _worker(contents)
    for name, content in contents.items():
        with whole_file(folder / name) as part:
            part.write_bytes(content)
    return [folder / name for name in contents]


def _kit() -> list[Path]:
    return sorted(Path(str(resources.files("export.web").joinpath("site"))).iterdir())


def _runtime(folder: Path | None) -> dict[str, bytes]:
    place = folder or INSTALLED
    if missing := [name for name in RUNTIME if not (place / name).is_file()]:
        raise WebError(
            f"{place}: lacks {', '.join(missing)}; get them with 'npm install onnxruntime-web', or "
            "name the folder 'dist' of that package with --runtime"
        )
    return {name: (place / name).read_bytes() for name in RUNTIME}


def _worker(contents: dict[str, bytes]) -> bytes:
    """Return the service worker that keeps these files; another version of one is another cache."""
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(name.encode() + hashlib.sha256(content).digest())
    files = ["./", *sorted(contents.keys() - {WORKER})]
    text = contents[WORKER].decode()
    text = text.replace(VERSION, digest.hexdigest()[:16]).replace(FILES, json.dumps(files))
    return text.encode()
