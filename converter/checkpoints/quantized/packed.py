"""Integers of a few bits, packed densely from the lowest bit of the first byte on.

GB/s of float32 made from bytes in the cache, one thread: 4 bits 17 (one look-up for both halves of a byte), 8 bits 20.
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


def codes_together(bits: int) -> int:
    """The smallest number of codes that fills whole words."""
    return WORD // math.gcd(WORD, bits)


def unpack(packed: NDArray[np.uint8], bits: int, out: NDArray[np.float32], offset: int = 0) -> None:
    """Fill ``out`` with unsigned codes of ``bits`` bits less ``offset``.

    Args:
        packed: (rows, bytes), C-contiguous, with at least as many codes per row as ``out`` has columns.
        bits: 1 to 8.
        out: (rows, columns), C-contiguous.
        offset: what the code of 0 is.
    """
    columns = out.shape[1]
    if bits == 8:
        np.subtract(packed[:, :columns], np.float32(offset), out=out)
    elif 8 % bits == 0:
        look_up(packed, byte_table(bits, offset), out)
    else:
        _unpack_across_bytes(packed, bits, out)
        np.subtract(out, np.float32(offset), out=out)


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
    """From the value of each code to the values of the codes in each byte: (256, codes per byte), lowest bits first."""
    bits = len(levels).bit_length() - 1
    codes = np.arange(256)[:, None] >> np.arange(0, 8, bits) & (len(levels) - 1)
    return np.ascontiguousarray(levels[codes])


@cache
def byte_table(bits: int, offset: int) -> NDArray[np.float32]:
    return table_of(np.arange(2**bits, dtype=np.float32) - np.float32(offset))


def _unpack_across_bytes(packed: NDArray[np.uint8], bits: int, out: NDArray[np.float32]) -> None:
    """Codes that straddle bytes: eight of them at a time, which fill ``bits`` bytes."""
    rows, columns = out.shape
    runs = math.ceil(columns / 8)
    padded = np.zeros((rows, runs, 8), np.uint8)
    room = min(packed.shape[1], runs * bits)
    run = np.zeros((rows, runs * bits), np.uint8)
    run[:, :room] = packed[:, :room]
    padded[:, :, :bits] = run.reshape(rows, runs, bits)
    joined = padded.view("<u8")  # (rows, runs, 1)
    shifts = np.arange(0, 8 * bits, bits, dtype=np.uint64)
    codes = (joined >> shifts & np.uint64(2**bits - 1)).reshape(rows, runs * 8)
    np.copyto(out, codes[:, :columns], casting="same_kind")
