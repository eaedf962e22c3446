"""What an adapter does to the rows of one tensor, as data: steps that change some rows and columns at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.tensor import SourceTensor

WINDOW = 2**18
"""Elements computed at a time: 1 MiB of float32."""

Matrix = NDArray[np.float32]


class Step(Protocol):
    """One change to a tensor's values."""

    def apply(self, values: Matrix, row: int, column: int) -> None:
        """Change ``values`` in place: the tensor's elements from (``row``, ``column``) on."""


@dataclass(frozen=True, eq=False)
class Factor:
    """One of the two matrices of a product: some rows and columns of a tensor, then perhaps transposed.

    Attributes:
        tensor: what holds it.
        rows: rows of the tensor, in steps of one.
        columns: columns of the tensor.
        transposed: the columns are this matrix's rows.
    """

    tensor: SourceTensor
    rows: range
    columns: range
    transposed: bool = False

    @property
    def count(self) -> int:
        """Rows of this matrix."""
        return len(self.columns if self.transposed else self.rows)

    def read(self, start: int, stop: int) -> Matrix:
        """Rows ``start`` to ``stop`` of this matrix, float32."""
        rows, columns = (
            (self.rows, self.columns[start:stop]) if self.transposed else (self.rows[start:stop], self.columns)
        )
        window = self.tensor.read_rows(rows.start, rows.stop, slice(columns[0], columns[-1] + 1))[:, :: columns.step]
        return np.ascontiguousarray(window.T if self.transposed else window)

    def whole(self) -> Matrix:
        return self.read(0, self.count)


def whole(tensor: SourceTensor, *, transposed: bool = False) -> Factor:
    """All of a matrix."""
    return Factor(tensor, range(tensor.rows), range(tensor.row_length), transposed)


@dataclass(frozen=True, eq=False)
class LowRank:
    """``values += scale * (left @ right)``.

    Attributes:
        left: (rows, r), read row by row as it is needed.
        right: (r, columns), small, read whole.
        scale: the factor.
        kept: reads a right matrix, or knows it from before.
        first: row of the tensor that ``left``'s first row belongs to.
    """

    left: Factor
    right: Factor
    scale: float
    kept: Callable[[Factor], Matrix]
    first: int = 0

    def apply(self, values: Matrix, row: int, column: int) -> None:
        begin, end = max(row, self.first), min(row + len(values), self.first + self.left.count)
        if begin >= end:
            return
        right = self.kept(self.right)[:, column : column + values.shape[1]]
        # Not a BLAS: its threads and those that call this get in each other's way (20 times slower on two cores), and
        # its sums depend on how many rows are asked for.
        product = np.einsum("ik,kj->ij", self.left.read(begin - self.first, end - self.first), right)
        product *= np.float32(self.scale)
        values[begin - row : end - row] += product


@dataclass(frozen=True, eq=False)
class Dora:
    """DoRA: after the product is added, each output's weights are scaled to the length that was learned.

    ``values = m / |W + scale B A| * (values + scale B A)``, lengths taken of the original weight W, whatever other
    adapters did before, as PEFT merges several.

    Attributes:
        change: the product.
        magnitude: m, one number for each output.
        original: W.
        by_column: an output's weights are a column of W (embeddings, transposed projections).
    """

    change: LowRank
    magnitude: SourceTensor
    original: SourceTensor
    by_column: bool
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _found: list[Matrix] = field(default_factory=list, repr=False)

    def apply(self, values: Matrix, row: int, column: int) -> None:
        self.change.apply(values, row, column)
        with np.errstate(divide="ignore", invalid="ignore"):  # weights of length zero: NaN, as PEFT has it
            if self.by_column:
                values *= self._column_factors()[column : column + values.shape[1]]
                return
            changed = self._changed(row, row + len(values))
            lengths = np.linalg.norm(changed, axis=1)
            values *= (self._magnitudes()[row : row + len(values)] / lengths)[:, None]

    def _changed(self, start: int, stop: int) -> Matrix:
        rows = self.original.read_rows(start, stop)
        self.change.apply(rows, start, 0)
        return rows

    def _magnitudes(self) -> Matrix:
        return self.magnitude.read_rows(0, self.magnitude.rows).reshape(-1)

    def _column_factors(self) -> Matrix:
        """One factor for each column, from one pass over all rows."""
        with self._lock:
            if not self._found:
                squares = np.zeros(self.original.row_length, np.float64)
                step = max(1, WINDOW // self.original.row_length)
                for start in range(0, self.original.rows, step):
                    rows = self._changed(start, min(start + step, self.original.rows))
                    squares += np.square(rows, dtype=np.float64).sum(axis=0)
                self._found.append((self._magnitudes() / np.sqrt(squares)).astype(np.float32))
            return self._found[0]


@dataclass(frozen=True, eq=False)
class NewRows:
    """Some rows are there instead of the tensor's own.

    Attributes:
        indices: which rows, int64.
        tensor: the rows, in that order.
    """

    indices: NDArray[np.int64]
    tensor: SourceTensor

    def apply(self, values: Matrix, row: int, column: int) -> None:
        for index in np.flatnonzero((self.indices >= row) & (self.indices < row + len(values))):
            columns = slice(column, column + values.shape[1])
            values[self.indices[index] - row] = self.tensor.read_rows(int(index), int(index) + 1, columns)[0]


@dataclass(frozen=True, eq=False)
class Added:
    """``values += scale * vector``, of a bias."""

    vector: SourceTensor
    scale: float

    def apply(self, values: Matrix, row: int, column: int) -> None:
        values += np.float32(self.scale) * self.vector.read_rows(0, 1, slice(column, column + values.shape[1]))


@dataclass(frozen=True)
class MergedTensor(SourceTensor):
    """A tensor with adapters merged into it while it is read, in float32.

    Attributes:
        base: the tensor itself.
        steps: the changes, in order.
    """

    base: SourceTensor
    steps: tuple[Step, ...] = field(compare=False, repr=False)

    @property
    def nbytes(self) -> int:
        return self.base.nbytes

    def read_rows(self, start: int, stop: int, columns: slice | None = None, out: Matrix | None = None) -> Matrix:
        first, out = self.span(start, stop, columns, out)
        height = max(1, WINDOW // max(1, out.shape[1]))
        for begin in range(start, stop, height):
            window = out[begin - start : begin - start + height]
            self.base.read_rows(begin, begin + len(window), slice(first, first + out.shape[1]), out=window)
            for step in self.steps:
                step.apply(window, begin, first)
        return out
