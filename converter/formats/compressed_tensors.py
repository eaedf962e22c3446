"""Weights in the layout of the library compressed-tensors, format ``pack-quantized``, which vLLM reads too.

    X.weight_packed      I32 (rows, columns * bits / 32): integers one after the other, the first in the lowest bits
    X.weight_scale       F16 (rows, columns / 32)
    X.weight_zero_point  I32 (rows * bits / 32, columns / 32): packed along a column; of asymmetric methods only
    X.weight_shape       I64 (2,): rows and columns

An integer is stored with half its range added; the weight is (integer - zero point) * scale. The symmetric methods
hold the very numbers of the GGUF blocks of the same name. GGUF's asymmetric blocks have a float minimum, for which
this layout has no room: q4_1 and q5_1 are what the library's own ``calculate_qparams`` and ``quantize`` make of the
same groups with float16 scales.

Source: ``compressors/pack_quantized`` and ``quantization/utils/helpers.py`` of
https://github.com/vllm-project/compressed-tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.architectures.target import TargetTensor
from converter.errors import RecipeError
from converter.formats.safetensors_scheme import INTEGERS, Scheme
from converter.plan import PlannedTensor
from converter.quants.encoding import Encoding, StoredTensor, WeightTooLarge
from converter.quants.kernel import Block, Source, Target, block_kernel, decoder
from converter.quants.lanes import Lanes
from converter.quants.simple import half, widened

#: Weights under one scale, as in a GGUF block.
GROUP = 32
WORD_BITS = 32

#: Has weights unpacked while they are loaded, instead of when the model first runs.
DENSE = {"dequantize": True}

#: What the library divides by where a scale would be zero: the spacing of float16 numbers at 1.
EPSILON = float(np.finfo(np.float16).eps)


# --- kernels: integers of a block in the order of their bits ---------------------------------------------------------


def _nibbles(values: Lanes) -> Lanes:
    """32 bytes below 16 as 16 bytes."""
    return values.pick(range(0, GROUP, 2)) | (values.pick(range(1, GROUP, 2)) << 4)


def _fives(out: Target, offset: int, values: Lanes) -> None:
    """Store 32 bytes below 32 as five words."""
    pairs = values.pick(range(0, GROUP, 2)).integers() | (values.pick(range(1, GROUP, 2)).integers() << 5)
    fours = pairs.pick(range(0, 16, 2)) | (pairs.pick(range(1, 16, 2)) << 10)
    a, b, c, d, e, f, g, h = (fours.lane(index) for index in range(8))  # of 20 bits
    words = (a | b << 20, b >> 12 | c << 8 | d << 28, d >> 4 | e << 16, e >> 16 | f << 4 | g << 24, g >> 8 | h << 12)
    for index, word in enumerate(words):
        out.store(offset + 4 * index, word)


def _low_bits(block: Block, offset: int) -> Lanes:
    packed = block.load(offset, 16)
    return (packed & 15).joined(packed >> 4)


# A decoder fills an array of float32, which here stands for one of words.
@decoder(18, 4)
def _pack_q4_0(block: Block, out: Target) -> None:
    out.store(0, _nibbles(_low_bits(block, 2)))


@decoder(22, 5)
def _pack_q5_0(block: Block, out: Target) -> None:
    low = _low_bits(block, 6)
    _fives(out, 0, low | block.word(2).unpacked().where(low.filled(16), low.filled(0)))


@decoder(34, 8)
def _pack_q8_0(block: Block, out: Target) -> None:
    out.store(0, block.load(2, GROUP) ^ -0x80)


PACK = {"q4_0": _pack_q4_0, "q5_0": _pack_q5_0, "q8_0": _pack_q8_0}


def _spread(x: Source, out: Target, bits: int) -> Lanes:
    """Store float16 scale and zero point (a byte), and give the integers, both with half their range added.

    The range of integers covers all values and zero. A group of zeros has zero point and integers of zero.
    """
    levels, middle = float(2**bits - 1), float(2 ** (bits - 1))
    values = x.load(0, GROUP)
    minimum = values.min().at_most(0.0)
    spread = (values.max().at_least(0.0) - minimum) / levels
    # The library's integers are signed and its steps round: -middle - minimum / spread, in this order.
    zero = ((minimum / spread).negated() - middle).at_most(middle - 1).at_least(-middle).rounded()
    zero = spread.equals(0.0).where(0.0, zero)
    scale = half(spread)
    rounded = widened(scale)
    rounded = rounded.equals(0.0).where(EPSILON, rounded)
    quants = (values / rounded + zero).at_least(-middle).at_most(middle - 1).rounded()
    out.store(0, half(rounded))
    out.store(2, (zero + middle).truncated().bytes())
    return (quants + middle).truncated().bytes()


@block_kernel(GROUP, 3 + 16)
def _spread_4(x: Source, out: Target) -> None:
    out.store(3, _nibbles(_spread(x, out, 4)))


@block_kernel(GROUP, 3 + 20)
def _spread_5(x: Source, out: Target) -> None:
    _fives(out, 3, _spread(x, out, 5))


SPREAD = {4: _spread_4, 5: _spread_5}


def _field(blocks: NDArray[np.uint8], block_bytes: int, first: int, count: int) -> NDArray[np.uint8]:
    """Bytes ``first`` to ``first + count`` of each block: (n, blocks * block_bytes) to (n, blocks * count)."""
    kind = np.dtype({"names": ["field"], "formats": [f"V{count}"], "offsets": [first], "itemsize": block_bytes})
    return np.ascontiguousarray(blocks.view(kind)["field"]).view(np.uint8)


# --- encodings -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackedEncoding(Encoding):
    """Symmetric: integers and scale of each GGUF block.

    Attributes:
        bits: of an integer.
    """

    bits: int = 8

    symmetric = True

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[StoredTensor, ...]:
        """All but the shape, which is a target of its own.

        Raises:
            RecipeError: a row is not a whole number of groups.
        """
        rows, columns = shape
        if columns % GROUP:
            raise RecipeError(f"{name}: rows of {columns} weights are not a multiple of the group of {GROUP}")
        words, groups = columns * self.bits // WORD_BITS, columns // GROUP
        return (
            StoredTensor(f"{name}_packed", "I32", (rows, words), 4 * words),
            StoredTensor(f"{name}_scale", "F16", (rows, groups), 2 * groups),
        )

    def split(self, blocks: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        n, row_bytes = blocks.shape
        size = self.kind.block_bytes
        packed = np.empty((n, row_bytes // size * self.bits), np.float32)
        PACK[self.block_type](blocks, packed)
        return packed.view(np.uint8), _field(blocks, size, 0, 2)


@dataclass(frozen=True)
class AsymmetricPackedEncoding(PackedEncoding):
    """The range of each group, zero included, spread over all integers, of which the zero point is one."""

    takes_blocks: bool = False

    symmetric = False

    def stored(self, name: str, shape: tuple[int, ...]) -> tuple[StoredTensor, ...]:
        """Raises as the symmetric ones, and where the zero points of a column are no whole number of words."""
        rows, columns = shape
        if rows % self.tile_rows:
            raise RecipeError(f"{name}: {rows} rows are not a multiple of {self.tile_rows}")
        groups = columns // GROUP
        words = self.tile_rows * self.bits // WORD_BITS
        shape_of_zeros = (rows // self.tile_rows * words, groups)
        zeros = StoredTensor(f"{name}_zero_point", "I32", shape_of_zeros, 4 * words * groups, self.tile_rows)
        return (*super().stored(name, shape), zeros)

    def encode(
        self, rows: NDArray[np.float32], importance: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.uint8], ...]:
        n, columns = rows.shape
        groups, size = columns // GROUP, 3 + 4 * self.bits
        data = np.empty((n, groups * size), np.uint8)
        SPREAD[self.bits](rows, data)
        scales = _field(data, size, 0, 2)
        if infinite := int(np.count_nonzero(scales.view(np.uint16) == 0x7C00)):
            raise WeightTooLarge(infinite)
        zeros = packed_columns(_field(data, size, 2, 1), self.bits)
        return _field(data, size, 3, size - 3), scales, zeros.reshape(n // self.tile_rows, -1).view(np.uint8)


def packed_columns(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint32]:
    """Numbers below ``2**bits`` packed along each column, row 0 lowest.

    Args:
        values: uint8 (n, columns), n such that the bits fill whole words.
        bits: of each number.

    Returns:
        uint32 (n * bits / 32, columns).
    """
    columns = values.shape[1]
    period = math.lcm(bits, WORD_BITS) // bits  # rows that fill whole words
    rows = values.reshape(-1, period, columns).astype(np.uint32)
    packed = np.zeros((len(rows), period * bits // WORD_BITS, columns), np.uint32)
    for row in range(period):
        word, shift = divmod(row * bits, WORD_BITS)
        packed[:, word] |= rows[:, row] << np.uint32(shift)
        if shift + bits > WORD_BITS:
            packed[:, word + 1] |= rows[:, row] >> np.uint32(WORD_BITS - shift)
    return packed.reshape(-1, columns)


#: By method. Eight zero points of four bits fill a word, and 32 of five bits five of them.
PACKED = {
    "q4_0": PackedEncoding("compressed-tensors q4_0", "q4_0", bits=4),
    "q5_0": PackedEncoding("compressed-tensors q5_0", "q5_0", bits=5),
    "q8_0": PackedEncoding("compressed-tensors q8_0", "q8_0", bits=8),
    "q4_1": AsymmetricPackedEncoding("compressed-tensors q4_1", "q4_1", tile_rows=8, bits=4),
    "q5_1": AsymmetricPackedEncoding("compressed-tensors q5_1", "q5_1", tile_rows=32, bits=5),
}


def quantization_config(encoding: PackedEncoding, ignore: Sequence[str]) -> dict[str, Any]:
    """What ``config.json`` says of the weights.

    Args:
        encoding: of all quantized weights.
        ignore: names of the linear modules whose weights are not, or ``re:`` and a pattern.
    """
    weights = {
        "num_bits": encoding.bits,
        "type": "int",
        "symmetric": encoding.symmetric,
        "strategy": "group",
        "group_size": GROUP,
        "dynamic": False,
        "actorder": None,
        "block_structure": None,
        "observer": "minmax",
        "observer_kwargs": {},
    }
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    config = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": list(ignore),
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }
    # The library cannot leave asymmetric weights packed while it loads: it expects their zero points unpacked.
    return config if encoding.symmetric else config | DENSE


def shape_of(name: str, shape: tuple[int, ...]) -> tuple[PlannedTensor, ...]:
    """The tensor that holds a weight's shape."""
    sizes = tuple(map(float, shape))
    return (PlannedTensor(TargetTensor(f"{name}_shape", (len(sizes),), values=sizes), INTEGERS),)


#: By method. transformers decompresses all single experts, and without zero points.
SCHEMES = {
    method: Scheme(
        encoding,
        plain="f16",
        experts=encoding.symmetric,
        constants=shape_of,
        configuration=partial(quantization_config, encoding),
        package=("compressed_tensors", "compressed-tensors"),
        dense=DENSE,
        plain_experts=False,
        keeps_bfloat16=True,
    )
    for method, encoding in PACKED.items()
}
