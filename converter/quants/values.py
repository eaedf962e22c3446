"""From bytes back to values. Layouts and arithmetic: ``dequantize_row_*`` of ggml-quants.c."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from converter.quants.kernel import Block, Target, decoder
from converter.quants.lanes import Lanes, side_by_side
from converter.quants.lookup import VALUES
from converter.quants.simple import widened

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def dequantize_f32(data: Bytes, out: Floats) -> None:
    out[...] = data.view(np.float32)


def dequantize_f16(data: Bytes, out: Floats) -> None:
    out[...] = data.view(np.float16)


def dequantize_bf16(data: Bytes, out: Floats) -> None:
    np.left_shift(data.view(np.uint16), np.uint32(16), out=out.view(np.uint32))


def _half(block: Block, offset: int) -> Lanes:
    return widened(block.short(offset))


def _nibbles(packed: Lanes) -> tuple[Lanes, Lanes]:
    return packed & 15, packed >> 4


def _store(out: Target, parts: Iterable[Lanes]) -> None:
    """Write floats one after the other."""
    offset = 0
    for values in parts:
        out.store(offset, values)
        offset += 4 * len(values)


# --- blocks of 32 ----------------------------------------------------------------------------------------------------


def _simple(block: Block, out: Target, bits: int, with_minimum: bool) -> None:
    """Blocks of 32: float16 scale, float16 minimum if any, 4 bytes of fifth bits if any, 16 of nibbles."""
    scale, at = _half(block, 0), 4 if with_minimum else 2
    low, high = _nibbles(block.load(4 * bits - 16 + at, 16))
    quants = low.joined(high).integers()
    if bits == 5:
        quants = quants | block.word(at).unpacked().where(16, 0)
    if with_minimum:
        out.store(0, quants.floats() * scale + _half(block, 2))
    else:
        out.store(0, (quants - 2 ** (bits - 1)).floats() * scale)


@decoder(34, 32)
def dequantize_q8_0(block: Block, out: Target) -> None:
    out.store(0, block.load(2, 32).signed().floats() * _half(block, 0))


@decoder(18, 32)
def dequantize_q4_0(block: Block, out: Target) -> None:
    _simple(block, out, 4, with_minimum=False)


@decoder(20, 32)
def dequantize_q4_1(block: Block, out: Target) -> None:
    _simple(block, out, 4, with_minimum=True)


@decoder(22, 32)
def dequantize_q5_0(block: Block, out: Target) -> None:
    _simple(block, out, 5, with_minimum=False)


@decoder(24, 32)
def dequantize_q5_1(block: Block, out: Target) -> None:
    _simple(block, out, 5, with_minimum=True)


def _looked_up(indices: Lanes, table: tuple[int, ...]) -> Lanes:
    """Bytes below 16 to float32."""
    found = indices.filled(table[0])
    for index, value in enumerate(table[1:], 1):
        found = indices.equals(index).where(value, found)
    return found.signed().floats()


@decoder(18, 32)
def dequantize_iq4_nl(block: Block, out: Target) -> None:
    low, high = _nibbles(block.load(2, 16))
    out.store(0, _looked_up(low.joined(high), VALUES) * _half(block, 0))


@decoder(17, 32)
def dequantize_mxfp4(block: Block, out: Target) -> None:
    """The exponent's byte is biased by 127; the table holds doubled values, so the unit is half of the power."""
    exponent = block.load(0, 1).integers()
    low, high = _nibbles(block.load(1, 16))
    normal, denormal = (exponent - 1) << 23, exponent.equals(0).where(0x200000, 0x400000)
    unit = (exponent < 2).where(denormal, normal).as_floats()
    positive = (0, 1, 2, 3, 4, 6, 8, 12)
    out.store(0, _looked_up(low.joined(high), positive + tuple(-value for value in positive)) * unit)


# --- super-blocks of 256 ---------------------------------------------------------------------------------------------


def _pairs_of_bits(block: Block, offset: int) -> list[Lanes]:
    """16 rows of 16 numbers of two bits, from 64 bytes: elements 0, 32, 64 and 96 of a half share a byte."""
    rows = [block.load(offset + 16 * row, 16) for row in range(4)]
    return [(rows[2 * half + row] >> shift) & 3 for half in (0, 1) for shift in (0, 2, 4, 6) for row in (0, 1)]


def _nibble_rows(block: Block, offset: int) -> list[Lanes]:
    """8 rows of 32 numbers of four bits, from 128 bytes: of two rows, one has the low nibbles."""
    return [row for pair in range(4) for row in _nibbles(block.load(offset + 32 * pair, 32))]


