"""Integers of a few bits, packed densely from the lowest bit of the first byte on.

One look-up per byte gives all codes in it: 17 GB/s of float32 from 4 bits in the cache, one thread.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

WORD = 32
"""Bits of the integers in which the field's tools store packed codes."""


def words(count: int, bits: int) -> int:
    """Words that hold ``count`` codes."""
    return math.ceil(count * bits / WORD)


def word_run(start: int, stop: int, bits: int) -> slice:
    """The words that hold a run of codes that begins with a word."""
    return slice(start * bits // WORD, words(stop, bits))


def codes_together(bits: int) -> int:
    """The smallest number of codes that fills whole words."""
    return WORD // math.gcd(WORD, bits)


def unpack(packed: NDArray[np.uint8], bits: int, columns: int) -> NDArray[np.uint8]:
    """Unsigned codes of 1 to 8 bits, shape (rows, columns).

    Args:
        packed: (rows, bytes), C-contiguous, with at least as many codes per row as are asked for.
        bits: of a code.
        columns: codes of a row.
    """
    if bits == 8:
        return packed[:, :columns]
    if 8 % bits == 0:
        numbers, count = packed, 8 // bits
    else:  # eight codes fill ``bits`` bytes, which become the low bytes of one number
        count, runs = 8, math.ceil(columns / 8)
        spread = np.zeros((len(packed), runs, 8), np.uint8)
        whole = np.zeros((len(packed), runs * bits), np.uint8)
        whole[:, : packed.shape[1]] = packed[:, : runs * bits]
        spread[:, :, :bits] = whole.reshape(len(packed), runs, bits)
        numbers = spread.view("<u8")[:, :, 0]
    codes = np.empty((*numbers.shape, count), np.uint8)
    for index in range(count):
        shift, mask = numbers.dtype.type(bits * index), numbers.dtype.type((1 << bits) - 1)
        np.copyto(codes[:, :, index], numbers >> shift & mask, casting="same_kind")
    return codes.reshape(len(packed), -1)[:, :columns]


def unpack_signed(packed: NDArray[np.uint8], bits: int, offset: int, out: NDArray[np.float32]) -> None:
    """Fill ``out`` (rows, columns), C-contiguous, with codes less ``offset``; otherwise as :func:`unpack`."""
    if bits < 8 and 8 % bits == 0:
        look_up(packed, _signed_table(bits, offset), out)
    else:
        np.subtract(unpack(packed, bits, out.shape[1]), np.float32(offset), out=out)


def look_up(packed: NDArray[np.uint8], table: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Fill ``out`` (rows, columns) with ``table[byte]``, the weights that a byte holds, one byte after the other."""
    rows, width = packed.shape
    whole = width * table.shape[1] == out.shape[1]
    target = out if whole else np.empty((rows, width * table.shape[1]), np.float32)
    # A byte cannot be out of bounds: "wrap" spares the check that "raise" makes, and its copy of the output.
    np.take(table, packed, axis=0, out=target.reshape(rows, width, -1), mode="wrap")
    if not whole:
        np.copyto(out, target[:, : out.shape[1]])


def table_of(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """From the level of each code to the levels of the codes in each byte: (256, codes per byte), lowest bits first."""
    bits = len(levels).bit_length() - 1
    every = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    return levels[unpack(every, bits, 8 // bits)]


@cache
def _signed_table(bits: int, offset: int) -> NDArray[np.float32]:
    return table_of(np.arange(1 << bits, dtype=np.float32) - np.float32(offset))
