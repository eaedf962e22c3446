"""A target tensor as data: which source rows make it, and what is done to them on the way.

All the weight surgery of the field is a selection of rows, an elementwise operation or a transposition. Said as
data, it can be planned, printed, hashed and run by an executor that knows no family.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RowMap:
    """An affine selection of source rows, like a strided view of them.

    Target row ``(i0, i1, …)`` of the nested counts is source row ``offset + i0*stride0 + i1*stride1 + …``; the last
    loop runs fastest.

    Attributes:
        offset: the first source row.
        loops: (count, stride) from the outermost to the innermost loop.
    """

    offset: int
    loops: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> int:
        return math.prod(count for count, _ in self.loops)

    def source_rows(self, start: int, stop: int) -> NDArray[np.int64]:
        """Source row of each target row from ``start`` to ``stop``, shape (stop - start,)."""
        remaining = np.arange(start, stop, dtype=np.int64)
        rows = np.full(stop - start, self.offset, dtype=np.int64)
        for count, stride in reversed(self.loops):
            remaining, index = np.divmod(remaining, count)
            rows += index * stride
        return rows


def row_run(start: int, count: int) -> RowMap:
    """``count`` consecutive rows from ``start``."""
    return RowMap(start, ((count, 1),))


def rotary_pairs(heads: int, head_dim: int) -> RowMap:
    """Rows of a query or key projection, reordered from rotated halves to rotated neighbours.

    transformers rotates element j of a head with element j + head_dim/2; llama.cpp's "normal" rope rotates 2j with
    2j + 1. So target row (head, j, half) is source row (head, half, j).
    """
    return RowMap(0, ((heads, head_dim), (head_dim // 2, 1), (2, head_dim // 2)))


@dataclass(frozen=True)
class Operation:
    """An operation on float32 rows, by name: one of those in ``OPERATIONS``, with its operand if it has one.

    It sees some rows of a tensor at a time, each of them whole. "reordered" gives the elements of each row in the order
    of ``columns``, a selection of a row's elements as :class:`RowMap` is one of a tensor's rows.
    """

    name: str
    operand: float = 0.0
    columns: RowMap | None = None

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.columns is not None:
            return np.take(values, self.columns.source_rows(0, self.columns.rows), axis=-1)
        return OPERATIONS[self.name](values, np.float32(self.operand))


OPERATIONS: dict[str, Callable[[NDArray[np.float32], np.float32], NDArray[np.float32]]] = {
    "add": lambda values, operand: values + operand,
    "multiply": lambda values, operand: values * operand,
    "negated exponential": lambda values, operand: -np.exp(values),
    "unit length": lambda values, operand: values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12),
}


@dataclass(frozen=True)
class Piece:
    """A run of a target tensor's rows, taken from one source tensor.

    Attributes:
        source: name of the source tensor.
        rows: which of its rows, or which of its elements where their rows are longer than the target's; None for all.
        transposed: the source holds this piece's matrix transposed (rows then select columns of the source).
        operation: applied to the values; None leaves them.
        within: the run of source rows (first, count) that holds a transposed piece; None for all of them.
    """

    source: str
    rows: RowMap | None = None
    transposed: bool = False
    operation: Operation | None = None
    within: tuple[int, int] | None = None


@dataclass(frozen=True)
class TargetTensor:
    """A tensor of the output, before its type is chosen.

    Attributes:
        name: GGUF name, e.g. ``blk.0.attn_q.weight``.
        shape: row-major; the last dimension is a row's length (ggml's ``ne[0]``).
        pieces: what makes its rows, in order.
        values: the numbers themselves for a tensor that is computed from the configuration (then no pieces).
    """

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...] = ()
    values: tuple[float, ...] | None = None

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def row_length(self) -> int:
        return self.shape[-1] if self.shape else 1

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def under(self, operation: Operation) -> TargetTensor:
        """The same tensor, its sources' values under an operation; they have no other."""
        return replace(self, pieces=tuple(replace(piece, operation=operation) for piece in self.pieces))
