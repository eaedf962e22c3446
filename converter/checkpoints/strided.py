"""A tensor whose elements do not lie row after row: transposed, cut out of a larger one, or expanded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike, NDArray

from converter.checkpoints.floats import STORED_FLOATS
from converter.checkpoints.safetensors import DTYPE_BITS, SafetensorsTensor

_CHUNK = 2**18
"""Elements read at a time."""
_WORTH_SKIPPING = 64 * 1024
"""Bytes between two lines from which on a second read costs less than reading them along."""


@dataclass(frozen=True)
class StridedTensor(SafetensorsTensor):
    """Element (i, j, …) lies ``i * strides[0] + j * strides[1] + …`` elements behind ``offset``.

    Memory for one read is at most the size of a chunk, 2 MiB of 64-bit elements.

    Attributes:
        strides: in elements, none negative, one for each dimension.
    """

    strides: tuple[int, ...]

    def read_rows(
        self, start: int, stop: int, columns: slice | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        if self.dtype not in STORED_FLOATS:
            return super().read_rows(start, stop, columns, out)  # which refuses
        first, out = self.span(start, stop, columns, out)
        stored = STORED_FLOATS[self.dtype]
        for rows, within, found in self._windows(start, out.shape, first, stored.dtype):
            stored.widen(found, out[rows, within])
        return out

    def read_stored(self, start: int, stop: int, columns: slice = slice(None)) -> NDArray[Any]:
        first, last, _ = columns.indices(self.row_length)
        out = np.empty((stop - start, last - first), f"<u{DTYPE_BITS[self.dtype] // 8}")
        for rows, within, found in self._windows(start, out.shape, first, out.dtype):
            out[rows, within] = found
        return out

    def _windows(
        self, start: int, shape: tuple[int, ...], column: int, dtype: DTypeLike
    ) -> Iterator[tuple[slice, slice, NDArray[Any]]]:
        """What lies in ``shape`` rows and columns from (``start``, ``column``) on, window by window.

        Yields:
            rows and columns relative to the first, and the elements as they are stored.
        """
        if 0 in shape:
            return
        *leading, row_stride, column_stride = (0, *self.strides)
        height = self.shape[-2] if len(self.shape) > 1 else 1
        done = 0
        while done < shape[0]:
            matrix, row = divmod(start + done, height)
            count = min(height - row, shape[0] - done)
            element = row * row_stride + column * column_stride
            for size, stride in zip(reversed(self.shape[:-2]), reversed(leading), strict=False):
                matrix, index = divmod(matrix, size)
                element += index * stride
            if row_stride >= column_stride:
                for rows, columns, found in self._lines(element, (count, shape[1]), row_stride, column_stride, dtype):
                    yield _moved(rows, done), columns, found
            else:
                for columns, rows, found in self._lines(element, (shape[1], count), column_stride, row_stride, dtype):
                    yield _moved(rows, done), columns, found.T
            done += count

    def _lines(
        self, element: int, shape: tuple[int, int], pitch: int, stride: int, dtype: DTypeLike
    ) -> Iterator[tuple[slice, slice, NDArray[Any]]]:
        """A matrix from ``element`` on whose lines are ``pitch`` elements apart, those of a line ``stride``."""
        size = np.dtype(dtype).itemsize
        width = min(shape[1], max(1, _CHUNK // max(stride, 1)))
        for begin in range(0, shape[1], width):
            spots = min(width, shape[1] - begin)
            span = (spots - 1) * stride + 1
            skip = (pitch - span) * size >= _WORTH_SKIPPING
            at_once = 1 if skip else max(1, (_CHUNK - span) // max(pitch, 1) + 1)
            for line in range(0, shape[0], at_once):
                lines = min(at_once, shape[0] - line)
                chunk = np.empty((lines - 1) * pitch + span, dtype)
                self.file.read_into(self.offset + (element + line * pitch + begin * stride) * size, chunk)
                found = as_strided(chunk, (lines, spots), (pitch * size, stride * size), writeable=False)
                yield slice(line, line + lines), slice(begin, begin + spots), found


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether elements of that shape and those strides lie row-major without gaps; sizes of 1 have any stride."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return math.prod(shape) == 0
        expected *= size
    return True
