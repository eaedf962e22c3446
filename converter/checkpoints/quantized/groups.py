"""Groups of columns that share a scale and a zero point."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.safetensors import SafetensorsTensor
from converter.errors import CheckpointError


def scale_groups(
    weights: NDArray[np.float32],
    scales: NDArray[np.float32],
    zeros: NDArray[np.float32] | None,
    group: int | NDArray[np.int64],
) -> None:
    """``weights = (weights - zero) * scale``, in place, with zero and scale of each weight's group.

    Args:
        weights: (rows, columns).
        scales: (rows or 1, groups).
        zeros: as ``scales``; None where there is nothing to subtract.
        group: columns per group, the first group starting with the first column; or the group of each column.
    """
    rows, columns = weights.shape
    if isinstance(group, int) and (columns % group == 0 or scales.shape[1] == 1):
        grouped = weights.reshape(rows, scales.shape[1], -1)
        if zeros is not None:
            np.subtract(grouped, zeros[:, :, None], out=grouped)
        np.multiply(grouped, scales[:, :, None], out=grouped)
        return
    of_column = np.arange(columns) // group if isinstance(group, int) else group
    if zeros is not None:
        np.subtract(weights, np.take(zeros, of_column, axis=1), out=weights)
    np.multiply(weights, np.take(scales, of_column, axis=1), out=weights)


def group_of_columns(stored: SafetensorsTensor | None, columns: int, size: int) -> NDArray[np.int64] | None:
    """The group of each column, as ``g_idx`` tells it; None where each group is a run of ``size`` columns.

    Raises:
        CheckpointError: a group that does not exist.
    """
    if stored is None:
        return None
    groups: NDArray[np.int64] = stored.read_stored(0, 1).view(np.int32)[0].astype(np.int64)
    if np.array_equal(groups, np.arange(columns) // size):
        return None
    count = math.ceil(columns / size)
    if groups.min() < 0 or groups.max() >= count:
        wrong = groups.min() if groups.min() < 0 else groups.max()
        raise CheckpointError(
            f"{stored.file.path}: tensor {stored.name} names group {wrong}, expected 0 to {count - 1}; "
            "download the file again"
        )
    return groups
