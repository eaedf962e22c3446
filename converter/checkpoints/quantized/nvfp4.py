"""NVFP4: numbers of 4 bits (E2M1) in blocks of 16, an FP8 scale for each and a divisor for the whole matrix.

weight = number * (scale / global_scale)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.floats import STORED_FLOAT8
from converter.checkpoints.quantized.dequantized import DequantizedTensor
from converter.checkpoints.quantized.groups import scale_groups
from converter.checkpoints.quantized.mxfp4 import E2M1_PAIRS
from converter.checkpoints.quantized.packed import look_up
from converter.checkpoints.safetensors import SafetensorsTensor


@dataclass(frozen=True)
class Nvfp4Tensor(DequantizedTensor):
    """Weights in NVFP4.

    Attributes:
        scales: F8_E4M3 (rows, blocks).
        global_scale: F32 (1,), the divisor; None for 1.
    """

    BLOCK: ClassVar[int] = 16

    scales: SafetensorsTensor
    global_scale: SafetensorsTensor | None

    @property
    def column_unit(self) -> int:
        return self.BLOCK

    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        end, last = row + len(out), column + out.shape[1]
        look_up(self.codes.read_stored(row, end, slice(column // 2, math.ceil(last / 2))), E2M1_PAIRS, out)
        stored = self.scales.read_stored(row, end, slice(column // self.BLOCK, math.ceil(last / self.BLOCK)))
        scales = np.empty(stored.shape, np.float32)
        STORED_FLOAT8[self.scales.dtype].widen(stored, scales)
        if self.global_scale is not None:
            with np.errstate(divide="ignore"):
                np.divide(scales, self.global_scale.read_rows(0, 1), out=scales)
        scale_groups(out, scales, None, self.BLOCK)
