"""Sums of squared activations, taken from a running model's matrix products.

Which products count and how they are summed is llama.cpp's definition (``collect_imatrix`` of ``tools/imatrix``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.imatrix.ggml_tensor import F32, GgmlTensor, operations, values, weight_name
from converter.imatrix.matrix import Entry, ImatrixError, checked

LEAST_ROWS = 16
"""Products of fewer rows are left out: they are not those of a text."""


class Activations:
    """Accumulators by tensor name, filled by llama.cpp's evaluation callback.

    Args:
        entries: sums to go on from.
        process_output: whether the matrix that makes the logits counts, if it is not the embedding too.
    """

    def __init__(self, entries: Mapping[str, Entry], *, process_output: bool) -> None:
        self.entries = dict(entries)
        self.failure: Exception | None = None
        self._process_output = process_output
        self._mul_mat, self._mul_mat_id = operations()

    def observe(self, address: int, ask: bool, _: object) -> bool:
        """The callback: asked before a node whether it is wanted, then told that it was computed.

        No exception can pass through llama.cpp: it is kept in ``failure``, and the evaluation is cut short.
        """
        try:
            node = GgmlTensor.from_address(address)
            if ask:
                return self._wanted(node)
            self._add(node)
        except Exception as error:
            self.failure = self.failure or error
            return False
        return True

    def _wanted(self, node: Any) -> bool:
        if node.op == self._mul_mat_id:
            return True
        if node.op != self._mul_mat:
            return False
        rows = node.src[1].contents
        name = weight_name(node.src[0].contents)
        named = name.startswith("blk.") or (self._process_output and name == "output.weight")
        return named and rows.ne[1] >= LEAST_ROWS and rows.type == F32

    def _add(self, node: Any) -> None:
        weight, rows = node.src[0].contents, values(node.src[1].contents)
        name = weight_name(weight)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused with its name
            if node.op == self._mul_mat_id:
                sums, counts = chosen_sums(rows, values(node.src[2].contents), weight.ne[2])
            else:
                sums, counts = plain_sums(rows, weight.ne[2], weight.ne[3])
            entry = self.entries.get(name)
            if entry is not None:
                counts = _as_many(entry.counts, counts) + _as_many(counts, entry.counts)
                sums = entry.sums.reshape(sums.shape) + sums
        self.entries[name] = checked(sums, counts, name, "the model")


def plain_sums(rows: NDArray[np.float32], third: int, fourth: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Squares of a matrix product's rows, summed for each matrix of the weight.

    Args:
        rows: float32 (d, c, n, columns).
        third, fourth: how many matrices the weight stacks in its third and fourth dimension; the rows of a stack's
            matrix are those with its indices, modulo the stack's size.

    Returns:
        float32 (1, fourth * third * columns) and the rows for each matrix, int64 (1,).
    """
    sums = np.zeros((fourth, third, rows.shape[-1]), np.float32)
    for d, c in np.ndindex(rows.shape[:2]):
        sums[d % fourth, c % third] += np.einsum("ij,ij->j", rows[d, c], rows[d, c])
    count = rows.size // rows.shape[-1] // (third * fourth)
    return sums.reshape(1, -1), np.array([count], np.int64)


def chosen_sums(
    rows: NDArray[np.float32], ids: NDArray[np.int32], experts: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Squares of the rows that each expert was chosen for, summed.

    Args:
        rows: float32 (1, tokens, chosen or 1, columns); 1 where a token's experts all get the same row.
        ids: int32 (1, 1, tokens, chosen), the experts of each token.
        experts: how many there are.

    Returns:
        float32 (experts, columns) and the rows of each, int64 (experts,).
    """
    ids, rows = ids[0, 0], rows[0]
    if ids.size and not 0 <= ids.min() <= ids.max() < experts:
        raise ImatrixError(f"the model chose expert {ids.min()} to {ids.max()}, expected 0 to {experts - 1}")
    sums = np.zeros((experts, rows.shape[-1]), np.float32)
    for expert in np.unique(ids):
        token, place = np.nonzero(ids == expert)
        its = rows[token, place % rows.shape[1]]
        sums[expert] = np.einsum("ij,ij->j", its, its)
    return sums, np.bincount(ids.reshape(-1), minlength=experts)


def _as_many(counts: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.broadcast_to(counts, max(len(counts), len(others)))
