"""K-quants: super-blocks of 256 elements, whose sub-blocks' scales are searched for and then quantized themselves.

Layouts and arithmetic: ``quantize_row_*_K_ref`` of ggml-quants.c, ``block_*_K`` of ggml-common.h.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

from converter.quants.kernel import Source, Target, block_kernel
from converter.quants.lanes import Lanes, Variable, column, transposed
from converter.quants.scales import ALL_ZERO, Affine, Candidates, search_affine, search_positive, search_symmetric
from converter.quants.simple import half, widened

WITH_IMPORTANCE = Candidates(-0.9, 0.05, 37)


def sub_blocks(load: Callable[[int, int], Lanes], length: int) -> list[Lanes]:
    """16 sub-blocks across lanes: for each of their ``length`` elements a vector."""
    return [
        values
        for start in range(0, length, 16)
        for values in transposed([load(length * lane + start, 16) for lane in range(16)])
    ]


def total(vectors: list[Lanes]) -> Lanes:
    """Sum in each lane, from the first vector to the last."""
    return reduce(Lanes.__add__, vectors)


def mean_squares(x: Source, blocks: int, factor: float) -> list[Lanes]:
    """``factor`` times the mean of the squares of each super-block, added up from its first element to its last."""
    sums = [Variable(x.load(0, 1).filled(0.0)) for _ in range(blocks)]
    with x.repeat(16) as sixteen:
        for element in range(16):
            for block, sum_of_block in enumerate(sums):
                value = x.load((sixteen << 4) + 256 * block + element, 1)
                sum_of_block.set(sum_of_block.get() + value * value)
    return [sum_of_block.get() * factor / 256.0 for sum_of_block in sums]


def importance_weights(x: Source, elements: list[Lanes], mean: Lanes) -> list[Lanes]:
    """The weights of elements: their columns' importance, larger for large elements."""
    columns = sub_blocks(x.importance, len(elements))
    roots = [(mean + values * values).root() for values in elements]
    return [column * root for column, root in zip(columns, roots, strict=True)]


def _largest(scales: Lanes) -> Lanes:
    """The largest of the lanes, at least zero; a NaN is never the largest."""
    return (scales > 0.0).where(scales, 0.0).max()


class SharedScale(NamedTuple):
    """Numbers as integers times a float16."""

    scale: Lanes
    integers: Lanes


def _spread(numbers: Lanes, levels: int) -> SharedScale:
    """The largest number is at ``levels``."""
    largest = _largest(numbers)
    inverse = (largest > 0.0).where(float(levels) / largest, 0.0)
    integers = (numbers * inverse).nearest_integer() & 255
    return SharedScale(half(largest / float(levels)), integers.at_most(levels))


def _searched(x: Source, found: Affine, weights: list[Lanes], levels: int) -> tuple[list[SharedScale], Lanes]:
    """Scales and minima of each super-block in turn, with the least loss; and where that did not fit."""
    sums = total(weights)
    blocks, count = len(weights[0]) * len(weights) // 256, 256 // len(weights)
    numbers = [
        found.scale.pick([which + block * count + j for block in range(blocks) for which in (0, 16)], found.minimum)
        for j in range(count)
    ]
    sums_of = [sums.pick([block * count + j for block in range(blocks) for _ in (0, 1)]) for j in range(count)]
    scale, quants = search_positive(x, numbers, sums_of, levels)
    shared = half(scale)
    columns = [column(quants, lane) for lane in range(2 * blocks)]
    unfit = scale.is_number().inverted().joined(reduce(Lanes.__or__, quants) > levels)
    return [SharedScale(shared.lane(lane), integers) for lane, integers in enumerate(columns)], unfit


