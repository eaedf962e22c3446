"""Ternary formats: super-blocks of 256 elements that are -1, 0 or 1 times the largest magnitude, a float16.

Layouts and arithmetic: ``quantize_row_tq*_0_ref`` of ggml-quants.c, ``block_tq*_0`` of ggml-common.h.
"""

from __future__ import annotations

from converter.quants.kernel import Source, Target, block_kernel
from converter.quants.lanes import Lanes
from converter.quants.simple import half
from converter.quants.super_blocks import packed


def _trits(x: Source) -> tuple[Lanes, list[Lanes], Lanes]:
    """The scale; 0, 1 or 2 for each element, int32 in 16 vectors of 16; a mask, set where the scale has no inverse."""
    vectors = [x.load(start, 16) for start in range(0, 256, 16)]
    peaks = abs(vectors[0])
    for values in vectors[1:]:
        peaks = peaks.at_least(abs(values))
    scale = peaks.max()
    nothing = scale.equals(0.0)
    inverse = nothing.where(0.0, 1.0 / scale)
    quotients = [values * inverse for values in vectors]
    trits = [(values >= 0.5).where(2, (values <= -0.5).where(0, 1)) for values in quotients]
    return scale, trits, inverse.is_finite().inverted()


@block_kernel(256, 66)
def quantize_tq2_0(x: Source, out: Target) -> Lanes:
    """Bytes: 64 of pairs of bits, elements 0, 32, 64 and 96 of a half in one byte; the float16."""
    scale, trits, unfit = _trits(x)
    for part in range(2):
        for row in range(2):
            out.store(32 * part + 16 * row, packed(trits[8 * part + row : 8 * part + 8 : 2], 2).bytes())
    out.store(64, half(scale))
    return unfit


def _fraction(trits: list[Lanes]) -> Lanes:
    """Five trits as the digits of a fraction: in 256ths, rounded up."""
    digits = trits[0]
    for trit in trits[1:]:
        digits = digits * 3 + trit
    return ((digits * 256 + 242).floats() / 243.0).truncated().bytes()


@block_kernel(256, 54)
def quantize_tq1_0(x: Source, out: Target) -> Lanes:
    """Bytes: 32 of elements 0 to 159, at a distance of 32; 16 of 160 to 239, at 16; 4 of the rest, at 4, with a zero
    as fifth trit; the float16."""
    scale, trits, unfit = _trits(x)
    for row in range(2):
        out.store(16 * row, _fraction(trits[row:10:2]))
    out.store(32, _fraction(trits[10:15]))
    last = [trits[15].pick(range(start, start + 4)) for start in range(0, 16, 4)]
    out.store(48, _fraction([*last, last[0].filled(0)]))
    out.store(52, half(scale))
    return unfit
