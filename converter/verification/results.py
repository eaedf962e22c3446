"""What the source computed, on the disk: the tokens it read, and a row of numbers for each of them.

Whatever runs the source writes these two files; whatever compares an output with it reads them a window at a time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IDS, RESULTS = "ids.npy", "results.npy"


def create(folder: Path, windows: NDArray[np.int64], row_length: int) -> NDArray[np.float32]:
    """Write the tokens and make room for the results.

    Args:
        folder: an existing directory.
        windows: int64 (windows, window), the tokens.
        row_length: of a row of logits or an embedding.

    Returns:
        float32 (windows, window, row_length), mapped into memory, to be filled.
    """
    np.save(folder / IDS, windows)
    return np.lib.format.open_memmap(folder / RESULTS, mode="w+", dtype=np.float32, shape=(*windows.shape, row_length))


def load(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Tokens and results, the latter mapped into memory; shapes as in :func:`create`."""
    return np.load(folder / IDS), np.load(folder / RESULTS, mmap_mode="r")
