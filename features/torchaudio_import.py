"""Import torchaudio where its native library cannot load.

torchaudio 2.11 ships one wheel whose native library wants CUDA. Beside a CPU build of torch the
plain import fails although everything used here is pure Python. In that case alone the native
extension is announced as absent before the second try; what truly needs it (file reading, forced
alignment) stays unavailable and is not used in this project.
"""

import importlib
import sys
import types


def _absent_extension() -> types.ModuleType:
    extension = types.ModuleType("torchaudio._extension")

    def fail_if_no_align(function: object) -> object:
        return function

    extension.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=fail_if_no_align,
        _check_cuda_version=lambda: None,
    )
    return extension


def import_torchaudio() -> types.ModuleType:
    """Return the `torchaudio` module, without its native extension if that cannot load."""
    try:
        return importlib.import_module("torchaudio")
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _absent_extension()
        return importlib.import_module("torchaudio")
