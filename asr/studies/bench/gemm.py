"""The peak of this machine: how fast the runtime multiplies large matrices."""

import time

import numpy as np
import onnxruntime as ort

from asr.runtime.providers import CPU
from asr.runtime.session import session_options
from asr.studies.bench.timing import seconds_of

GEMM_SIZES = (256, 384, 512, 1024)
GEMM_SECONDS = 0.3  # for each of these
SEED = 7


def gemm_peak(threads: int) -> float:
    """Return the float32 FLOP/s of the runtime's own matrix product, at the best of GEMM_SIZES."""
    session = ort.InferenceSession(matrix_product(), session_options(threads), providers=[CPU])
    rng = np.random.default_rng(SEED)
    best = 0.0
    for n in GEMM_SIZES:
        factors = {name: rng.standard_normal((n, n), np.float32) for name in "ab"}
        ends = time.perf_counter() + GEMM_SECONDS
        while time.perf_counter() < ends:
            best = max(best, 2.0 * n**3 / seconds_of(lambda f=factors: session.run(None, f)))
    return best


def matrix_product() -> bytes:
    """Return the ONNX file of c = a @ b.

    Written out field by field as onnx.proto numbers them, for the onnx package is not there where
    a model merely runs.
    """

    def part(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3, content])
        return bytes([number << 3 | 2, len(content)]) + content

    real = part(2, part(1, part(1, 1) + part(2, 2 * part(1, b""))))  # FLOAT, two open axes
    node = part(1, b"a") + part(1, b"b") + part(2, b"c") + part(4, b"MatMul")
    values = [part(11, part(1, b"a") + real), part(11, part(1, b"b") + real)]
    graph = part(1, node) + part(2, b"product") + b"".join(values) + part(12, part(1, b"c") + real)
    return part(1, 8) + part(7, graph) + part(8, part(2, 17))  # IR version 8, operator set 17
