"""K-quants: super-blocks of 256 elements, whose sub-blocks' scales are searched for and then quantized themselves.

Layouts and arithmetic: ``quantize_row_*_K_ref`` and, with importance, ``quantize_row_*_K_impl`` of ggml-quants.c;
``block_*_K`` of ggml-common.h.
"""

from __future__ import annotations

from converter.quants.kernel import Source, Target, block_kernel
from converter.quants.lanes import Lanes, column, mapped
from converter.quants.scales import (
    ALL_ZERO,
    WITH_IMPORTANCE,
    Candidates,
    refine_symmetric,
    search_affine,
    search_symmetric,
)
from converter.quants.simple import half
from converter.quants.super_blocks import (
    Shared,
    importance_weights,
    joined,
    packed,
    rows_of_bytes,
    searched,
    spread,
    spread_signed,
    sub_blocks,
    total,
)


def _final(values: Lanes, step: Lanes, lowest: int, highest: int, searched: Lanes) -> Lanes:
    """Quants, from 0 on, for scales as they will be read; where those are zero, the quants of the search stay."""
    nearest = (values / step).nearest_integer().at_least(lowest).at_most(highest) - lowest
    return step.equals(0.0).where(searched, nearest)


@block_kernel(512, 168)
def quantize_q2_k(x: Source, out: Target) -> Lanes:
    """Two super-blocks of 16 sub-blocks of 16: 2-bit quants; 4-bit scales and minima; a float16 for either.

    Bytes: 16 of scales and minima, 64 of quants, float16 of the scales, float16 of the minima.
    """
    elements = sub_blocks(x.load, 16, 32)
    weights = [abs(values) for values in elements]
    found = search_affine(x, elements, weights, 3, Candidates(-0.5, 0.1, 16), absolute=True)
    halves = zip(found.scale.halves(), found.minimum.halves(), strict=True)
    shared = [spread(numbers, 15) for pair in halves for numbers in pair]
    _store_q2_k(out, shared, elements, mapped(lambda values: found.quants(values, 3), elements))
    return found.unfit


@block_kernel(512, 168)
def quantize_q2_k_weighted(x: Source, out: Target) -> Lanes:
    elements = sub_blocks(x.load, 16, 32)
    weights = importance_weights(x, elements, lambda squares: squares / 256.0)
    found = search_affine(x, elements, weights, 3, WITH_IMPORTANCE)
    shared, misfit = searched(x, found, weights, 15)
    _store_q2_k(out, shared, elements, mapped(lambda values: found.quants(values, 3), elements))
    return found.unfit.any() | misfit.any()


def _store_q2_k(out: Target, shared: list[Shared], elements: list[Lanes], found: list[Lanes]) -> None:
    scales, minima = [], []
    for block in range(2):
        scale, minimum = shared[2 * block : 2 * block + 2]
        nibbles = (scale.integers | (minimum.integers << 4)) & 255
        out.store(84 * block, nibbles.bytes())
        out.store(84 * block + 80, scale.bits)
        out.store(84 * block + 82, minimum.bits)
        scales.append(Shared(scale.bits, nibbles & 15).sizes())
        minima.append(Shared(minimum.bits, nibbles >> 4).sizes())
    step, shift = joined(scales), joined(minima)
    rows = rows_of_bytes(mapped(lambda values, before: _final(values + shift, step, 0, 3, before), elements, found))
    for block in range(2):
        _store_pairs(out, 84 * block + 16, rows[16 * block : 16 * block + 16])


def _store_pairs(out: Target, at: int, rows: list[Lanes]) -> None:
    """64 bytes from 16 rows of 16 quants of two bits. Elements 0, 32, 64 and 96 of a half share a byte."""
    for half_block in range(2):
        for row in range(2):
            four = rows[8 * half_block + row : 8 * half_block + 8 : 2]
            out.store(at + 32 * half_block + 16 * row, packed(four, 2))


