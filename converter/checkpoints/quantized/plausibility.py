"""Scales that must have been meant to divide by: told by the magnitude of the weights that they make."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from converter.checkpoints.quantized.dequantized import DequantizedTensor
from converter.checkpoints.quantized.nvfp4 import Nvfp4Tensor
from converter.checkpoints.quantized.parts import Parts
from converter.checkpoints.quantized.scaled import ScaledTensor, read_scales
from converter.checkpoints.tensor import SourceTensor

_ROWS, _COLUMNS = 8, 4096
"""The corner of a matrix that is asked."""
_ABSURD, _USUAL = 1e3, 1e1
"""Magnitudes that no trained weights have, and such as they have."""


def refuse_inverse_scales(parts: Parts, tensors: Iterable[SourceTensor]) -> None:
    """Refuse scales whose weights are absurdly large, and would not be if the scales were used the other way round.

    Weights of a model are around 0.01 to 1. Of FP8 numbers, which reach 448, the scale is around 0.001, and a thousand
    where someone stored its inverse under the same name. One tensor of each kind is asked.

    Raises:
        CheckpointError: naming the scales.
    """
    asked: set[type[SourceTensor]] = set()
    for tensor in tensors:
        if type(tensor) in asked or not isinstance(tensor, DequantizedTensor) or not tensor.rows:
            continue
        asked.add(type(tensor))
        if (found := _scale(tensor)) is None:
            continue
        scale, name = found
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            corner = tensor.read_rows(0, min(tensor.rows, _ROWS), slice(0, min(tensor.row_length, _COLUMNS)))
            size = float(np.median(np.abs(corner)))
            inverse = float(size / np.float64(scale) ** 2)
        if size > _ABSURD and inverse < _USUAL:
            raise parts.refused(
                name,
                f"makes weights of about {size:.1e} of {tensor.name}, used the other way round of about {inverse:.1e}: "
                "it holds the inverse of what its name says; store 1 / scale under it",
            )


def _scale(tensor: DequantizedTensor) -> tuple[float, str] | None:
    """What weights are multiplied by, about, and the name of the tensor that says so; None where none is asked."""
    if isinstance(tensor, Nvfp4Tensor) and tensor.global_scale is not None:
        with np.errstate(divide="ignore"):
            return float(1 / tensor.global_scale.read_rows(0, 1)[0, 0]), tensor.global_scale.name
    if isinstance(tensor, ScaledTensor):
        return float(np.median(np.abs(read_scales(tensor.scale, 0, 1, slice(None))))), tensor.scale.name
    return None
