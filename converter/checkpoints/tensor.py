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

    def span(
        self, start: int, stop: int, columns: slice | None, out: NDArray[np.float32] | None
    ) -> tuple[int, NDArray[np.float32]]:
        """What the arguments of :meth:`read_rows` ask for: the first column, and the array to fill.

        Raises as :meth:`read_rows`.
        """
        first, last = (columns.start or 0, columns.stop) if columns else (0, None)
        last = self.row_length if last is None else last
        if columns and columns.step not in (None, 1):
            raise ValueError(f"{self.name}: columns {columns} have a step")
        if not (0 <= start <= stop <= self.rows and 0 <= first <= last <= self.row_length):
            raise IndexError(f"{self.name}: rows {start}:{stop}, columns {columns} of {self.rows} × {self.row_length}")
        shape = (stop - start, last - first)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ValueError(f"{self.name}: out is {out.dtype} {out.shape}, expected float32 {shape}")
        return first, out

    def read_blocks(self, type_name: str, start: int, stop: int) -> NDArray[np.uint8] | None:
        """Rows as blocks of a GGUF type, where the checkpoint holds just that; they can be copied as they are.

        Args:
            type_name: a name of ``converter.quants.QUANT_TYPES``.
            start: first row.
            stop: one past the last row.

        Returns:
            uint8 (stop - start, row_bytes), or None where the rows are stored otherwise.
        """
        return None

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
