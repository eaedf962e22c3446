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
    def read_rows(self, start: int, stop: int, columns: slice | None = None) -> NDArray[np.float32]:
        """Read rows ``start`` to ``stop`` (exclusive), widened to float32.

        Args:
            start: first row.
            stop: one past the last row.
            columns: only these columns (step 1); all by default.

        Returns:
            A fresh C-contiguous float32 array of shape (stop - start, number of columns). Nothing beyond those rows is
            read, mapped or kept. Safe to call from several threads at once.

        Raises:
            CheckpointError: the file ended early or cannot be read.
        """
