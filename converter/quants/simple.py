"""Floats, and the formats of one scale (and for some one minimum) per block of 32 elements.

Layouts and arithmetic: ``quantize_row_*_ref`` of ggml-quants.c and the conversions of ggml-impl.h.

ggml converts to integers what overflowed to infinity or became NaN; on x86 that gives zero in the low byte. Here the
reciprocal of a scale too small to have one is replaced by zero, which leads to the same bytes by defined steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converter.quants.kernel import Source, Target, block_kernel
from converter.quants.lanes import Lanes

_BELOW_HALF = 0x3EFFFFFF  # bits of the largest float32 below 0.5
_SIGN = -0x80000000


def half(values: Lanes) -> Lanes:
    """float32 to the bits of float16, to nearest, ties to even, too large to infinity; NaN is not provided for."""
    bits = values.bits()
    magnitude = bits & 0x7FFFFFFF
    # Rebias the exponent by 15 - 127, rounding away the 13 bits of the mantissa that do not fit.
    normal = (((magnitude + 0xFFF + ((magnitude >> 13) & 1)) >> 13) - (112 << 10)).at_most(0x7C00)
    # Below 2**-14 a float16 counts units of 2**-24, which is the last bit of a float32 in [0.5, 1).
    denormal = (abs(values) + 0.5).bits() - 0x3F000000
    return ((magnitude < 0x38800000).where(denormal, normal) | ((bits >> 16) & 0x8000)).shorts()


def widened(halves: Lanes) -> Lanes:
    """The bits of float16 to float32; of a NaN only the sign is kept."""
    bits = halves.integers()
    magnitude = bits & 0x7FFF
    denormal = (magnitude.floats() * 2.0**-24).bits()
    special = (magnitude > 0x7C00).where(0x7FC00000, 0x7F800000)
    finite = (magnitude < 0x400).where(denormal, (magnitude << 13) + (112 << 23))
    return ((magnitude < 0x7C00).where(finite, special) | ((bits & 0x8000) << 16)).as_floats()


def reciprocal(scale: Lanes) -> Lanes:
    """1 / scale; zero where that is infinite."""
    inverse = 1.0 / scale
    return inverse.is_finite().where(inverse, 0.0)


def first_equal(x: Source, values: Lanes, wanted: Lanes) -> Lanes:
    """The element of a block whose lane in ``values`` is the first to equal ``wanted``: sign of a zero, or of a tie."""
    return x.load(values.equals(wanted).first(), 1)


def quantize_f32(rows: NDArray[np.float32], out: NDArray[np.uint8], importance: None) -> tuple[int, ...]:
    np.copyto(out.view(np.float32), rows)
    return ()


@block_kernel(32, 64)
def quantize_f16(x: Source, out: Target) -> None:
    out.store(0, half(x.load(0, 32)))


@block_kernel(32, 64)
def quantize_bf16(x: Source, out: Target) -> None:
    bits = x.load(0, 32).bits()
    out.store(0, ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).shorts())


@block_kernel(32, 34)
def quantize_q8_0(x: Source, out: Target) -> None:
    values = x.load(0, 32)
    scale = abs(values).max() / 127.0
    quotients = values * reciprocal(scale)
    # Rounding half away from zero: add just under a half with the sign of the quotient, then truncate.
    rounding = ((quotients.bits() & _SIGN) | _BELOW_HALF).as_floats()
    out.store(0, half(scale))
    out.store(2, (quotients + rounding).truncated().bytes())


def _symmetric(x: Source, levels: int) -> tuple[Lanes, Lanes]:
    """Scale such that the element of largest magnitude, the first of several, is at ``-levels``; and the quants."""
    values = x.load(0, 32)
    magnitudes = abs(values)
    peak = magnitudes.max()
    largest = peak.equals(0.0).where(0.0, first_equal(x, magnitudes, peak))
    scale = largest / -float(levels)
    inverse = reciprocal(scale)
    offset = (inverse.equals(0.0) & (abs(scale) > 0.0)).where(0.0, levels + 0.5)
    return scale, (values * inverse + offset).truncated().at_most(2 * levels - 1)


def _affine(x: Source, levels: int) -> tuple[Lanes, Lanes, Lanes]:
    """Scale and minimum that spread a block over 0 to ``levels``; and the quants."""
    values = x.load(0, 32)
    minimum = first_equal(x, values, values.min())
    scale = abs(values.max() - minimum) / float(levels)
    origin = scale.is_finite().where(minimum, 0.0)  # the difference to the minimum may be infinite as well
    return scale, minimum, ((values - origin) * reciprocal(scale) + 0.5).truncated().at_most(levels)


def _nibbles(quants: Lanes) -> Lanes:
    """Low four bits: the first half of a block in the low nibbles, the second in the high ones."""
    first, second = quants.halves()
    return ((first & 15) | (second << 4)).bytes()


@block_kernel(32, 18)
def quantize_q4_0(x: Source, out: Target) -> None:
    scale, quants = _symmetric(x, 8)
    out.store(0, half(scale))
    out.store(2, _nibbles(quants))


@block_kernel(32, 20)
def quantize_q4_1(x: Source, out: Target) -> None:
    scale, minimum, quants = _affine(x, 15)
    out.store(0, half(scale))
    out.store(2, half(minimum))
    out.store(4, _nibbles(quants))


@block_kernel(32, 22)
def quantize_q5_0(x: Source, out: Target) -> None:
    scale, quants = _symmetric(x, 16)
    out.store(0, half(scale))
    out.store(2, (quants > 15).packed())
    out.store(6, _nibbles(quants))


@block_kernel(32, 24)
def quantize_q5_1(x: Source, out: Target) -> None:
    scale, minimum, quants = _affine(x, 31)
    out.store(0, half(scale))
    out.store(2, half(minimum))
    out.store(4, (quants > 15).packed())
    out.store(8, _nibbles(quants))
