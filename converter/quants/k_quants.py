"""K-quants: super-blocks of 256 elements, whose sub-blocks' scales are searched for and then quantized themselves.

Layouts and arithmetic: ``quantize_row_*_K_ref`` of ggml-quants.c, ``block_*_K`` of ggml-common.h.
"""

from __future__ import annotations

from converter.quants.kernel import Source, Target, block_kernel
from converter.quants.lanes import Lanes, transposed
from converter.quants.scales import ALL_ZERO, Candidates, search_affine, search_symmetric
from converter.quants.simple import half, widened


def sub_blocks(x: Source, length: int) -> list[Lanes]:
    """16 sub-blocks across lanes: for each of their ``length`` elements a vector."""
    return [
        values
        for start in range(0, length, 16)
        for values in transposed([x.load(length * lane + start, 16) for lane in range(16)])
    ]


def _largest(scales: Lanes) -> Lanes:
    """The largest of the lanes, at least zero; a NaN is never the largest."""
    return (scales > 0.0).where(scales, 0.0).max()


def _quantize_affine(x: Source, out: Target, bits: int, candidates: Candidates) -> Lanes:
    """Two super-blocks of 8 sub-blocks of 32: quants; 6-bit scales and minima; a float16 scale of each.

    Bytes: float16 of the scales, float16 of the minima, 12 of scales and minima, 32 of fifth bits if there are any,
    128 of nibbles.
    """
    levels = 2**bits - 1
    elements = sub_blocks(x, 32)
    squares = elements[0].filled(0.0)
    for values in elements:
        squares = squares + values * values
    mean = (squares / 32.0).root()
    found = search_affine(x, elements, [mean + abs(values) for values in elements], levels, candidates)

    sizes = []
    for block, (scales, minima) in enumerate(zip(found.scale.halves(), found.minimum.halves(), strict=True)):
        at = block * (16 + 32 * bits)
        quantized = []
        for offset, numbers in ((0, scales), (2, minima)):
            largest = _largest(numbers)
            inverse = (largest > 0.0).where(63.0 / largest, 0.0)
            integers = ((numbers * inverse).nearest_integer() & 255).at_most(63)
            shared = half(largest / 63.0)
            out.store(at + offset, shared)
            quantized.append(integers)
            sizes.append(integers.floats() * widened(shared))
        _store_scales(out, at + 4, *quantized)
    step, shift = (first.joined(second) for first, second in zip(sizes[:2], sizes[2:], strict=True))

    quants = []
    for values in elements:
        final = ((values + shift) / step).nearest_integer().at_least(0).at_most(levels)
        quants.append(step.equals(0.0).where(found.quants(values, levels), final).bytes())
    first, second = transposed(quants[:16]), transposed(quants[16:])
    rows = [start.joined(rest) for start, rest in zip(first, second, strict=True)]
    for block in range(2):
        at = block * (16 + 32 * bits) + 16
        mine = rows[8 * block : 8 * block + 8]
        if bits == 5:
            fifth = mine[0].filled(0)
            for sub_block, row in enumerate(mine):
                fifth = fifth | ((row >> 4) << sub_block)
            out.store(at, fifth)
            at += 32
        for pair in range(4):
            out.store(at + 32 * pair, (mine[2 * pair] & 15) | (mine[2 * pair + 1] << 4))
    return found.unfit


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


@block_kernel(256, 210)
def quantize_q6_k(x: Source, out: Target) -> None:
    """16 sub-blocks of 16: 6-bit quants; 8-bit scales; one float16 scale of the scales.

    Bytes: 128 of low nibbles, 64 of upper pairs of bits, 16 scales, the float16.
    """
    elements = sub_blocks(x, 16)
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
