"""AWQ as its ``gemm`` kernels read it: eight 4-bit columns of a transposed matrix in each word, in an odd order.

    X.qweight  I32 (in, out / 8)      X.qzeros  I32 (groups, out / 8)      X.scales  (groups, out)

    weight[o, i] = (code[i, o] - zero[i // group_size, o]) * scale[i // group_size, o]
    a word, from its lowest bits:  columns 0 2 4 6 1 3 5 7

https://github.com/casper-hansen/AutoAWQ, ``awq/utils/packing_utils.py``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.quantized.gptq import group_size, refuse_remaining
from converter.checkpoints.quantized.packing import GEMM, check_packing
from converter.checkpoints.quantized.panels import Panels, TurnedTensor
from converter.checkpoints.quantized.parts import FLOATS, Parts
from converter.checkpoints.safetensors import SafetensorsTensor

_TOGETHER = 8
"""Columns in a word."""
_COLUMNS_OF_BYTE = ((0, 2), (4, 6), (1, 3), (5, 7))
"""The columns in the low and the high half of each byte of a word."""


class AwqTensor(TurnedTensor):
    """AWQ's codes."""

    def read_codes(self, start: int, stop: int) -> NDArray[np.uint8]:
        return _unpack_turned(self.codes, start, stop)

    def read_zeros(self, start: int, stop: int) -> NDArray[np.uint8]:
        return _unpack_turned(self.zero_points, start, stop)


def _unpack_turned(tensor: SafetensorsTensor, start: int, stop: int) -> NDArray[np.uint8]:
    """Some columns of packed codes as rows, shape (stop - start, rows of the tensor)."""
    words = tensor.read_stored(0, tensor.rows, slice(start // _TOGETHER, stop // _TOGETHER))
    packed = np.ascontiguousarray(words.view(np.uint8).T).reshape(-1, 4, len(words))  # (words, bytes, rows)
    codes = np.empty((len(packed), _TOGETHER, len(words)), np.uint8)
    for byte, (low, high) in enumerate(_COLUMNS_OF_BYTE):
        np.bitwise_and(packed[:, byte], np.uint8(0x0F), out=codes[:, low])
        np.right_shift(packed[:, byte], np.uint8(4), out=codes[:, high])
    return codes.reshape(stop - start, len(words))


def read_awq(parts: Parts) -> None:
    """Put each ``X.qweight`` and what belongs to it together as ``X.weight``, out × in.

    Raises:
        CheckpointError: a variant that is not read, a part is missing, or their shapes do not fit.
    """
    parts.setting("bits", 4, 4)
    for spoken in ("version", "format"):
        parts.setting(spoken, "gemm", "gemm", "GEMM")
    parts.setting("zero_point", True, True)
    if parts.settings.get("backend") == "llm-awq":  # packs in yet another order
        parts.setting("backend", "autoawq", "autoawq")
    asked, panels = group_size(parts), Panels()
    for base in parts.bases(".qweight"):
        name = f"{base}.qweight"
        check_packing(parts, base, GEMM)
        codes = parts.take(name, name, ("I32",), None, None)
        columns, rows = codes.shape[0], codes.shape[1] * _TOGETHER
        size = columns if asked == -1 else asked
        groups = math.ceil(columns / size) if size else 0
        scales = parts.take(f"{base}.scales", name, FLOATS, groups, rows)
        zeros = parts.take(f"{base}.qzeros", name, ("I32",), groups, codes.shape[1])
        shape = (rows, columns)
        parts.give(AwqTensor(f"{base}.weight", "I32", shape, codes, scales, zeros, None, size, panels), name)
    refuse_remaining(parts)
