"""What a checkpoint offers: named tensors whose rows can be read one run at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SourceTensor(ABC):
    """One tensor of a checkpoint, seen as a matrix of ``rows`` rows of ``row_length`` elements.

    Leading dimensions are flattened into rows; a vector is one row, a scalar is one row of one element.

    Attributes:
        name: the name in the checkpoint.
        dtype: storage type as safetensors spells it (``F32``, ``F16``, ``BF16``, …).
        shape: dimensions in the checkpoint's (row-major) order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def row_length(self) -> int:
        return self.shape[-1] if self.shape else 1

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes the tensor occupies in the checkpoint."""

    @abstractmethod
    def read_rows(
        self, start: int, stop: int, columns: slice | None = None, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Read rows ``start`` to ``stop`` (exclusive), widened to float32.

        Args:
            start: first row.
            stop: one past the last row.
            columns: only these columns (step 1); all by default.
            out: a C-contiguous float32 array of shape (stop - start, number of columns) to fill; a fresh one by
                default. Filling the same array again spares the page faults of a fresh one.

        Returns:
            ``out``. Nothing beyond those rows is read, mapped or kept, and no more memory is taken than a fixed
            MiB per thread. Safe to call from several threads at once.

        Raises:
            CheckpointError: the type of the elements is not one that can be read (nothing was read), or the file
                ended early, changed or cannot be read.
            IndexError: the rows or columns are not within the tensor.
            ValueError: ``columns`` has a step, or ``out`` does not fit.
        """
