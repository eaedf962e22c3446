"""From bytes back to values, in numpy, for the types that have a quantizer of ours in :mod:`converter.quants.simple`.

Layouts and arithmetic: ``dequantize_row_*`` of ggml-quants.c.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def dequantize_f32(data: Bytes, out: Floats) -> None:
    out[...] = data.view(np.float32)


def dequantize_f16(data: Bytes, out: Floats) -> None:
    out[...] = data.view(np.float16)


def dequantize_bf16(data: Bytes, out: Floats) -> None:
    np.left_shift(data.view(np.uint16), np.uint32(16), out=out.view(np.uint32))


def dequantize_q8_0(data: Bytes, out: Floats) -> None:
    blocks = _blocks(data, d="<f2", qs="(32,)i1")
    np.multiply(blocks["qs"], _column(blocks["d"]), out=out.reshape(-1, 32))


def dequantize_q4_0(data: Bytes, out: Floats) -> None:
    blocks = _blocks(data, d="<f2", qs="(16,)u1")
    np.multiply(_nibbles(blocks["qs"]) - np.int8(8), _column(blocks["d"]), out=out.reshape(-1, 32))


def dequantize_q4_1(data: Bytes, out: Floats) -> None:
    blocks, values = _blocks(data, d="<f2", m="<f2", qs="(16,)u1"), out.reshape(-1, 32)
    np.multiply(_nibbles(blocks["qs"]), _column(blocks["d"]), out=values)
    values += _column(blocks["m"])


def dequantize_q5_0(data: Bytes, out: Floats) -> None:
    blocks = _blocks(data, d="<f2", qh="(4,)u1", qs="(16,)u1")
    quants = _nibbles(blocks["qs"]) + _fifth_bits(blocks["qh"])
    np.multiply(quants - np.int8(16), _column(blocks["d"]), out=out.reshape(-1, 32))


def dequantize_q5_1(data: Bytes, out: Floats) -> None:
    blocks, values = _blocks(data, d="<f2", m="<f2", qh="(4,)u1", qs="(16,)u1"), out.reshape(-1, 32)
    np.multiply(_nibbles(blocks["qs"]) + _fifth_bits(blocks["qh"]), _column(blocks["d"]), out=values)
    values += _column(blocks["m"])


def _blocks(data: Bytes, **fields: str) -> NDArray[Any]:
    """``data`` as a vector of packed structures."""
    return data.reshape(-1).view(list(fields.items()))


def _column(halves: NDArray[np.float16]) -> Floats:
    return halves.astype(np.float32)[:, np.newaxis]


def _nibbles(packed: Bytes) -> NDArray[np.int8]:
    """(n, 16) bytes to (n, 32) numbers: low nibbles are the first half of a block, high nibbles the second."""
    return np.concatenate((packed & np.uint8(15), packed >> np.uint8(4)), axis=1).view(np.int8)


def _fifth_bits(packed: Bytes) -> NDArray[np.int8]:
    """(n, 4) bytes to (n, 32) numbers 0 or 16: bit j belongs to element j."""
    return np.unpackbits(packed, axis=1, bitorder="little").view(np.int8) * np.int8(16)
