"""Integers of 1 to 8 bits in groups along a row, packed the two ways of the field.

    along a row     codes (out, words), scales (out, groups), zero points packed down a column: (words, groups)
    down a column   codes (words, out), scales (groups, out), zero points packed along a row:   (groups, words)

The second way is GPTQ's. Its columns are read, turned around while they are still packed, and treated as the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.quantized.dequantized import DequantizedTensor, scale_groups
from converter.checkpoints.quantized.packed import WORD, codes_together, unpack, words
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.errors import CheckpointError


@dataclass(frozen=True)
class IntegerTensor(DequantizedTensor):
    """Packed integers with a scale and a zero point for each group of a row's columns.

    Attributes:
        scales: one for each group of each row.
        zero_points: packed like the codes; None where every zero point is in the middle of the codes.
        groups: group of each column, where columns were quantized in another order; None where they were not.
        bits: of a code.
        group_size: columns of a group; the last group may be shorter.
        less_one: whether the zero points were stored less one.
        down_columns: whether codes are packed down a column.
    """

    scales: SafetensorsTensor
    zero_points: SafetensorsTensor | None
    groups: SafetensorsTensor | None
    bits: int
    group_size: int
    less_one: bool = False
    down_columns: bool = False

    @property
    def row_unit(self) -> int:
        return 1 if self.zero_points is None else codes_together(self.bits)

    @property
    def column_unit(self) -> int:
        return math.lcm(codes_together(self.bits), self.group_size)

    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        rows, columns = slice(row, row + len(out)), slice(column, column + out.shape[1])
        packed = self._read_turned(self.codes, rows, _word_run(columns, self.bits))
        unpack(packed, self.bits, out, 0 if self.zero_points else 1 << (self.bits - 1))
        order = self._order(columns)
        group = self.group_size if order is None else order
        runs = math.ceil(self.row_length / self.group_size)
        across = slice(0, runs)
        if order is None:
            across = slice(column // self.group_size, math.ceil(columns.stop / self.group_size))
        scale_groups(out, self._read_scales(rows, across), self._read_zeros(rows, across), group)

    def _read_scales(self, rows: slice, groups: slice) -> NDArray[np.float32]:
        """Scales of some rows' groups, shape (rows, groups)."""
        if self.down_columns:
            return np.ascontiguousarray(self.scales.read_rows(groups.start, groups.stop, rows).T)
        if self.scales.rows == 1:  # of all rows
            return self.scales.read_rows(0, 1, groups)
        return self.scales.read_rows(rows.start, rows.stop, groups)

    def _read_zeros(self, rows: slice, groups: slice) -> NDArray[np.float32] | None:
        """Zero points of some rows' groups, shape (rows, groups)."""
        if self.zero_points is None:
            return None
        across = _word_run(rows, self.bits)
        if self.down_columns:
            stored = self.zero_points.read_stored(groups.start, groups.stop, across)
        else:
            stored = np.ascontiguousarray(self.zero_points.read_stored(across.start, across.stop, groups).T)
        zeros = np.empty((len(stored), rows.stop - rows.start), np.float32)
        if self.less_one and WORD % self.bits == 0:
            # One was subtracted from whole words, where a zero point of 0 borrows from the next: so it is added.
            stored += np.uint32(sum(1 << bit for bit in range(0, WORD, self.bits)))
        unpack(stored.view(np.uint8), self.bits, zeros)
        if self.less_one and WORD % self.bits:
            np.copyto(zeros, (zeros + 1) % (1 << self.bits))
        return np.ascontiguousarray(zeros.T)

    def _read_turned(self, tensor: SafetensorsTensor, rows: slice, across: slice) -> NDArray[np.uint8]:
        """Packed codes of some rows, shape (rows, bytes)."""
        if self.down_columns:
            return np.ascontiguousarray(tensor.read_stored(across.start, across.stop, rows).T).view(np.uint8)
        return tensor.read_stored(rows.start, rows.stop, across).view(np.uint8)

    def _order(self, columns: slice) -> NDArray[np.int64] | None:
        """The group of each column; None where each group is a run of columns.

        Raises:
            CheckpointError: a group that does not exist.
        """
        if self.groups is None:
            return None
        order: NDArray[np.int64] = self.groups.read_stored(0, 1).view(np.int32)[0].astype(np.int64)
        if np.array_equal(order, np.arange(len(order)) // self.group_size):
            return None
        count = math.ceil(self.row_length / self.group_size)
        if order.min() < 0 or order.max() >= count:
            wrong = order.min() if order.min() < 0 else order.max()
            raise CheckpointError(
                f"{self.groups.file.path}: tensor {self.groups.name} names group {wrong}, expected 0 to {count - 1}; "
                "download the file again"
            )
        return order[columns]


def _word_run(codes: slice, bits: int) -> slice:
    """The words in which a run of codes lies that begins with a word."""
    return slice(codes.start * bits // WORD, words(codes.stop, bits))