@block_kernel(512, 220)
def quantize_q3_k(x: Source, out: Target) -> None:
    """Two super-blocks of 16 sub-blocks of 16: 3-bit quants; 6-bit scales; a float16 for the scales.

    Bytes: 32 of upper bits, 64 of lower pairs of bits, 12 of scales, the float16.
    """
    elements = sub_blocks(x.load, 16, 32)
    scale, found = refine_symmetric(x, elements, 4)
    _store_q3_k(out, [spread_signed(numbers, 32) for numbers in scale.halves()], elements, found)


@block_kernel(512, 220)
def quantize_q3_k_weighted(x: Source, out: Target) -> Lanes:
    elements = sub_blocks(x.load, 16, 32)
    weights = importance_weights(x, elements, lambda squares: squares * 2.0 / 256.0)
    inner = search_symmetric(x, elements, weights, 4)
    sums = total(weights)
    numbers = [inner.scale.pick([j, 16 + j]) for j in range(16)]
    outer = search_symmetric(x, numbers, [sums.pick([j, 16 + j]) for j in range(16)], 32)
    bits = half(outer.scale)
    integers = [outer.quants(values, 32) - 32 for values in numbers]
    shared = [Shared(bits.lane(block), column(integers, block)) for block in range(2)]
    _store_q3_k(out, shared, elements, mapped(lambda values: inner.quants(values, 4), elements))
    return inner.scale.is_finite().inverted().any() | outer.scale.is_number().inverted().any()


def _store_q3_k(out: Target, shared: list[Shared], elements: list[Lanes], found: list[Lanes]) -> None:
    step = joined([scales.sizes() for scales in shared])
    rows = rows_of_bytes(mapped(lambda values, before: _final(values, step, -4, 3, before), elements, found))
    for block, scales in enumerate(shared):
        at, mine = 110 * block, rows[16 * block : 16 * block + 16]
        for row in range(2):
            out.store(at + 16 * row, packed([values >> 2 for values in mine[row::2]], 1))
        _store_pairs(out, at + 32, [values & 3 for values in mine])
        integers = scales.integers + 32
        first, second = integers.halves()
        out.store(at + 96, ((first & 15) | ((second & 15) << 4)).bytes())
        fours = [integers.pick(range(start, start + 4)) for start in range(0, 16, 4)]
        out.store(at + 104, packed([four >> 4 for four in fours], 2).bytes())
        out.store(at + 108, scales.bits)


def _quantize_affine(x: Source, out: Target, bits: int, candidates: Candidates) -> Lanes:
    """Q4_K and Q5_K, two super-blocks of 8 sub-blocks of 32: quants; 6-bit scales and minima; a float16 for either.

    Bytes: float16 of the scales, float16 of the minima, 12 of scales and minima, 32 of fifth bits if there are any,
    128 of nibbles.
    """
    elements = sub_blocks(x.load, 32)
    magnitude = (total([values * values for values in elements]) / 32.0).root()
    weights = [magnitude + abs(values) for values in elements]
    found = search_affine(x, elements, weights, 2**bits - 1, candidates)
    halves = zip(found.scale.halves(), found.minimum.halves(), strict=True)
    shared = [spread(numbers, 63) for pair in halves for numbers in pair]
    shared = [Shared(scales.bits, scales.integers.at_most(63)) for scales in shared]
    _store_affine(out, bits, shared, elements, mapped(lambda values: found.quants(values, 2**bits - 1), elements))
    return found.unfit


def _quantize_affine_weighted(x: Source, out: Target, bits: int) -> Lanes:
    elements = sub_blocks(x.load, 32)
    weights = importance_weights(x, elements, lambda squares: squares * 2.0 / 256.0)
    found = search_affine(x, elements, weights, 2**bits - 1, WITH_IMPORTANCE)
    shared, misfit = searched(x, found, weights, 63)
    _store_affine(out, bits, shared, elements, mapped(lambda values: found.quants(values, 2**bits - 1), elements))
    return found.unfit.any() | misfit.any()


