"""Tensors made of tensors: slices put together again, rows in another order. Read as they are asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.tensor import SourceTensor

_WINDOW = 2**18
"""Weights reordered at a time: 1 MiB of float32."""


@dataclass(frozen=True)
class JoinedTensor(SourceTensor):
    """Matrices side by side.

    Attributes:
        parts: the matrices, of one type.
        axis: 0 where each holds some of the rows, 1 where each holds some of the columns.
    """

    parts: tuple[SourceTensor, ...]
    axis: int

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def read_rows(
        self, start: int, stop: int, columns: slice | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        first, out = self.span(start, stop, columns, out)
        last = first + out.shape[1]
        low, high = (start, stop) if self.axis == 0 else (first, last)
        begin = 0
        for part in self.parts:
            end = begin + part.shape[self.axis]
            top, bottom = max(begin, low), min(end, high)
            if top < bottom and self.axis == 0:
                part.read_rows(top - begin, bottom - begin, slice(first, last), out[top - low : bottom - low])
            elif top < bottom:
                # A part fills whole rows of memory; these are cut out of longer ones.
                height = max(1, _WINDOW // (bottom - top))
                for row in range(start, stop, height):
                    rows = (row, min(row + height, stop))
                    read = part.read_rows(*rows, slice(top - begin, bottom - begin))
                    out[rows[0] - start : rows[1] - start, top - low : bottom - low] = read
            begin = end
        return out


@dataclass(frozen=True)
class HalvesTensor(SourceTensor):
    """A query or key projection whose heads rotate neighbouring rows, with the rows as transformers rotates them.

    Of a head of d rows, row ``half * d/2 + j`` here is row ``2 * j + half`` of ``base``.

    Attributes:
        base: the matrix as it is stored.
        head_dim: rows of a head.
    """

    base: SourceTensor
    head_dim: int

    @property
    def nbytes(self) -> int:
        return self.base.nbytes

    def read_rows(
        self, start: int, stop: int, columns: slice | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        first, out = self.span(start, stop, columns, out)
        if not out.size:
            return out
        within = slice(first, first + out.shape[1])
        head, row = np.divmod(np.arange(start, stop), self.head_dim)
        half, pair = np.divmod(row, self.head_dim // 2)
        stored = head * self.head_dim + 2 * pair + half
        order = np.argsort(stored)
        height = max(1, _WINDOW // out.shape[1])
        for begin in range(int(stored.min()), int(stored.max()) + 1, height):
            end = min(begin + height, int(stored.max()) + 1)
            low, high = np.searchsorted(stored, (begin, end), sorter=order)
            if low < high:
                taken = order[low:high]
                out[taken] = self.base.read_rows(begin, end, within)[stored[taken] - begin]
        return out
