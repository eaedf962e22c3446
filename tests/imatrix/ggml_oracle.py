"""ggml's own quantizer, called for matrices with weights of their columns."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from converter.quants.ggml import library_path


def ggml_bytes(ggml_type: int, matrices: NDArray[np.float32], importance: NDArray[np.float32] | None) -> bytes:
    """``ggml_quantize_chunk`` for each matrix (count, rows, columns) with its row of importance."""
    ggml = ctypes.CDLL(str(library_path()))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    data = b""
    for number, rows in enumerate(matrices):
        out = np.zeros(rows.size, np.uint8)
        weights = None if importance is None else np.ascontiguousarray(importance[number])
        size = ggml.ggml_quantize_chunk(
            ggml_type, ctypes.c_void_p(rows.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(0),
            ctypes.c_int64(rows.shape[0]), ctypes.c_int64(rows.shape[1]),
            ctypes.c_void_p(None if weights is None else weights.ctypes.data),
        )  # fmt: skip
        data += out[:size].tobytes()
    return data
