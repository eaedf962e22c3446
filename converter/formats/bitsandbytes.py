"""Weights as bitsandbytes stores them, written tile by tile with the very bytes that it makes on the CPU.

    bnb_4bit   X.weight           U8 (rows * columns / 2, 1): two codes a byte, the first in the high half
               X.weight.absmax    F32 (rows * columns / 64,): the largest magnitude of each block
               X.weight.quant_map F32 (16,): what the codes stand for, as shares of it
               X.weight.quant_state.bitsandbytes__nf4    U8: JSON
    bnb_8bit   X.weight           I8 (rows, columns)
               X.SCB              F32 (rows,): the largest magnitude of each row, which 127 stands for
               X.weight_format    U8 (): 0, rows as they are

bitsandbytes rounds weights to the model's type first: bfloat16 for 4 bits, and float16, which its integer products
work with, for 8 bits.

Source: ``quantize_4bit``, ``int8_vectorwise_quant`` and ``QuantState.as_dict`` of
https://github.com/bitsandbytes-foundation/bitsandbytes; the levels of NF4: https://arxiv.org/abs/2305.14314.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.architectures.target import TargetTensor
from converter.errors import RecipeError
from converter.formats.safetensors_scheme import BYTES, LEVELS, Scheme
from converter.plan import PlannedTensor
from converter.quants import QUANT_TYPES
from converter.quants.encoding import Encoding, StoredTensor, WeightTooLarge
from converter.quants.kernel import Source, Target, block_kernel
from converter.quants.lanes import Lanes

#: Weights under one scale.
BLOCK = 64
#: 4 bits: quantiles of the normal distribution.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
_LEVELS = np.array(NF4, np.float32)
_BOUNDS = ((_LEVELS[:-1] + _LEVELS[1:]) / 2).tolist()
_SMALLEST = 1e-38
_BLOCK_BYTES = 4 + BLOCK // 2


def _rounded_to_bfloat16(values: Lanes) -> Lanes:
    bits = values.bits()
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000).as_floats()


@block_kernel(BLOCK, _BLOCK_BYTES)
def _nf4(x: Source, out: Target) -> None:
    values = _rounded_to_bfloat16(x.load(0, BLOCK))
    peak = abs(values).max()
    shares = values * (1.0 / peak.at_least(_SMALLEST))
    codes = (shares > _BOUNDS[0]).where(1, 0)
    for bound in _BOUNDS[1:]:
        codes = codes + (shares > bound).where(1, 0)
    out.store(0, peak)
    out.store(4, ((codes.pick(range(0, BLOCK, 2)) << 4) | codes.pick(range(1, BLOCK, 2))).bytes())


@dataclass(frozen=True)
class FourBitEncoding(Encoding):
    """NF4, the scales left in float32."""

    takes_blocks: bool = False

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[StoredTensor, ...]:
        """Codes and scales.

        Raises:
            RecipeError: a row is not a whole number of blocks.
        """
        rows, columns = shape
        if columns % BLOCK:
            raise RecipeError(f"{name}: rows of {columns} weights are not a multiple of bitsandbytes' block of {BLOCK}")
        return (
            StoredTensor(name, "U8", (rows * columns // 2, 1), columns // 2),
            StoredTensor(f"{name}.absmax", "F32", (rows * columns // BLOCK,), 4 * columns // BLOCK),
        )

    def encode(
        self, rows: NDArray[np.float32], importance: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.uint8], ...]:
        n, columns = rows.shape
        blocks = np.empty((n, columns // BLOCK, _BLOCK_BYTES), np.uint8)
        _nf4(rows, blocks)
        scales = np.ascontiguousarray(blocks[:, :, :4])
        if infinite := int(np.count_nonzero(~np.isfinite(scales.view(np.float32)))):
            raise WeightTooLarge(infinite)
        return np.ascontiguousarray(blocks[:, :, 4:]).reshape(n, -1), scales.reshape(n, -1)


@dataclass(frozen=True)
class EightBitEncoding(Encoding):
    """Integers with a scale for each row."""

    takes_blocks: bool = False

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[StoredTensor, ...]:
        rows, columns = shape
        return (
            StoredTensor(name, "I8", shape, columns),
            StoredTensor(f"{name.removesuffix('weight')}SCB", "F32", (rows,), 4),
        )

    def encode(
        self, rows: NDArray[np.float32], importance: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.uint8], ...]:
        halves = QUANT_TYPES[self.block_type]
        values = halves.dequantize(self.checked(halves.quantize(rows)))
        peaks = np.maximum(values.max(axis=1), -values.min(axis=1))
        # Two roundings, as torch divides a number by a tensor.
        inverse = np.divide(np.float32(1), peaks, out=np.zeros_like(peaks), where=peaks > 0)
        values *= (inverse * np.float32(127))[:, None]
        np.rint(values, out=values)
        return values.astype(np.int8).view(np.uint8), peaks[:, None].view(np.uint8)


def _four_bit_constants(name: str, shape: tuple[int, ...]) -> tuple[PlannedTensor, ...]:
    state = {"quant_type": "nf4", "blocksize": BLOCK, "dtype": "bfloat16", "shape": list(shape)}
    text = tuple(map(float, json.dumps(state).encode()))
    return (
        PlannedTensor(TargetTensor(f"{name}.quant_map", (len(NF4),), values=NF4), LEVELS),
        PlannedTensor(TargetTensor(f"{name}.quant_state.bitsandbytes__nf4", (len(text),), values=text), BYTES),
    )


def _eight_bit_constants(name: str, shape: tuple[int, ...]) -> tuple[PlannedTensor, ...]:
    return (PlannedTensor(TargetTensor(f"{name}_format", (), values=(0.0,)), BYTES),)


def quantization_config(bits: int, plain: Sequence[str]) -> dict[str, Any]:
    """What transformers' ``BitsAndBytesConfig`` writes into ``config.json``.

    Args:
        bits: 4 or 8.
        plain: names of linear modules that are not quantized.
    """
    four = bits == 4
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": four,
        "load_in_8bit": not four,
        "_load_in_4bit": four,
        "_load_in_8bit": not four,
        "bnb_4bit_compute_dtype": "bfloat16" if four else "float32",
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": "nf4" if four else "fp4",
        "bnb_4bit_use_double_quant": False,
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_skip_modules": [name for name in plain if not name.startswith("re:")],
        "llm_int8_threshold": 6.0,
    }


_PACKAGE = ("bitsandbytes", "bitsandbytes accelerate")

#: By method.
SCHEMES = {
    "bnb_4bit": Scheme(
        FourBitEncoding("bitsandbytes nf4", "bf16"),
        plain="bf16",
        experts=False,
        constants=_four_bit_constants,
        configuration=partial(quantization_config, 4),
        package=_PACKAGE,
        derived=False,
    ),
    "bnb_8bit": Scheme(
        EightBitEncoding("bitsandbytes int8", "f16"),
        plain="f16",
        experts=False,
        constants=_eight_bit_constants,
        configuration=partial(quantization_config, 8),
        package=_PACKAGE,
        derived=False,
    ),
}
