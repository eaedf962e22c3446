"""Four-bit formats whose quants are indices into a table of sixteen values.

Layouts and arithmetic: ``quantize_row_iq4_nl_impl`` and ``quantize_row_mxfp4_ref`` of ggml-quants.c, ``block_iq4_nl``,
``block_iq4_xs`` and ``block_mxfp4`` of ggml-common.h.
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

from converter.quants.kernel import Source, Target, block_kernel
from converter.quants.lanes import Lanes, Variable, mapped
from converter.quants.scales import first_largest
from converter.quants.simple import half
from converter.quants.super_blocks import importance_weights, joined, packed, rows_of_bytes, sub_blocks, total

VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
# Where the index changes: as far from one value as from the next, computed without rounding.
_MIDDLES = [(low + high) / 2 for low, high in pairwise(VALUES)]


def _nearest_value(numbers: Lanes) -> Lanes:
    """The value nearest to each number, the larger of two."""
    nearest = numbers.filled(float(VALUES[0]))
    for middle, value in zip(_MIDDLES, VALUES[1:], strict=True):
        nearest = (numbers >= middle).where(float(value), nearest)
    return nearest


def _nearest_index(numbers: Lanes) -> Lanes:
    """int32 index of the nearest value, the larger of two; the last for NaN."""
    below = [(numbers < middle).where(1, 0) for middle in _MIDDLES]
    return total(below).negative() + (len(VALUES) - 1)


def _search_scale(x: Source, elements: list[Lanes], weights: list[Lanes]) -> Lanes:
    """Scale of each lane with the least loss of sixteen candidates, which put the element of largest magnitude beside
    the ends of the table; zero in lanes that are all zero."""
    largest, empty = first_largest(elements)
    zero = largest.filled(0.0)
    scale, best = Variable(zero), Variable(zero)
    with x.repeat(16) as index:
        first = index.equals(0)
        factor = (index - (8 - VALUES[0])).floats() / largest
        factor = first.where(1.0 / (largest.negated() / float(VALUES[0])), factor)
        products = squares = zero
        for values, weight in zip(elements, weights, strict=True):
            value = _nearest_value(factor * values)
            products = products + weight * value * values
            squares = squares + weight * value * value
        better = (squares > 0.0) & (products * products > best.get() * squares)
        better = better | first
        candidate = (squares > 0.0).where(products / squares, 0.0)
        scale.set(better.where(candidate, scale.get()))
        best.set(better.where(candidate * products, best.get()))
    return empty.where(0.0, scale.get())


def _inverse(scale: Lanes) -> Lanes:
    """1 / scale; zero for zero."""
    return scale.equals(0.0).where(0.0, 1.0 / scale)


def _quantize_iq4_nl(x: Source, out: Target, elements: list[Lanes], weights: list[Lanes]) -> Lanes:
    """Sixteen blocks of 32. Bytes of each: float16 scale, 16 of nibbles, the first half of a block in the low ones."""
    scale = _search_scale(x, elements, weights)
    bits, inverse = half(scale), _inverse(scale)
    rows = rows_of_bytes(mapped(lambda values: _nearest_index(inverse * values), elements))
    for block, row in enumerate(rows):
        out.store(18 * block, bits.lane(block))
        out.store(18 * block + 2, packed(row.halves(), 4))
    return scale.is_number().inverted()


@block_kernel(512, 288)
def quantize_iq4_nl(x: Source, out: Target) -> Lanes:
    elements = sub_blocks(x.load, 32)
    return _quantize_iq4_nl(x, out, elements, [values * values for values in elements])


@block_kernel(512, 288)
def quantize_iq4_nl_weighted(x: Source, out: Target) -> Lanes:
    elements = sub_blocks(x.load, 32)
    mean = total([values * values for values in elements]) * (2.0 / 32)
    columns = sub_blocks(x.importance, 32)
    pairs = zip(columns, elements, strict=True)
    return _quantize_iq4_nl(x, out, elements, [column * (mean + values * values).root() for column, values in pairs])


def _quantize_iq4_xs(x: Source, out: Target, elements: list[Lanes], weights: list[Lanes]) -> None:
    """Two super-blocks of 8 sub-blocks of 32: nibbles; 6-bit scales; a float16 for the scales.

    Bytes: the float16, 2 of the scales' upper pairs of bits, 4 of their low nibbles, 128 of nibbles.
    """
    inverses = []
    for block, scales in enumerate(_search_scale(x, elements, weights).halves()):
        lanes = [scales.lane(lane) for lane in range(8)]
        largest, _ = first_largest(lanes, at_least=0.0)
        shared = largest / -32.0
        integers = (_inverse(shared) * scales).nearest_integer().at_least(-32).at_most(31)
        inverses.append(_inverse(shared * integers.floats()))
        out.store(136 * block, half(shared))
        numbers = integers + 32
        upper = [(numbers.lane(lane) >> 4) << (2 * lane) for lane in range(8)]
        out.store(136 * block + 2, reduce(Lanes.__or__, upper).shorts())
        even, odd = numbers.pick(range(0, 8, 2)), numbers.pick(range(1, 8, 2))
        out.store(136 * block + 4, ((even & 15) | ((odd & 15) << 4)).bytes())
    inverse = joined(inverses)
    rows = rows_of_bytes(mapped(lambda values: _nearest_index(inverse * values), elements))
    for sub_block, row in enumerate(rows):
        out.store(136 * (sub_block // 8) + 8 + 16 * (sub_block % 8), packed(row.halves(), 4))


@block_kernel(512, 272)
def quantize_iq4_xs(x: Source, out: Target) -> None:
    elements = sub_blocks(x.load, 32)
    _quantize_iq4_xs(x, out, elements, [values * values for values in elements])


@block_kernel(512, 272)
def quantize_iq4_xs_weighted(x: Source, out: Target) -> None:
    elements = sub_blocks(x.load, 32)
    weights = importance_weights(x, elements, lambda squares: squares * (2.0 / 256))
    _quantize_iq4_xs(x, out, elements, weights)


@block_kernel(32, 17)
def quantize_mxfp4(x: Source, out: Target) -> Lanes:
    """Signed floats of four bits times a power of two. Bytes: its exponent, 16 of nibbles, first half in the low ones.

    ggml takes the exponent from ``log2f``, which rounds numbers just below a power of two up to it and leaves
    denormal numbers to the C library: such blocks are ggml's.
    """
    values = x.load(0, 32)
    magnitude = abs(values)
    peak = magnitude.max()
    exponent, mantissa = peak.bits() >> 23, peak.bits() & 0x7FFFFF
    nothing = peak.equals(0.0)
    stored = nothing.where(0, exponent - 2)
    unit = ((stored - 1) << 23).as_floats()  # half of the power of two
    above = [(magnitude > unit * middle).where(1, 0) for middle in (0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0)]
    index = nothing.where(0, total(above))
    index = index | ((values < 0.0) & (index > 0)).where(8, 0)
    out.store(0, stored.bytes())
    out.store(1, packed([part.bytes() for part in index.halves()], 4))
    uncertain = (exponent < 8) | (mantissa > 0x7FFF00) | ((mantissa < 0x100) & (mantissa > 0))
    return uncertain & nothing.inverted()
