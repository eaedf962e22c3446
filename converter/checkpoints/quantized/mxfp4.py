"""MXFP4: blocks of 32 numbers of 4 bits (E2M1) with a power of two in common, as GPT-OSS stores its experts.

https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf. A block in a checkpoint and in
ggml (``block_mxfp4``), e for the exponent's byte, numbers for the elements in each byte, low half first:

    checkpoint  …_scales  e     …_blocks  0 1 | 2 3 | 4 5 | … | 30 31      16 bytes
    ggml        e               0 16 | 1 17 | 2 18 | … | 15 31             17 bytes in all
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.floats import widen_exponents
from converter.checkpoints.quantized.dequantized import DequantizedTensor
from converter.checkpoints.quantized.groups import scale_groups
from converter.checkpoints.quantized.packed import look_up, table_of
from converter.checkpoints.quantized.parts import Parts
from converter.checkpoints.safetensors import SafetensorsTensor

BLOCK = 32
"""Weights of a block."""
BLOCK_BYTES = 17
"""Bytes of ggml's block."""

_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
E2M1_PAIRS = table_of(_E2M1)


@dataclass(frozen=True)
class Mxfp4Tensor(DequantizedTensor):
    """Weights in MXFP4, whose blocks can also be passed on as they are.

    Attributes:
        scales: exponents, one column per block.
    """

    scales: SafetensorsTensor

    @property
    def column_unit(self) -> int:
        return BLOCK

    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        end, last = row + len(out), column + out.shape[1]
        look_up(self.codes.read_stored(row, end, slice(column // 2, last // 2)), E2M1_PAIRS, out)
        exponents = self.scales.read_stored(row, end, slice(column // BLOCK, last // BLOCK))
        scale_groups(out, widen_exponents(exponents), None, BLOCK)

    def read_blocks(self, type_name: str, start: int, stop: int) -> NDArray[np.uint8] | None:
        return self.mxfp4_rows(start, stop) if type_name == "mxfp4" else None

    def mxfp4_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows ``start`` to ``stop`` as ggml's ``block_mxfp4``: uint8 (stop - start, 17 * blocks per row).

        The same numbers bit for bit: only the order of the 4-bit codes in a block changes.

        Raises:
            IndexError: the rows are not within the tensor.
            CheckpointError: the file ended early, changed or cannot be read.
        """
        if not 0 <= start <= stop <= self.rows:
            raise IndexError(f"{self.name}: rows {start}:{stop} of {self.rows}")
        blocks = self.row_length // BLOCK
        stored = self.codes.read_stored(start, stop).reshape(stop - start, blocks, 2, BLOCK // 4)
        out = np.empty((stop - start, blocks, BLOCK_BYTES), np.uint8)
        out[:, :, 0] = self.scales.read_stored(start, stop)
        first, second = stored[:, :, 0], stored[:, :, 1]  # elements 0 to 15, 16 to 31
        np.bitwise_or(first & _LOW, second << _HALF, out=out[:, :, 1::2])
        np.bitwise_or(first >> _HALF, second & _HIGH, out=out[:, :, 2::2])
        return out.reshape(stop - start, blocks * BLOCK_BYTES)


_LOW, _HIGH, _HALF = np.uint8(0x0F), np.uint8(0xF0), np.uint8(4)


def read_mxfp4(parts: Parts) -> None:
    """GPT-OSS's experts: ``X_blocks`` (experts, out, blocks, 16) and ``X_scales`` (experts, out, blocks) become
    ``X.weight`` (experts, out, in).

    That name tells it from ``X`` of a checkpoint that is not quantized, which is transposed: (experts, in, out).

    Raises:
        CheckpointError: a part is missing, or their shapes do not fit.
    """
    for base in parts.bases("_blocks"):
        name = f"{base}_blocks"
        blocks = parts.take(name, name, ("U8",), None, None, None, BLOCK // 2)
        scales = parts.take(f"{base}_scales", name, ("U8",), *blocks.shape[:-1])
        *leading, count, _ = blocks.shape
        codes = dataclasses.replace(blocks, shape=(*leading, count * BLOCK // 2))
        parts.give(Mxfp4Tensor(f"{base}.weight", "F4", (*leading, count * BLOCK), codes, scales), name)
    for base in parts.bases("_scales"):
        raise parts.refused(f"{base}_scales", f"has no {base}_blocks beside it; download the checkpoint again")
