"""A tensor whose weights are computed while they are read, from codes and scales that someone else's tool stored."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.safetensors import SafetensorsTensor
from converter.checkpoints.tensor import SourceTensor

_WINDOW = 2**18
"""Weights computed at a time: 1 MiB of float32, which stays in the second-level cache from step to step."""


@dataclass(frozen=True)
class DequantizedTensor(SourceTensor):
    """Codes and what scales them, offered as the weights that they stand for.

    Attributes:
        codes: the tensor that holds the codes.
    """

    codes: SafetensorsTensor

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in vars(self).values() if isinstance(part, SafetensorsTensor))

    @property
    def row_unit(self) -> int:
        """Rows that are stored together: windows start at multiples of it."""
        return 1

    @property
    def column_unit(self) -> int:
        """Columns that are stored together: windows start at multiples of it."""
        return 1

    @abstractmethod
    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        """Fill ``out``, C-contiguous, with the weights from (``row``, ``column``) on.

        Both are multiples of their units; so are the ends, where the tensor does not end before.
        """

    def read_rows(
        self, start: int, stop: int, columns: slice | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        first, out = self.span(start, stop, columns, out)
        if not out.size:
            return out
        last = first + out.shape[1]
        low, high = first - first % self.column_unit, min(_rounded_up(last, self.column_unit), self.row_length)
        height = max(_WINDOW // (high - low) // self.row_unit, 1) * self.row_unit
        for begin in range(start - start % self.row_unit, stop, height):
            end = min(begin + height, _rounded_up(stop, self.row_unit), self.rows)
            top, bottom = max(begin, start), min(end, stop)
            asked = out[top - start : bottom - start]
            exact = (begin, end, low, high) == (top, bottom, first, last)
            window = asked if exact else np.empty((end - begin, high - low), np.float32)
            # Infinity and NaN are for the reader of the weights to refuse, who knows which tensor they are for.
            with np.errstate(over="ignore", invalid="ignore"):
                self.dequantize(begin, low, window)
            if not exact:
                asked[...] = window[top - begin : bottom - begin, first - low : last - low]
        return out


def _rounded_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
