"""Stored floating-point numbers widened to float32, at the speed of memory.

GB/s of float32 made from file data in the page cache, one thread, 256 Ki elements at a time: bfloat16 20, float16 10;
numpy's own float16 conversion, which is scalar, makes 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True)
class StoredFloat:
    """How one floating-point type lies in a file.

    Attributes:
        dtype: numpy type of one stored element (for bfloat16, of its bits).
        widen: ``widen(stored, out)`` converts to float32, both of the same shape.
    """

    dtype: DTypeLike
    widen: Callable[[NDArray[Any], NDArray[np.float32]], None]

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize


def _copy(stored: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    np.copyto(out, stored)


def _narrow(stored: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    # As PyTorch converts: to the nearest, beyond float32's range to infinity.
    with np.errstate(over="ignore"):
        np.copyto(out, stored, casting="same_kind")


def _widen_bfloat16(stored: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    # A bfloat16 is the upper half of the float32 it stands for.
    bits = out.view(np.uint32)
    np.copyto(bits, stored)
    np.left_shift(bits, np.uint32(16), out=bits)


_HALF_SIGN_AND_MAGNITUDE = np.array(0x8FFFFFFF, np.uint32).view(np.int32)
_HALF_TO_SINGLE_BIAS = np.float32(2.0**112)  # the exponents' biases are 15 and 127
_HALF_INFINITY = np.float32(2.0**16)


def _widen_float16(stored: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    # float16 s eeeee mmmmmmmmmm, sign-extended to 32 bits and shifted by 13, becomes
    #         ssss eeeee mmmmmmmmmm 0…0, and with the three copies of the sign cleared
    # float32 s 000eeeee mmmmmmmmmm 0…0: right but for the exponent's bias, which a product repairs; the product
    # also normalises subnormal numbers. Infinity and NaN come out as numbers from 2^16 on: those numpy converts.
    bits = out.view(np.int32)
    np.copyto(bits, stored.view(np.int16))
    np.left_shift(bits, np.int32(13), out=bits)
    np.bitwise_and(bits, _HALF_SIGN_AND_MAGNITUDE, out=bits)
    np.multiply(out, _HALF_TO_SINGLE_BIAS, out=out)
    if out.size and (out.max() >= _HALF_INFINITY or out.min() <= -_HALF_INFINITY):
        np.copyto(out, stored)


def _widen_float8(exponent_bits: int, infinity: float) -> Callable[[NDArray[np.uint8], NDArray[np.float32]], None]:
    """Widens a byte of sign, exponent and mantissa as float16 above; beyond ``infinity`` lies NaN."""
    shift = np.int32(16 + exponent_bits)
    mask = np.array(0x80000000 + (1 << (23 + exponent_bits)) - 1, np.uint32).view(np.int32)
    bias = np.float32(2.0 ** (128 - (1 << (exponent_bits - 1))))

    def widen(stored: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
        bits = out.view(np.int32)
        np.copyto(bits, stored.view(np.int8))
        np.left_shift(bits, shift, out=bits)
        np.bitwise_and(bits, mask, out=bits)
        np.multiply(out, bias, out=out)
        if out.size and max(out.max(), -out.min()) >= infinity:
            size = np.abs(out)
            out[size > infinity] = np.nan
            out[size == infinity] *= np.float32(np.inf)

    return widen


STORED_FLOAT8: dict[str, StoredFloat] = {
    "F8_E4M3": StoredFloat("u1", _widen_float8(4, 479.0)),  # no infinity: 448 is the largest number, 480 means NaN
    "F8_E5M2": StoredFloat("u1", _widen_float8(5, 2.0**16)),
}
"""Types that have a scale in a quantized checkpoint, and mean what they say in one that isn't."""

STORED_FLOATS: dict[str, StoredFloat] = {
    "F32": StoredFloat("<f4", _copy),
    "F16": StoredFloat("<f2", _widen_float16),
    "BF16": StoredFloat("<u2", _widen_bfloat16),
    "F64": StoredFloat("<f8", _narrow),
    **STORED_FLOAT8,
}
"""The types whose weights can be read, by their name in safetensors; float64 is rounded, the others are exact."""


def widen_exponents(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes of type F8_E8M0, which are powers of two: 2^(byte - 127), and NaN for 255."""
    return _EXPONENTS[stored]


_EXPONENTS = np.append(np.ldexp(np.float32(1), np.arange(-127, 128, dtype=np.int32)), np.float32(np.nan))
