"""The hash of a model's weights, read from the bytes of an .onnx file without the onnx package.

Only what the hash needs of the format is read: field numbers are those of onnx.proto (ModelProto,
GraphProto, TensorProto), the encoding is that of Protocol Buffers.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from features.errors import EarshotError

GRAPH, INITIALIZER = 7, 5
DIMS, DATA_TYPE, FLOATS, INT32S, INT64S, NAME, RAW = 1, 2, 4, 5, 7, 8, 9
DTYPES = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


class WeightsError(EarshotError, ValueError):
    """The bytes are no ONNX model whose weights can be read."""


class Tensor(NamedTuple):
    """One initialiser."""

    name: str
    array: np.ndarray


def weights_sha256(content: bytes) -> str:
    """Hash name, shape, type and bytes of every initialiser, in the order of their names.

    content: of an .onnx file. Raises WeightsError.
    """
    digest = hashlib.sha256()
    try:
        for name, array in sorted(_initialisers(content), key=lambda tensor: tensor.name):
            digest.update(f"{name}{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
    except (IndexError, KeyError, ValueError) as error:
        raise WeightsError(f"its weights cannot be read ({error})") from None
    return digest.hexdigest()


def _initialisers(content: bytes) -> Iterator[Tensor]:
    for field, graph in _fields(memoryview(content)):
        if field == GRAPH:
            for inner, tensor in _fields(_bytes(graph)):
                if inner == INITIALIZER:
                    yield _tensor(_bytes(tensor))


def _tensor(message: memoryview) -> Tensor:
    name, kind, dims = "", 0, list[int]()
    raw, floats, integers = memoryview(b""), memoryview(b""), list[int]()
    for field, value in _fields(message):
        if field == NAME:
            name = bytes(_bytes(value)).decode()
        elif field == DATA_TYPE and isinstance(value, int):
            kind = value
        elif field == DIMS:
            dims += _integers(value)
        elif field == RAW:
            raw = _bytes(value)
        elif field == FLOATS:
            floats = _bytes(value)
        elif field in (INT32S, INT64S):
            integers += _integers(value)
    dtype = DTYPES[kind]
    if integers:
        array = np.array(integers, np.uint64).astype(np.int64).astype(dtype)
    else:
        array = np.frombuffer(raw or floats, dtype)
    return Tensor(name, array.reshape(dims))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of a message: number, and an integer or the bytes of the value."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        field, wire = key >> 3, key & 7
        if wire == VARINT:
            value, place = _varint(message, place)
            yield field, value
            continue
        if wire == BYTES:
            length, place = _varint(message, place)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if place + length > len(message):
            raise ValueError("cut off")
        yield field, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Read an integer of 7 bits a byte, the lowest first; return it and the place after it."""
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place


def _integers(value: int | memoryview) -> list[int]:
    """One integer, or as many as are packed in bytes."""
    if isinstance(value, int):
        return [value]
    found, place = list[int](), 0
    while place < len(value):
        number, place = _varint(value, place)
        found.append(number)
    return found


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("an integer in place of bytes")
    return value
