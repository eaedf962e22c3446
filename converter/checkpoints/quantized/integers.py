"""Integers of 1 to 8 bits in groups along a row, packed along the row as well.

codes (out, words), scales (out, groups), zero points packed down the columns: (words, groups)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.quantized.dequantized import DequantizedTensor
from converter.checkpoints.quantized.groups import group_of_columns, scale_groups
from converter.checkpoints.quantized.packed import codes_together, unpack, unpack_signed, word_run
from converter.checkpoints.safetensors import SafetensorsTensor


@dataclass(frozen=True)
class IntegerTensor(DequantizedTensor):
    """Packed integers with a scale and a zero point for each group of a row's columns.

    Attributes:
        scales: (rows or 1, groups).
        zero_points: packed like the codes, but down a column; None where all are in the middle of the codes.
        groups: group of each column, where columns were quantized in another order; None where they were not.
        bits: of a code.
        group_size: columns of a group; the last group may be shorter.
    """

    scales: SafetensorsTensor
    zero_points: SafetensorsTensor | None
    groups: SafetensorsTensor | None
    bits: int
    group_size: int

    @property
    def row_unit(self) -> int:
        return 1 if self.zero_points is None else codes_together(self.bits)

    @property
    def column_unit(self) -> int:
        return math.lcm(codes_together(self.bits), self.group_size)

    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        rows, last = slice(row, row + len(out)), column + out.shape[1]
        packed = self.codes.read_stored(rows.start, rows.stop, word_run(column, last, self.bits)).view(np.uint8)
        unpack_signed(packed, self.bits, 0 if self.zero_points else 1 << (self.bits - 1), out)
        of_columns = group_of_columns(self.groups, self.row_length, self.group_size)
        group: int | NDArray[np.int64] = self.group_size
        across = slice(column // self.group_size, math.ceil(last / self.group_size))
        if of_columns is not None:
            group, across = of_columns[column:last], slice(0, math.ceil(self.row_length / self.group_size))
        scaled_rows = slice(0, 1) if self.scales.rows == 1 else rows
        scales = self.scales.read_rows(scaled_rows.start, scaled_rows.stop, across)
        scale_groups(out, scales, self._read_zeros(rows, across), group)

    def _read_zeros(self, rows: slice, groups: slice) -> NDArray[np.float32] | None:
        """Zero points of some rows' groups, shape (rows, groups)."""
        if self.zero_points is None:
            return None
        run = word_run(rows.start, rows.stop, self.bits)
        turned = np.ascontiguousarray(self.zero_points.read_stored(run.start, run.stop, groups).T)
        zeros = unpack(turned.view(np.uint8), self.bits, rows.stop - rows.start)
        return np.ascontiguousarray(zeros.T, np.float32)