def _quantize_affine(x: Source, out: Target, bits: int, candidates: Candidates | None) -> Lanes:
    """Two super-blocks of 8 sub-blocks of 32: quants; 6-bit scales and minima; a float16 scale of each.

    Bytes: float16 of the scales, float16 of the minima, 12 of scales and minima, 32 of fifth bits if there are any,
    128 of nibbles. Without candidates, importance weighs the errors.
    """
    levels, size = 2**bits - 1, 16 + 32 * bits
    elements = sub_blocks(x.load, 32)
    if candidates:
        magnitude = (total([values * values for values in elements]) / 32.0).root()
        weights = [magnitude + abs(values) for values in elements]
        found = search_affine(x, elements, weights, levels, candidates)
        unfit = found.unfit
        halves = zip(found.scale.halves(), found.minimum.halves(), strict=True)
        shared = [_spread(numbers, 63) for pair in halves for numbers in pair]
    else:
        first, second = mean_squares(x, 2, 2.0)
        weights = importance_weights(x, elements, first.spread(8).joined(second.spread(8)))
        found = search_affine(x, elements, weights, levels, WITH_IMPORTANCE)
        shared, misfit = _searched(x, found, weights, 63)
        unfit = found.unfit | misfit.joined(misfit)
    sizes = [scale_of.integers.floats() * widened(scale_of.scale) for scale_of in shared]
    step, shift = sizes[0].joined(sizes[2]), sizes[1].joined(sizes[3])

    quants = []
    for values in elements:
        final = ((values + shift) / step).nearest_integer().at_least(0).at_most(levels)
        quants.append(step.equals(0.0).where(found.quants(values, levels), final).bytes())
    low, high = transposed(quants[:16]), transposed(quants[16:])
    rows = [start.joined(rest) for start, rest in zip(low, high, strict=True)]
    for block in range(2):
        at = block * size
        scales, minima = shared[2 * block : 2 * block + 2]
        out.store(at, scales.scale)
        out.store(at + 2, minima.scale)
        _store_scales(out, at + 4, scales.integers, minima.integers)
        mine = rows[8 * block : 8 * block + 8]
        if bits == 5:
            fifth = [(row >> 4) << sub_block for sub_block, row in enumerate(mine)]
            out.store(at + 16, reduce(Lanes.__or__, fifth))
        for pair in range(4):
            out.store(at + size - 128 + 32 * pair, (mine[2 * pair] & 15) | (mine[2 * pair + 1] << 4))
    return unfit


def _store_scales(out: Target, at: int, scales: Lanes, minima: Lanes) -> None:
    """8 scales and 8 minima of 6 bits: 4 and 4 in the low bits of 8 bytes, and of the others the low nibbles in 4 more
    bytes, the upper pairs of bits on top of the first 8."""
    (scales, late_scales), (minima, late_minima) = scales.halves(), minima.halves()
    out.store(at, (scales | (late_scales >> 4 << 6)).bytes())
    out.store(at + 4, (minima | (late_minima >> 4 << 6)).bytes())
    out.store(at + 8, ((late_scales & 15) | ((late_minima & 15) << 4)).bytes())


@block_kernel(512, 288)
def quantize_q4_k(x: Source, out: Target) -> Lanes:
    return _quantize_affine(x, out, 4, Candidates(-1.0, 0.1, 21))


@block_kernel(512, 352)
def quantize_q5_k(x: Source, out: Target) -> Lanes:
    return _quantize_affine(x, out, 5, Candidates(-0.5, 0.1, 16))


@block_kernel(512, 288)
def quantize_q4_k_weighted(x: Source, out: Target) -> Lanes:
    return _quantize_affine(x, out, 4, None)


@block_kernel(512, 352)
def quantize_q5_k_weighted(x: Source, out: Target) -> Lanes:
    return _quantize_affine(x, out, 5, None)


@block_kernel(256, 210)
def quantize_q6_k(x: Source, out: Target) -> None:
    """16 sub-blocks of 16: 6-bit quants; 8-bit scales; one float16 scale of the scales.

    Bytes: 128 of low nibbles, 64 of upper pairs of bits, 16 scales, the float16.
    """
    elements = sub_blocks(x.load, 16)
    found = search_symmetric(x, elements, [values * values for values in elements], 32)

    magnitude = abs(found.scale)
    magnitude = (magnitude > 0.0).where(magnitude, 0.0)  # a NaN is never the largest
    peak = magnitude.max()
    largest = found.scale.lane(magnitude.equals(peak).first())
    all_zero = peak < ALL_ZERO
    inverse = -128.0 / largest
    shared = all_zero.where(0, half(1.0 / inverse))
    scales = all_zero.where(0, (found.scale * inverse).nearest_integer().at_most(127))
    out.store(208, shared)
    out.store(192, scales.bytes())

    step = scales.floats() * widened(shared)
    quants = []
    for values in elements:
        final = (values / step).nearest_integer().at_most(31).at_least(-32) + 32
        quants.append(all_zero.where(0, step.equals(0.0).where(found.quants(values, 32), final)).bytes())

    rows = transposed(quants)
    for part in range(2):
        # Elements 0, 32, 64 and 96 of a half share bytes; a row has 16 elements.
        for row in range(2):
            first, second, third, fourth = rows[8 * part + row : 8 * part + 8 : 2]
            at = 16 * row
            out.store(64 * part + at, (first & 15) | (third << 4))
            out.store(64 * part + 32 + at, (second & 15) | (fourth << 4))
            out.store(128 + 32 * part + at, (first >> 4) | (second >> 4 << 2) | (third >> 4 << 4) | (fourth >> 4 << 6))
