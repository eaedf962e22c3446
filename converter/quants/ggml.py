"""ggml's own quantizers, called in the shared library that llama-cpp-python installs.

They serve the types that have no kernel here, rows whose arithmetic leaves the range of a kernel, and the tests as
reference. The library is found without importing ``llama_cpp`` and loaded at the first call; ctypes releases the GIL
around every call, so threads quantize side by side.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.errors import RecipeError

_FILE_NAMES = {"darwin": "libggml-base.dylib", "win32": "ggml-base.dll"}


class _TypeTraits(ctypes.Structure):
    """``struct ggml_type_traits`` of ggml.h, up to the conversion to float."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


def library_path() -> Path:
    """Where llama-cpp-python put ggml's base library.

    Raises:
        RecipeError: llama-cpp-python is not installed, or its wheel lacks the library.
    """
    package = find_spec("llama_cpp")
    if package is None or package.origin is None:
        raise RecipeError("ggml is not available: llama-cpp-python is not installed; run pip install llama-cpp-python")
    path = Path(package.origin).parent / "lib" / _FILE_NAMES.get(sys.platform, "libggml-base.so")
    if not path.is_file():
        raise RecipeError(f"{path}: ggml's library is missing; reinstall llama-cpp-python")
    return path


@cache
def library() -> ctypes.CDLL:
    """ggml's base library with the prototypes of the functions used here and in the tests."""
    ggml = ctypes.CDLL(str(library_path()))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = (
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    )  # fmt: skip
    ggml.ggml_get_type_traits.restype = ctypes.POINTER(_TypeTraits)
    ggml.ggml_get_type_traits.argtypes = (ctypes.c_int,)
    ggml.ggml_validate_row_data.restype = ctypes.c_bool
    ggml.ggml_validate_row_data.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    return ggml


def quantize(
    ggml_type: int, rows: NDArray[np.float32], out: NDArray[np.uint8], importance: NDArray[np.float32] | None = None
) -> None:
    """Fill ``out`` with ``ggml_quantize_chunk(rows)``.

    Args:
        ggml_type: value of ``gguf.GGMLQuantizationType``.
        rows: float32 (n, row_length), C-contiguous; row_length a multiple of the type's block.
        out: uint8 (n, row_bytes), C-contiguous.
        importance: float32 (row_length,), C-contiguous: weight of each column's squared error.
    """
    weights = None if importance is None else importance.ctypes.data
    library().ggml_quantize_chunk(ggml_type, rows.ctypes.data, out.ctypes.data, 0, *rows.shape, weights)


def dequantize(ggml_type: int, data: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Fill ``out``, float32 (n, row_length), with the values of ``data``, uint8 (n, row_bytes); both C-contiguous."""
    library().ggml_get_type_traits(ggml_type).contents.to_float(data.ctypes.data, out.ctypes.data, out.size)