@decoder(84, 256)
def dequantize_q2_k(block: Block, out: Target) -> None:
    scales, minima = _nibbles(block.load(0, 16))
    steps = scales.integers().floats() * _half(block, 80)
    shifts = minima.integers().floats() * _half(block, 82)
    rows = enumerate(_pairs_of_bits(block, 16))
    _store(out, (row.integers().floats() * steps.lane(i) - shifts.lane(i) for i, row in rows))


@decoder(110, 256)
def dequantize_q3_k(block: Block, out: Target) -> None:
    low, high = _nibbles(block.load(96, 8))
    upper = block.load(104, 4)
    pairs = [(upper >> shift) & 3 for shift in (0, 2, 4, 6)]
    upper = pairs[0].joined(pairs[1]).joined(pairs[2].joined(pairs[3]))
    steps = ((low.joined(high) | (upper << 4)).integers() - 32).floats() * _half(block, 108)
    masks = [block.load(0, 16), block.load(16, 16)]
    parts = []
    for i, row in enumerate(_pairs_of_bits(block, 32)):
        third = (masks[i % 2] >> (i // 2)) & 1
        parts.append(((row | (third << 2)).integers() - 4).floats() * steps.lane(i))
    _store(out, parts)


def _scales_and_minima(block: Block) -> tuple[Lanes, Lanes]:
    """8 scales and 8 minima of Q4_K and Q5_K, multiplied by their float16; 12 bytes hold their 6 bits each."""
    first, second, nibbles = (block.load(at, 4) for at in (4, 8, 12))
    scales = (first & 63).joined((nibbles & 15) | (first >> 6 << 4))
    minima = (second & 63).joined((nibbles >> 4) | (second >> 6 << 4))
    return scales.integers().floats() * _half(block, 0), minima.integers().floats() * _half(block, 2)


@decoder(144, 256)
def dequantize_q4_k(block: Block, out: Target) -> None:
    steps, shifts = _scales_and_minima(block)
    rows = enumerate(_nibble_rows(block, 16))
    _store(out, (row.integers().floats() * steps.lane(i) - shifts.lane(i) for i, row in rows))


@decoder(176, 256)
def dequantize_q5_k(block: Block, out: Target) -> None:
    steps, shifts = _scales_and_minima(block)
    fifth = block.load(16, 32)
    rows = [row | (((fifth >> i) & 1) << 4) for i, row in enumerate(_nibble_rows(block, 48))]
    _store(out, (row.integers().floats() * steps.lane(i) - shifts.lane(i) for i, row in enumerate(rows)))


@decoder(210, 256)
def dequantize_q6_k(block: Block, out: Target) -> None:
    steps = block.load(192, 16).signed().floats() * _half(block, 208)
    low = []
    for half in range(2):
        rows = [block.load(64 * half + 16 * row, 16) for row in range(4)]
        low += [row & 15 for row in rows] + [row >> 4 for row in rows]
    pairs = zip(low, _pairs_of_bits(block, 128), strict=True)
    quants = [((row | (upper << 4)).integers() - 32).floats() for row, upper in pairs]
    _store(out, (row * steps.lane(i) for i, row in enumerate(quants)))


@decoder(136, 256)
def dequantize_iq4_xs(block: Block, out: Target) -> None:
    low, high = _nibbles(block.load(4, 4))
    upper = block.short(2).integers()
    pairs = side_by_side([(upper >> (2 * i)) & 3 for i in range(8)])
    scales = low.joined(high).pick([0, 4, 1, 5, 2, 6, 3, 7]).integers() | (pairs << 4)
    steps = (scales - 32).floats() * _half(block, 0)
    parts = []
    for i in range(8):
        first, second = _nibbles(block.load(8 + 16 * i, 16))
        parts.append(_looked_up(first.joined(second), VALUES) * steps.lane(i))
    _store(out, parts)


@decoder(66, 256)
def dequantize_tq2_0(block: Block, out: Target) -> None:
    scale = _half(block, 64)
    _store(out, ((row.integers() - 1).floats() * scale for row in _pairs_of_bits(block, 0)))


@decoder(54, 256)
def dequantize_tq1_0(block: Block, out: Target) -> None:
    """A byte is a fraction in 256ths whose five digits to base 3 are the elements, at a distance of the part's size."""
    scale = _half(block, 52)
    digits = []
    for offset, size, count in ((0, 32, 5), (32, 16, 5), (48, 4, 4)):
        fractions = block.load(offset, size).integers()
        for _ in range(count):
            digits.append((fractions * 3) >> 8)
            fractions = (fractions * 3) & 255
    _store(out, ((digit - 1).floats() * scale for digit in digits))
