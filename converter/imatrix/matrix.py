"""The importance matrix itself: sums of squared activations of each column, and how many rows went into them.

A weight matrix multiplies rows of activations. The mean of a column's squared activations says how much an error in
that column of the weights costs, so a quantizer weighs its errors with it. The definition is that of llama.cpp
(``tools/imatrix``); files of both its formats stand for the same values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.errors import ConversionError

#: Tokens of a chunk where nothing says otherwise, in llama.cpp as here.
CHUNK_SIZE = 512

LONGEST_NAME = 1024
"""Characters of a tensor's name at most; ggml itself allows 63."""


class ImatrixError(ConversionError):
    """An importance matrix that cannot be read or made, or that has not what is asked of it."""


@dataclass(frozen=True)
class Entry:
    """What was measured for one tensor.

    Attributes:
        sums: float32 (counts, columns), sums of squared activations. A tensor of experts has a row for each expert.
            Other stacks of matrices, and experts from a ``.dat`` file, are counted together: one row, with the
            columns of one matrix after the other.
        counts: int64 (counts,), rows of activations in each sum.
    """

    sums: NDArray[np.float32]
    counts: NDArray[np.int64]

    @property
    def has_data(self) -> bool:
        return bool(self.counts.any())

    @property
    def importance(self) -> NDArray[np.float32]:
        """float32 (counts, columns), the mean squares; one where an expert was never chosen, as in llama-quantize."""
        divisors = np.maximum(self.counts, 1).astype(np.float32)[:, None]
        return np.where(self.counts[:, None] > 0, self.sums / divisors, np.float32(1))


@dataclass(frozen=True)
class ImportanceMatrix:
    """Entries by the names of the model's tensors.

    Attributes:
        entries: by tensor name.
        chunk_size: tokens of a chunk.
        chunk_count: chunks that were run.
        datasets: names of the texts.
        origin: the file it was read from, for messages.
    """

    entries: Mapping[str, Entry]
    chunk_size: int
    chunk_count: int
    datasets: tuple[str, ...] = ()
    origin: str = "the importance matrix"

    def __contains__(self, tensor_name: str) -> bool:
        """Whether there is data for a tensor."""
        return tensor_name in self.entries and self.entries[tensor_name].has_data

    def importance_of(self, tensor_name: str, shape: Sequence[int] | None = None) -> NDArray[np.float32]:
        """The weights that llama-quantize would hand to the quantizer, bit for bit.

        Args:
            tensor_name: in the GGUF file, e.g. ``blk.0.attn_q.weight``.
            shape: the tensor's shape, row-major, rows last but one; it tells where one matrix of a stack ends.

        Returns:
            float32 (matrices, row_length): for each matrix of a stack, each expert, the importance of its columns;
            (1, row_length) for a plain matrix. Without ``shape``, as far as the counts tell the matrices apart.

        Raises:
            ImatrixError: there is no data for this tensor, or as many values as the shape needs.
        """
        if tensor_name not in self:
            raise ImatrixError(
                f"{self.origin}: has no data for {tensor_name}; collect with more text, or choose a type for this "
                "tensor that needs no importance"
            )
        importance = self.entries[tensor_name].importance
        if shape is None:
            return importance
        expected = math.prod(shape[:-2]), shape[-1]
        if importance.size != math.prod(expected):
            raise ImatrixError(
                f"{self.origin}: has {importance.size} values for {tensor_name}, expected {expected[0]} × "
                f"{expected[1]}; it was made for another model"
            )
        return importance.reshape(expected)


def combine(matrices: Sequence[ImportanceMatrix]) -> ImportanceMatrix:
    """Add matrices of one model up, as if all their texts had been run at once.

    Args:
        matrices: at least one; the first's chunk size is kept.

    Raises:
        ImatrixError: a tensor has another number of values in one than in another.
    """
    first = matrices[0]
    entries: dict[str, Entry] = {}
    for matrix in matrices:
        for name, entry in matrix.entries.items():
            before = entries.get(name)
            if before is not None and before.sums.size != entry.sums.size:
                raise ImatrixError(
                    f"{matrix.origin}: has {entry.sums.size} values for {name}, expected {before.sums.size} as in "
                    f"{first.origin}; combine matrices of one model only"
                )
            entries[name] = entry if before is None else add(before, entry)
    most = max((int(entry.counts.max()) for entry in entries.values()), default=0)
    return ImportanceMatrix(
        entries,
        first.chunk_size,
        most // first.chunk_size,
        tuple(dataset for matrix in matrices for dataset in matrix.datasets),
        " + ".join(matrix.origin for matrix in matrices),
    )


def add(first: Entry, second: Entry) -> Entry:
    """The sum of two entries with as many values; a common count stands for that of every expert."""
    matrices = max(len(first.counts), len(second.counts))
    return Entry(
        first.sums.reshape(matrices, -1) + second.sums.reshape(matrices, -1),
        np.broadcast_to(first.counts, matrices) + second.counts,
    )


def check_name(name: str, origin: str) -> None:
    """Refuse a tensor's name that no message and no table could show on a line."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ImatrixError(f"{origin}: a tensor is named {name[:40]!r}, expected printable text; make the file again")


def checked(sums: NDArray[np.float32], counts: NDArray[np.int64], name: str, origin: str) -> Entry:
    """An entry of values that a stranger's file or a model's activations gave.

    Raises:
        ImatrixError: sizes that do not match, or values that no sum of squares can have.
    """
    if not counts.size or sums.size % counts.size:
        raise ImatrixError(f"{origin}: {name} has {sums.size} values and {counts.size} counts, expected a multiple")
    if not np.isfinite(sums).all():
        wrong = np.count_nonzero(~np.isfinite(sums))
        raise ImatrixError(f"{origin}: {wrong} of {sums.size} values of {name} are not finite; make it again")
    if (sums < 0).any() or (counts < 0).any():
        raise ImatrixError(f"{origin}: {name} holds negative values, expected sums of squares; make it again")
    return Entry(sums.reshape(counts.size, -1), counts)
