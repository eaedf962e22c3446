"""The registry of tensor types: for each its block, its bytes, and who quantizes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.errors import RecipeError
from converter.quants import ggml


class FloatField(NamedTuple):
    """A floating-point number inside a block: not finite where all its exponent bits are set.

    Attributes:
        dtype: unsigned integer, little endian, that covers the exponent.
        offset: bytes from the start of the block.
        exponent: mask of the exponent's bits in that integer.
    """

    dtype: str
    offset: int
    exponent: int


def _half(offset: int) -> FloatField:
    return FloatField("<u2", offset, 0x7C00)


@dataclass(frozen=True)
class QuantType:
    """One way to store the rows of a tensor.

    Attributes:
        name: lower-case name in ``gguf.GGMLQuantizationType``.
        ggml_type: value in ``gguf.GGMLQuantizationType``, as stored in a GGUF file.
        block_size: elements of one block; a row is a whole number of blocks.
        block_bytes: bytes of one block.
        fields: the floating-point numbers of a block.
        module: module of this package with ``quantize_<name>(rows, out)``, which returns the indices of rows that are
            left to ggml; None where ggml's function does all.
        dequantizer: module with ``dequantize_<name>(data, out)``; None where ggml's function is used.
        weighted: module with ``quantize_<name>_weighted(rows, out, importance)``; None where ggml's function is used.
        ignores_importance: whether an importance matrix changes nothing.
        requires_importance: whether ggml stops the process without an importance matrix.
        run: columns that ggml stores as zeros, or at random, where none of them has any importance: those that share a
            scale, or a whole block where ggml finds the scale without it.
    """

    name: str
    ggml_type: int
    block_size: int
    block_bytes: int
    fields: tuple[FloatField, ...]
    module: str | None = None
    dequantizer: str | None = None
    weighted: str | None = None
    ignores_importance: bool = False
    requires_importance: bool = False
    scale_run: int | None = None

    @property
    def run(self) -> int:
        return self.scale_run or self.block_size

    @property
    def bits_per_weight(self) -> float:
        return self.block_bytes * 8 / self.block_size

    def row_bytes(self, row_length: int) -> int:
        """Bytes of a row of ``row_length`` elements.

        Raises:
            RecipeError: the row is not a whole number of blocks.
        """
        if row_length % self.block_size:
            raise RecipeError(
                f"{self.name}: rows of {row_length} elements are not a multiple of its block of {self.block_size}; "
                f"choose a type with a smaller block"
            )
        return row_length // self.block_size * self.block_bytes

    def quantize(
        self,
        rows: NDArray[np.float32],
        out: NDArray[np.uint8] | None = None,
        importance: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        """Quantize rows; the bytes are those of ``ggml_quantize_chunk``.

        Safe to call from several threads at once; the GIL is released while it computes.

        Args:
            rows: float32 (n, row_length), C-contiguous, without NaN or infinity.
            out: uint8 (n, row_bytes), C-contiguous, to be filled; a fresh array by default.
            importance: float32 (row_length,), finite and not negative: weight of each column's squared error.

        Returns:
            ``out``.

        Raises:
            RecipeError: the row is not a whole number of blocks, or the type needs an importance matrix.
            ValueError: an array of another shape, type or order.
        """
        n, row_length = rows.shape
        _check(rows, np.float32, (n, row_length))
        shape = n, self.row_bytes(row_length)
        if out is None:
            out = np.empty(shape, np.uint8)
        _check(out, np.uint8, shape)
        if importance is not None:
            _check(importance, np.float32, (row_length,))
        if self.ignores_importance:
            importance = None
        module, suffix = (self.module, "") if importance is None else (self.weighted, "_weighted")
        if module is not None:
            kernel = _function(module, f"quantize_{self.name}{suffix}")
            for row in kernel(rows, out, importance):
                ggml.quantize(self.ggml_type, rows[row : row + 1], out[row : row + 1], importance)
        elif importance is None and self.requires_importance:
            raise RecipeError(
                f"{self.name} cannot be made without an importance matrix; give one or choose a larger type"
            )
        else:
            ggml.quantize(self.ggml_type, rows, out, importance)
        return out

    def dequantize(self, data: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The values that ``data`` stands for, bit for bit those of ggml, save that one NaN stands for all.

        Args:
            data: uint8 (n, row_bytes), C-contiguous.

        Returns:
            float32 (n, row_length).

        Raises:
            ValueError: an array of another type or order, or rows that are not whole blocks.
        """
        _check(data, np.uint8, self._whole_blocks(data))
        out = np.empty((len(data), data.shape[1] // self.block_bytes * self.block_size), np.float32)
        if self.dequantizer is not None:
            _function(self.dequantizer, f"dequantize_{self.name}")(data, out)
        else:
            ggml.dequantize(self.ggml_type, data, out)
        return out

    def overflowed(self, data: NDArray[np.uint8]) -> int:
        """How many blocks hold a number that is not finite, because a weight was too large for the type.

        Zero exactly where ``ggml_validate_row_data``, which every loader may run, accepts the bytes.

        Args:
            data: uint8 (n, row_bytes), C-contiguous.
        """
        _check(data, np.uint8, self._whole_blocks(data))
        blocks = data.reshape(-1).view([("block", np.void, self.block_bytes)])
        bad = np.zeros(len(blocks), np.bool_)
        for dtype, offset, exponent in self.fields:
            field = blocks.getfield(dtype, offset)
            mask = field.dtype.type(exponent)
            bad |= (field & mask) == mask
        return int(np.count_nonzero(bad))

    def _whole_blocks(self, data: NDArray[np.uint8]) -> tuple[int, int]:
        """The shape that ``data`` should have."""
        n, row_bytes = data.shape
        return n, row_bytes - row_bytes % self.block_bytes


def _check(array: NDArray[Any], dtype: Any, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        order = "C-contiguous" if array.flags.c_contiguous else "not C-contiguous"
        raise ValueError(
            f"expected a C-contiguous {np.dtype(dtype).name} array of shape {shape}, "
            f"found {array.dtype.name} of shape {array.shape}, {order}"
        )


def _function(module: str, name: str) -> Any:
    return getattr(import_module(f"converter.quants.{module}"), name)


_SIMPLE, _VALUES = "simple", "values"

# Layouts: block_* structures of ggml-common.h.
_TYPES = (
    QuantType("f32", 0, 1, 4, (FloatField("<u4", 0, 0x7F800000),), _SIMPLE, _VALUES, ignores_importance=True),
    QuantType("f16", 1, 1, 2, (_half(0),), _SIMPLE, _VALUES, ignores_importance=True),
    QuantType("bf16", 30, 1, 2, (FloatField("<u2", 0, 0x7F80),), _SIMPLE, _VALUES, ignores_importance=True),
    QuantType("q8_0", 8, 32, 34, (_half(0),), _SIMPLE, _VALUES, ignores_importance=True),
    QuantType("q4_0", 2, 32, 18, (_half(0),), _SIMPLE, _VALUES, "weighted"),
    QuantType("q4_1", 3, 32, 20, (_half(0), _half(2)), _SIMPLE, _VALUES, "weighted"),
    QuantType("q5_0", 6, 32, 22, (_half(0),), _SIMPLE, _VALUES, "weighted"),
    QuantType("q5_1", 7, 32, 24, (_half(0), _half(2)), _SIMPLE, _VALUES, "weighted"),
    QuantType("q2_k", 10, 256, 84, (_half(80), _half(82)), "k_quants", _VALUES, "k_quants"),
    QuantType("q3_k", 11, 256, 110, (_half(108),), "k_quants", _VALUES, "k_quants", scale_run=16),
    QuantType("q4_k", 12, 256, 144, (_half(0), _half(2)), "k_quants", _VALUES, "k_quants"),
    QuantType("q5_k", 13, 256, 176, (_half(0), _half(2)), "k_quants", _VALUES, "k_quants"),
    QuantType("q6_k", 14, 256, 210, (_half(208),), "k_quants", _VALUES, "k_quants", scale_run=16),
    QuantType("iq1_s", 19, 256, 50, (_half(0),), requires_importance=True, scale_run=32),
    # The scale of iq1_m is spread over the top nibbles of four 16-bit words, low nibble first.
    QuantType("iq1_m", 29, 256, 56, (FloatField("<u8", 48, 0x7000_C000_0000_0000),), scale_run=8),
    QuantType("iq2_xxs", 16, 256, 66, (_half(0),), requires_importance=True, scale_run=32),
    QuantType("iq2_xs", 17, 256, 74, (_half(0),), requires_importance=True, scale_run=16),
    QuantType("iq2_s", 22, 256, 82, (_half(0),), scale_run=16),
    QuantType("iq3_xxs", 18, 256, 98, (_half(0),), scale_run=32),
    QuantType("iq3_s", 21, 256, 110, (_half(0),)),
    QuantType("iq4_nl", 20, 32, 18, (_half(0),), "lookup", _VALUES, "lookup"),
    QuantType("iq4_xs", 23, 256, 136, (_half(0),), "lookup", _VALUES, "lookup", scale_run=32),
    QuantType("tq1_0", 34, 256, 54, (_half(52),), "ternary", _VALUES, ignores_importance=True),
    QuantType("tq2_0", 35, 256, 66, (_half(64),), "ternary", _VALUES, ignores_importance=True),
    QuantType("mxfp4", 39, 32, 17, (FloatField("u1", 0, 0xFF),), "lookup", _VALUES, ignores_importance=True),
    # nvfp4's scales are small unsigned floats without infinities.
    QuantType("nvfp4", 40, 64, 36, (), ignores_importance=True),
    QuantType("q1_0", 41, 128, 18, (_half(0),), ignores_importance=True),
)

QUANT_TYPES: Mapping[str, QuantType] = MappingProxyType({quant.name: quant for quant in _TYPES})
