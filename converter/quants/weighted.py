"""The formats of :mod:`converter.quants.simple` when columns have importance: scales are searched for.

Sixteen blocks of 32 lie across lanes. Arithmetic: ``quantize_row_q*_impl`` of ggml-quants.c.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converter.quants.kernel import Source, Target, block_kernel
from converter.quants.lanes import Lanes, Variable, mapped, side_by_side, transposed
from converter.quants.scales import WITH_IMPORTANCE, search_affine, search_symmetric
from converter.quants.simple import half
from converter.quants.super_blocks import packed, rows_of_bytes, sub_blocks


@block_kernel(None, 16 * 4)
def _sums_of_squares(x: Source, out: Target) -> None:
    """Of sixteen rows, each added up from its first element to its last."""
    sums = Variable(x.load(0, 16).filled(0.0))
    with x.repeat(x.row_length >> 4) as sixteen:
        for values in transposed([x.load(x.row_length * row + (sixteen << 4), 16) for row in range(16)]):
            sums.set(sums.get() + values * values)
    out.store(0, sums.get())


def mean_squares(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the squares of each row."""
    sums = np.empty(len(rows), np.float32)
    _sums_of_squares(rows, sums.view(np.uint8))
    return sums / np.float32(rows.shape[1])


def _weights(x: Source, elements: list[Lanes]) -> list[Lanes]:
    mean = side_by_side([x.row_sum(32 * block) for block in range(16)])
    columns = sub_blocks(x.importance, 32)
    return [importance * (mean + values * values).root() for importance, values in zip(columns, elements, strict=True)]


def _quantize(x: Source, out: Target, bits: int, with_minimum: bool) -> Lanes:
    """Bytes of a block: float16 scale, float16 minimum if any, 4 of fifth bits if any, 16 of nibbles."""
    elements = sub_blocks(x.load, 32)
    weights = _weights(x, elements)
    if with_minimum:
        levels = 2**bits - 1
        affine = search_affine(x, elements, weights, levels, WITH_IMPORTANCE)
        numbers, unfit = [affine.scale, affine.minimum.negated()], affine.unfit
        quants = mapped(lambda values: affine.quants(values, levels), elements)
    else:
        levels = 2 ** (bits - 1)
        symmetric = search_symmetric(x, elements, weights, levels)
        numbers, unfit = [symmetric.scale], symmetric.scale.is_number().inverted()
        quants = mapped(lambda values: symmetric.quants(values, levels), elements)
    rows, size = rows_of_bytes(quants), 4 * bits + 2 * len(numbers)
    for place, number in enumerate(numbers):
        unfit = unfit | number.is_number().inverted()
        stored = half(number)
        for block in range(16):
            out.store(size * block + 2 * place, stored.lane(block))
    for block, row in enumerate(rows):
        at = size * block + 2 * len(numbers)
        if bits == 5:
            out.store(at, (row > 15).packed())
        out.store(size * (block + 1) - 16, packed([part & 15 for part in row.halves()], 4))
    return unfit


@block_kernel(512, 288, mean_squares)
def quantize_q4_0_weighted(x: Source, out: Target) -> Lanes:
    return _quantize(x, out, 4, with_minimum=False)


@block_kernel(512, 320, mean_squares)
def quantize_q4_1_weighted(x: Source, out: Target) -> Lanes:
    return _quantize(x, out, 4, with_minimum=True)


@block_kernel(512, 352, mean_squares)
def quantize_q5_0_weighted(x: Source, out: Target) -> Lanes:
    return _quantize(x, out, 5, with_minimum=False)


@block_kernel(512, 384, mean_squares)
def quantize_q5_1_weighted(x: Source, out: Target) -> Lanes:
    return _quantize(x, out, 5, with_minimum=True)
