"""Parts that formats with super-blocks share: sub-blocks across lanes, weights of errors, scales of scales.

A super-block has 256 elements, in sub-blocks of 16 or 32 with a scale each; the scales are integers that share a
float16. Arithmetic: ``quantize_row_*_K_ref`` and ``quantize_row_*_K_impl`` of ggml-quants.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

from converter.quants.kernel import Source
from converter.quants.lanes import Lanes, Variable, column, transposed
from converter.quants.scales import Affine, search_positive
from converter.quants.simple import half, widened

SUPER_BLOCK = 256


def joined(vectors: Sequence[Lanes]) -> Lanes:
    """The lanes of one, two or four vectors side by side."""
    while len(vectors) > 1:
        vectors = [first.joined(second) for first, second in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def total(vectors: Sequence[Lanes]) -> Lanes:
    """Sum in each lane, from the first vector to the last."""
    return reduce(Lanes.__add__, vectors)


def union(vectors: Sequence[Lanes]) -> Lanes:
    """All bits of all vectors."""
    return reduce(Lanes.__or__, vectors)


def sub_blocks(load: Callable[[int, int], Lanes], length: int, lanes: int = 16) -> list[Lanes]:
    """16 or 32 sub-blocks across lanes: for each of their ``length`` elements a vector."""
    groups = [
        [
            values
            for start in range(0, length, 16)
            for values in transposed([load(length * lane + start, 16) for lane in range(first, first + 16)])
        ]
        for first in range(0, lanes, 16)
    ]
    return [joined(vectors) for vectors in zip(*groups, strict=True)]


def rows_of_bytes(quants: Sequence[Lanes]) -> list[Lanes]:
    """Back from integers, a vector for each element, to bytes, a vector for each sub-block."""
    rows = []
    for lane in range(0, len(quants[0]), 16):
        group = [values.pick(range(lane, lane + 16)).bytes() for values in quants]
        parts = [transposed(group[start : start + 16]) for start in range(0, len(group), 16)]
        rows += [joined(vectors) for vectors in zip(*parts, strict=True)]
    return rows


def packed(rows: Sequence[Lanes], bits: int) -> Lanes:
    """Rows of quants on top of each other in one row of bytes, the first in the lowest bits."""
    return union([row << (bits * place) for place, row in enumerate(rows)])


def importance_weights(x: Source, elements: list[Lanes], mean: Callable[[Lanes], Lanes]) -> list[Lanes]:
    """The weights of elements: their columns' importance, larger for large elements.

    Args:
        x: one or two super-blocks.
        elements: their sub-blocks across lanes.
        mean: from the sum of a super-block's squares to what is added to each element's own square.
    """
    length, lanes = len(elements), len(elements[0])
    blocks, each = length * lanes // SUPER_BLOCK, SUPER_BLOCK // length
    sums = [Variable(x.load(0, 1).filled(0.0)) for _ in range(blocks)]
    with x.repeat(SUPER_BLOCK // 8) as eight:  # from the first element of a super-block to the last
        for element in range(8):
            for block, sum_of_block in enumerate(sums):
                value = x.load((eight << 3) + (SUPER_BLOCK * block + element), 1)
                sum_of_block.set(sum_of_block.get() + value * value)
    means = joined([mean(sum_of_block.get()).spread(each) for sum_of_block in sums])
    columns = sub_blocks(x.importance, length, lanes)
    roots = [(means + values * values).root() for values in elements]
    return [importance * root for importance, root in zip(columns, roots, strict=True)]


class Shared(NamedTuple):
    """The scales of a super-block: int32, one per lane, times the float16 ``bits``."""

    bits: Lanes
    integers: Lanes

    def sizes(self) -> Lanes:
        """The scales as they will be read, float32."""
        return self.integers.floats() * widened(self.bits)


def spread(numbers: Lanes, levels: int) -> Shared:
    """The scales of a super-block, the largest at ``levels``; those below zero count down from 256."""
    largest = (numbers > 0.0).where(numbers, 0.0).max()  # a NaN is never the largest
    inverse = (largest > 0.0).where(float(levels) / largest, 0.0)
    return Shared(half(largest / float(levels)), (numbers * inverse).nearest_integer() & 255)


def spread_signed(numbers: Lanes, levels: int) -> Shared:
    """The scales of a super-block, the largest in magnitude, the first of several, at ``-levels``.

    Zeros only give integers of ``-levels`` and a float16 of zero.
    """
    magnitude = abs(numbers)
    magnitude = (magnitude > 0.0).where(magnitude, 0.0)  # a NaN is never the largest
    peak = magnitude.max()
    inverse = -float(levels) / numbers.lane(magnitude.equals(peak).first())
    integers = (((numbers * inverse).nearest_integer().at_most(127) + 128) & 255) - 128
    integers = integers.at_most(levels - 1).at_least(-levels)
    nothing = peak.equals(0.0)
    return Shared(nothing.where(0, half(1.0 / inverse)), nothing.where(-levels, integers))


def searched(x: Source, found: Affine, weights: list[Lanes], levels: int) -> tuple[list[Shared], Lanes]:
    """Scales and minima of each super-block in turn, those that lose least; and a mask of what did not fit."""
    sums, lanes, count = total(weights), len(weights[0]), SUPER_BLOCK // len(weights)
    pairs = [
        found.scale.pick([at + j for block in range(0, lanes, count) for at in (block, lanes + block)], found.minimum)
        for j in range(count)
    ]
    losses = [sums.pick([block + j for block in range(0, lanes, count) for _ in (0, 1)]) for j in range(count)]
    scale, quants = search_positive(x, pairs, losses, levels)
    bits, misfit = half(scale), scale.is_number().inverted()
    for quant in quants:
        misfit = misfit | (quant > levels)
    return [Shared(bits.lane(lane), column(quants, lane)) for lane in range(len(scale))], misfit
