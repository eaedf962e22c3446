"""AWQ as its ``gemm`` kernels read it: eight 4-bit columns of a transposed matrix in each word, in an odd order.

    X.qweight  I32 (in, out / 8)      X.qzeros  I32 (groups, out / 8)      X.scales  (groups, out)

    weight[o, i] = (code[i, o] - zero[i // group_size, o]) * scale[i // group_size, o]
    a word, from its lowest bits:  columns 0 2 4 6 1 3 5 7

https://github.com/casper-hansen/AutoAWQ, ``awq/utils/packing_utils.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.quantized.dequantized import DequantizedTensor, scale_groups
from converter.checkpoints.quantized.gptq import group_size, refuse_remaining
from converter.checkpoints.quantized.parts import FLOATS, Parts
from converter.checkpoints.safetensors import SafetensorsTensor

_TOGETHER = 8
"""Columns in a word."""
_COLUMNS_OF_BYTE = ((0, 2), (4, 6), (1, 3), (5, 7))
"""The columns in the low and the high half of each byte of a word."""


@dataclass(frozen=True)
class AwqTensor(DequantizedTensor):
    """AWQ's codes, turned around while they are read.

    Attributes:
        scales: (groups, out).
        zero_points: (groups, out / 8), packed like the codes.
        group_size: columns of a group; the last group may be shorter.
    """

    scales: SafetensorsTensor
    zero_points: SafetensorsTensor
    group_size: int

    @property
    def row_unit(self) -> int:
        return _TOGETHER

    @property
    def column_unit(self) -> int:
        return self.group_size

    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        rows, columns = slice(row, row + len(out)), slice(column, column + out.shape[1])
        across = slice(rows.start // _TOGETHER, rows.stop // _TOGETHER)
        groups = slice(column // self.group_size, math.ceil(columns.stop / self.group_size))
        _unpack_turned(self.codes.read_stored(columns.start, columns.stop, across), out)
        zeros = np.empty((len(out), groups.stop - groups.start), np.float32)
        _unpack_turned(self.zero_points.read_stored(groups.start, groups.stop, across), zeros)
        scales = np.ascontiguousarray(self.scales.read_rows(groups.start, groups.stop, rows).T)
        scale_groups(out, scales, zeros, self.group_size)


def _unpack_turned(words: NDArray[np.uint32], out: NDArray[np.float32]) -> None:
    """Fill ``out`` (8 * words, n) with the codes in ``words`` (n, words)."""
    packed = np.ascontiguousarray(words.view(np.uint8).T).reshape(-1, 4, len(words))  # (words, bytes, n)
    columns = out.reshape(-1, _TOGETHER, len(words))
    for byte, (low, high) in enumerate(_COLUMNS_OF_BYTE):
        np.copyto(columns[:, low], packed[:, byte] & np.uint8(0x0F))
        np.copyto(columns[:, high], packed[:, byte] >> np.uint8(4))


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
    asked = group_size(parts)
    for base in parts.bases(".qweight"):
        name = f"{base}.qweight"
        codes = parts.take(name, name, ("I32",), None, None)
        columns, rows = codes.shape[0], codes.shape[1] * _TOGETHER
        size = columns if asked == -1 else asked
        groups = math.ceil(columns / size) if size else 0
        scales = parts.take(f"{base}.scales", name, FLOATS, groups, rows)
        zeros = parts.take(f"{base}.qzeros", name, ("I32",), groups, codes.shape[1])
        parts.give(AwqTensor(f"{base}.weight", "I32", (rows, columns), codes, scales, zeros, size), name)
    refuse_remaining(parts)
