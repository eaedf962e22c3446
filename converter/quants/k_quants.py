"""K-quants: super-blocks of 256 elements, whose sub-blocks' scales are searched for and then quantized themselves.

Sub-blocks lie across lanes, so that each lane adds up its own sub-block from the first element to the last: the order
in which ggml's C adds, hence the same roundings and the same choices. Layouts and arithmetic: ``quantize_row_*_K_ref``
and ``make_*_quants`` of ggml-quants.c, ``block_*_K`` of ggml-common.h.
"""

from __future__ import annotations

from converter.quants.lanes import Lanes, Source, Target, Variable, block_kernel
from converter.quants.simple import half, widened

_ALL_ZERO = 1e-15  # GROUP_MAX_EPS: magnitudes below count as zero
_TO_INTEGER = 12582912.0  # 1.5 * 2**23: adding it leaves no bits for a fraction


def transposed(vectors: list[Lanes]) -> list[Lanes]:
    """n vectors of n lanes, n a power of two: lane i of vector j becomes lane j of vector i."""
    count = len(vectors)
    low = [lane + half * count for lane in range(count // 2) for half in (0, 1)]
    high = [lane + count // 2 for lane in low]
    for _ in range(count.bit_length() - 1):
        pairs = list(zip(vectors[: count // 2], vectors[count // 2 :], strict=True))
        vectors = [first.pick(half, second) for first, second in pairs for half in (low, high)]
    return vectors


def rounded(values: Lanes) -> Lanes:
    """Nearest whole number, ties to even, still float32; for magnitudes below 2**22."""
    return (values + _TO_INTEGER) - _TO_INTEGER


def nearest_integer(values: Lanes) -> Lanes:
    """float32 to int32 as ggml's ``nearest_int``: its low 23 bits for what is too large, zero for NaN."""
    integers = ((values + _TO_INTEGER).bits() & 0x7FFFFF) - 0x400000
    return values.is_number().where(integers, 0)


def _search_scales(x: Source, elements: list[Lanes], levels: int) -> tuple[Lanes, Lanes, Lanes]:
    """The scale of each lane that loses least, errors weighted by the elements' squares.

    Candidates put the element of largest magnitude, the first of several, at ``-levels`` and up to 0.9 beside it.

    Args:
        x: where to put the loop over candidates.
        elements: float32 per element of a sub-block, one sub-block per lane.
        levels: quants go from ``-levels`` to ``levels - 1``.

    Returns:
        Per lane: scale; the factor from elements to quants that it was found with; mask of lanes that are all zero,
        where both are zero.
    """
    zero = elements[0].filled(0.0)
    peak = largest = zero
    for values in elements:
        magnitude = abs(values)
        larger = magnitude > peak
        peak, largest = larger.where(magnitude, peak), larger.where(values, largest)
    empty = peak < _ALL_ZERO
    largest = empty.where(1.0, largest)
    squares = [values * values for values in elements]
    cubes = [square * values for square, values in zip(squares, elements, strict=True)]

    scale, best, best_factor = Variable(zero), Variable(zero), Variable(zero)
    with x.repeat(19) as index:
        step = index - (index > 9).where(9, 10)  # 0 first, then -9 to -1, then 1 to 9
        step = index.equals(0).where(0, step)
        factor = (step.floats() * 0.1 + float(levels)) * -1.0 / largest
        products = quants_squared = zero
        for values, square, cube in zip(elements, squares, cubes, strict=True):
            quants = rounded(factor * values).at_most(levels - 1.0).at_least(-float(levels))
            products = products + cube * quants
            quants_squared = quants_squared + square * quants * quants
        better = (quants_squared > 0.0) & (products * products > best.get() * quants_squared)
        better = better | index.equals(0)
        candidate = quants_squared.equals(0.0).where(0.0, products / quants_squared)
        scale.set(better.where(candidate, scale.get()))
        best.set(better.where(candidate * products, best.get()))
        best_factor.set(better.where(factor, best_factor.get()))
    return empty.where(0.0, scale.get()), empty.where(0.0, best_factor.get()), empty


@block_kernel(256, 210)
def quantize_q6_k(x: Source, out: Target) -> None:
    """16 sub-blocks of 16: 6-bit quants; 8-bit scales; one float16 scale of the scales.

    Bytes: 128 of low nibbles, 64 of upper pairs of bits, 16 scales, the float16.
    """
    elements = transposed([x.load(16 * sub_block, 16) for sub_block in range(16)])
    scale, factor, empty = _search_scales(x, elements, 32)

    magnitude = abs(scale)
    magnitude = (magnitude > 0.0).where(magnitude, 0.0)  # a NaN is never the largest
    peak = magnitude.max()
    largest = scale.lane(magnitude.equals(peak).first())
    all_zero = peak < _ALL_ZERO
    inverse = -128.0 / largest
    shared = all_zero.where(0, half(1.0 / inverse))
    scales = all_zero.where(0, nearest_integer(scale * inverse).at_most(127))
    out.store(208, shared)
    out.store(192, scales.bytes())

    step = scales.floats() * widened(shared)
    quants = []
    for values in elements:
        searched = empty.where(0, rounded(values * factor).at_most(31.0).at_least(-32.0).truncated() + 32)
        final = nearest_integer(values / step).at_most(31).at_least(-32) + 32
        quants.append(all_zero.where(0, step.equals(0.0).where(searched, final)).bytes())

    rows = transposed(quants)
    for part in range(2):
        # Elements 0, 32, 64 and 96 of a half share bytes; a row has 16 elements.
        for row in range(2):
            first, second, third, fourth = rows[8 * part + row : 8 * part + 8 : 2]
            at = 16 * row
            out.store(64 * part + at, (first & 15) | (third << 4))
            out.store(64 * part + 32 + at, (second & 15) | (fourth << 4))
            out.store(128 + 32 * part + at, (first >> 4) | (second >> 4 << 2) | (third >> 4 << 4) | (fourth >> 4 << 6))