def _store_affine(out: Target, bits: int, shared: list[Shared], elements: list[Lanes], found: list[Lanes]) -> None:
    sizes = [scales.sizes() for scales in shared]
    step, shift = joined(sizes[::2]), joined(sizes[1::2])
    highest = 2**bits - 1
    quants = mapped(lambda values, before: _final(values + shift, step, 0, highest, before), elements, found)
    rows, size = rows_of_bytes(quants), 16 + 32 * bits
    for block in range(2):
        at, mine = block * size, rows[8 * block : 8 * block + 8]
        scales, minima = shared[2 * block : 2 * block + 2]
        out.store(at, scales.bits)
        out.store(at + 2, minima.bits)
        # Four scales and minima in the low bits of 8 bytes; of the others 4 bytes of nibbles, the rest on the 8.
        (first, late), (first_minimum, late_minimum) = scales.integers.halves(), minima.integers.halves()
        out.store(at + 4, (first | (late >> 4 << 6)).bytes())
        out.store(at + 8, (first_minimum | (late_minimum >> 4 << 6)).bytes())
        out.store(at + 12, ((late & 15) | ((late_minimum & 15) << 4)).bytes())
        if bits == 5:
            out.store(at + 16, packed([row >> 4 for row in mine], 1))
        for pair in range(4):
            out.store(at + size - 128 + 32 * pair, packed([row & 15 for row in mine[2 * pair : 2 * pair + 2]], 4))


@block_kernel(512, 288)
def quantize_q4_k(x: Source, out: Target) -> Lanes:
    return _quantize_affine(x, out, 4, Candidates(-1.0, 0.1, 21))


@block_kernel(512, 288)
def quantize_q4_k_weighted(x: Source, out: Target) -> Lanes:
    return _quantize_affine_weighted(x, out, 4)


@block_kernel(512, 352)
def quantize_q5_k(x: Source, out: Target) -> Lanes:
    return _quantize_affine(x, out, 5, Candidates(-0.5, 0.1, 16))


@block_kernel(512, 352)
def quantize_q5_k_weighted(x: Source, out: Target) -> Lanes:
    return _quantize_affine_weighted(x, out, 5)


@block_kernel(256, 210)
def quantize_q6_k(x: Source, out: Target) -> None:
    elements = sub_blocks(x.load, 16)
    _quantize_q6_k(x, out, elements, [values * values for values in elements])


@block_kernel(256, 210)
def quantize_q6_k_weighted(x: Source, out: Target) -> None:
    _quantize_q6_k(x, out, sub_blocks(x.load, 16), sub_blocks(x.importance, 16))


def _quantize_q6_k(x: Source, out: Target, elements: list[Lanes], weights: list[Lanes]) -> None:
    """16 sub-blocks of 16: 6-bit quants; 8-bit scales; a float16 for the scales.

    Bytes: 128 of low nibbles, 64 of upper pairs of bits, 16 scales, the float16.
    """
    found = search_symmetric(x, elements, weights, 32)
    any_scale = (abs(found.scale) >= ALL_ZERO).any()
    shared = spread_signed(found.scale, 128)
    shared = Shared(any_scale.where(shared.bits, 0), any_scale.where(shared.integers, 0))
    out.store(192, shared.integers.bytes())
    out.store(208, shared.bits)
    step = shared.sizes()
    quants = mapped(lambda values: _final(values, step, -32, 31, found.quants(values, 32)), elements)
    rows = rows_of_bytes([any_scale.where(values, 0) for values in quants])
    _store_pairs(out, 128, [row >> 4 for row in rows])
    for part in range(2):
        for row in range(2):
            first, second, third, fourth = rows[8 * part + row : 8 * part + 8 : 2]
            out.store(64 * part + 16 * row, (first & 15) | (third << 4))
            out.store(64 * part + 16 * row + 32, (second & 15) | (fourth << 4))
