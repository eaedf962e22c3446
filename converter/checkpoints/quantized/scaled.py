"""Weights of 8 bits with a scale for each block of a grid: FP8 as DeepSeek and Qwen store it, int8.

    weight[r, c] = (code[r, c] - zero_point[r // m, c // n]) * scale[r // m, c // n]      blocks of m × n

A block may be the whole matrix, a row, a run of a row or a square of 128 × 128; the last one may be cut short.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.floats import STORED_FLOAT8, STORED_FLOATS, widen_exponents
from converter.checkpoints.quantized.dequantized import DequantizedTensor
from converter.checkpoints.quantized.groups import scale_groups
from converter.checkpoints.quantized.parts import FLOATS, Parts
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.sources.source_file import quoted

EXPONENTS = ("F8_E8M0", "U8")
"""Types of scales that are powers of two."""
CODES = (*STORED_FLOAT8, "I8")


@dataclass(frozen=True)
class ScaledTensor(DequantizedTensor):
    """Codes of 8 bits with a grid of scales.

    Attributes:
        scale: as many dimensions as the codes; leading ones either all theirs or all 1.
        zero_point: of the scale's shape, type I8; None for symmetric codes.
        block: rows and columns under one scale.
    """

    scale: SafetensorsTensor
    zero_point: SafetensorsTensor | None
    block: tuple[int, int]

    @property
    def column_unit(self) -> int:
        return self.block[1] if self.scale.shape[-1] > 1 else 1

    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        codes = self.codes.read_stored(row, row + len(out), slice(column, column + out.shape[1]))
        if self.dtype == "I8":
            np.copyto(out, codes.view(np.int8))
        else:
            STORED_FLOAT8[self.dtype].widen(codes, out)
        matrix, inner = np.divmod(np.arange(row, row + len(out)), self.shape[-2])
        per_matrix = self.scale.shape[-2] if math.prod(self.scale.shape[:-2]) > 1 else 0
        grid_row = matrix * per_matrix + inner // self.block[0]
        low, high = int(grid_row[0]), int(grid_row[-1]) + 1
        across = slice(column // self.block[1], math.ceil((column + out.shape[1]) / self.block[1]))
        scales = read_scales(self.scale, low, high, across)[grid_row - low]
        zeros = None
        if self.zero_point is not None:
            stored = self.zero_point.read_stored(low, high, across).view(np.int8)
            zeros = stored[grid_row - low].astype(np.float32)
        scale_groups(out, scales, zeros, self.block[1])


def read_scales(tensor: SafetensorsTensor, start: int, stop: int, columns: slice) -> NDArray[np.float32]:
    """Rows of scales, of any type that scales have."""
    if tensor.dtype in STORED_FLOATS:
        return tensor.read_rows(start, stop, columns)
    return widen_exponents(tensor.read_stored(start, stop, columns))


def take_scaled(
    parts: Parts,
    name: str,
    scale_name: str,
    zero_name: str | None,
    sizes: tuple[int, int] | None,
    *,
    scales_transposed: bool = False,
) -> ScaledTensor:
    """Take codes and scales by their names; the grid follows from their shapes.

    Args:
        parts: where to take from.
        name: the codes' name, which the weights keep.
        scale_name: the scales' name.
        zero_name: the zero points' name, for asymmetric codes.
        sizes: rows and columns of a block, where scales are for blocks.
        scales_transposed: each matrix's one column of scales is for its columns.

    Raises:
        CheckpointError: a part is missing, or the scales' shape is no grid over the codes.
    """
    codes = parts.take(name, scale_name, CODES)
    scale = parts.take(scale_name, name, (*FLOATS, *EXPONENTS) if sizes else FLOATS)
    if scales_transposed and scale.shape[-1:] == (1,):
        scale = dataclasses.replace(scale, shape=(*scale.shape[:-2], 1, scale.shape[-2]))
    block = _block(codes.shape, padded := _padded(codes.shape, scale.shape), sizes)
    if block is None:
        of_blocks = f" and blocks of {sizes[0]} × {sizes[1]}" if sizes else ""
        raise parts.refused(
            scale_name, f"has shape {quoted(scale.shape)}, which does not divide {name} of {codes.shape}{of_blocks}"
        )
    zero_point = None
    if zero_name is not None:
        zero_point = parts.take(zero_name, name, ("I8",), *scale.shape)
        zero_point = dataclasses.replace(zero_point, shape=padded)
    return ScaledTensor(
        name, codes.dtype, codes.shape, codes, dataclasses.replace(scale, shape=padded), zero_point, block
    )


def _padded(shape: tuple[int, ...], scale: tuple[int, ...]) -> tuple[int, ...]:
    """The scales' shape with a dimension for each of the weights': (rows,) scales rows, () everything."""
    return (*scale, *[1] * (len(shape) - len(scale)))


def _block(shape: tuple[int, ...], scale: tuple[int, ...], sizes: tuple[int, int] | None) -> tuple[int, int] | None:
    """Rows and columns under one scale; None where the shapes do not fit."""
    if len(shape) < 2 or len(scale) != len(shape) or 0 in shape:
        return None
    if scale[:-2] != shape[:-2] and math.prod(scale[:-2]) != 1:
        return None
    block = []
    for axis in (0, 1):
        length, count = shape[axis - 2], scale[axis - 2]
        if count == 1:
            block.append(length)
        elif sizes and count == math.ceil(length / sizes[axis]):
            block.append(sizes[axis])
        elif count == length:
            block.append(1)
        else:
            return None
    return block[0], block[1]
