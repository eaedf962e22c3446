"""bitsandbytes: 4 bits with a table of levels (NF4, FP4), and int8 with a scale for each row.

    4 bits   X.weight                 two codes per byte, the high half first, of the matrix laid end to end
             X.weight.quant_map       F32 (16,): the level of each code
             X.weight.absmax          the scale of each block of ``blocksize`` codes: F32, or U8 if it is nested, then
                                      nested_quant_map[absmax] * nested_absmax[i // nested_blocksize] + nested_offset
             X.weight.quant_state.bitsandbytes__nf4     U8: JSON with shape, blocksize, nested_blocksize, nested_offset
    int8     X.weight I8, X.SCB F32 (rows,):            weight = code * SCB / 127

https://github.com/bitsandbytes-foundation/bitsandbytes, ``functional.py``: ``QuantState``, ``int8_vectorwise_dequant``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.quantized.dequantized import DequantizedTensor
from converter.checkpoints.quantized.groups import scale_groups
from converter.checkpoints.quantized.packed import look_up, table_of
from converter.checkpoints.quantized.parts import Parts
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.sources.source_file import parse_json_object, quoted

BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
_STATE = ".quant_state.bitsandbytes__"
_STATE_LIMIT = 2**16
_STORAGE = ("U8", "I8", "F16", "BF16", "F32")
"""Types in which the bytes of codes are stored; training in shards wants them to look like other weights."""
_INVERSE_OF_127 = np.float32(7.874015718698502e-3)


@dataclass(frozen=True)
class Nested:
    """Scales that are quantized themselves.

    Attributes:
        levels: F32 (256,).
        absmax: F32 (blocks of scales,).
        block: scales of a block.
        offset: added to each scale.
    """

    levels: SafetensorsTensor
    absmax: SafetensorsTensor
    block: int
    offset: float


@dataclass(frozen=True)
class FourBitTensor(DequantizedTensor):
    """NF4 or FP4.

    Attributes:
        levels: F32 (16,).
        absmax: (blocks,); F32, or U8 if ``nested``.
        block: weights of a block, which runs on from row to row.
        nested: what the scales are made of.
    """

    levels: SafetensorsTensor
    absmax: SafetensorsTensor
    block: int
    nested: Nested | None

    @property
    def nbytes(self) -> int:
        return super().nbytes + (self.nested.levels.nbytes + self.nested.absmax.nbytes if self.nested else 0)

    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        table = table_of(self.levels.read_rows(0, 1)[0])[:, ::-1]
        if out.shape[1] == self.row_length:
            self._dequantize_run(row * self.row_length, table, out.reshape(-1))
            return
        for index, part in enumerate(out):
            self._dequantize_run((row + index) * self.row_length + column, table, part)

    def _dequantize_run(self, begin: int, table: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Fill ``out`` with consecutive weights, from the one at index ``begin`` on."""
        first, last = begin // self.block, math.ceil((begin + out.size) / self.block)
        low, high = first * self.block, min(last * self.block, self.rows * self.row_length)
        whole = (low, high) == (begin, begin + out.size)
        run = (out if whole else np.empty(high - low, np.float32)).reshape(1, -1)
        look_up(self.codes.read_stored(0, 1, slice(low // 2, math.ceil(high / 2))), table, run)
        scale_groups(run, self._scales(first, last), None, self.block)
        if not whole:
            np.copyto(out, run[0, begin - low : begin - low + out.size])

    def _scales(self, first: int, last: int) -> NDArray[np.float32]:
        """The scales of a run of blocks, shape (1, blocks)."""
        if self.nested is None:
            return self.absmax.read_rows(0, 1, slice(first, last))
        scales: NDArray[np.float32] = self.nested.levels.read_rows(0, 1)[0][
            self.absmax.read_stored(0, 1, slice(first, last))
        ]
        block = np.arange(first, last) // self.nested.block
        scales *= self.nested.absmax.read_rows(0, 1, slice(int(block[0]), int(block[-1]) + 1))[:, block - block[0]]
        scales += np.float32(self.nested.offset)
        return scales


@dataclass(frozen=True)
class RowScaledTensor(DequantizedTensor):
    """int8 with the largest magnitude of each row.

    Attributes:
        absmax: F32 (rows,).
    """

    absmax: SafetensorsTensor

    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        end = row + len(out)
        np.copyto(out, self.codes.read_stored(row, end, slice(column, column + out.shape[1])).view(np.int8))
        out *= self.absmax.read_rows(0, 1, slice(row, end)).T
        out *= _INVERSE_OF_127


def read_bitsandbytes(parts: Parts) -> None:
    """Put codes and scales together, for 4 bits and for int8.

    Raises:
        CheckpointError: a variant that is not read, a part is missing, or their shapes do not fit.
    """
    for kind in ("nf4", "fp4"):
        for name in parts.bases(f"{_STATE}{kind}"):
            _give_four_bits(parts, name, f"{name}{_STATE}{kind}", kind)
    for base in parts.bases(".SCB"):
        name = f"{base}.weight"
        codes = parts.take(name, f"{base}.SCB", ("I8",), None, None)
        absmax = parts.take(f"{base}.SCB", name, ("F32",), codes.shape[0])
        order = parts.get(f"{base}.weight_format")
        if order is not None and parts.take(order.name, name, ("U8",)).nbytes == 1 and order.read_stored(0, 1).any():
            raise parts.refused(order.name, "says that the weights are tiled for a GPU; save them in row order")
        parts.give(RowScaledTensor(name, codes.dtype, codes.shape, codes, absmax), name)
    for ending in (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".weight_format"):
        for base in parts.bases(ending):
            raise parts.refused(f"{base}{ending}", f"has no quant_state of {base} beside it; download it again")


def _give_four_bits(parts: Parts, name: str, state_name: str, kind: str) -> None:
    state_tensor = parts.take(state_name, name, ("U8",), None)
    if state_tensor.nbytes > _STATE_LIMIT:
        raise parts.refused(state_name, f"is {state_tensor.nbytes} bytes long, expected at most {_STATE_LIMIT}")
    where = f"{state_tensor.file.path}: tensor {state_name}"
    state = parse_json_object(state_tensor.read_stored(0, 1).tobytes(), where)
    shape = state.get("shape")
    if not isinstance(shape, list) or not shape or not all(type(size) is int and size > 0 for size in shape):
        raise parts.refused(state_name, f"says shape {quoted(shape)}, expected a list of sizes")
    if state.get("quant_type") != kind:
        raise parts.refused(state_name, f"says quant_type {quoted(state.get('quant_type'))}, expected {kind}")
    count, block = math.prod(shape), _block(parts, state_name, state, "blocksize")
    stored = parts.take(name, state_name, _STORAGE)
    if stored.nbytes != math.ceil(count / 2):
        raise parts.refused(name, f"has {stored.nbytes} bytes, expected {math.ceil(count / 2)} for shape {shape}")
    codes = dataclasses.replace(stored, dtype="U8", shape=(stored.nbytes,))
    levels = parts.take(f"{name}.quant_map", name, ("F32",), 16)
    blocks = math.ceil(count / block)
    nested = None
    if "nested_blocksize" in state:
        nested = _nested(parts, name, state_name, state, blocks)
    absmax = parts.take(f"{name}.absmax", name, ("F32",) if nested is None else ("U8",), blocks)
    parts.give(FourBitTensor(name, "U8", tuple(shape), codes, levels, absmax, block, nested), name)


def _nested(parts: Parts, name: str, state_name: str, state: dict[str, Any], blocks: int) -> Nested:
    block = _block(parts, state_name, state, "nested_blocksize")
    offset = state.get("nested_offset")
    if not isinstance(offset, float | int) or isinstance(offset, bool) or not math.isfinite(offset):
        raise parts.refused(state_name, f"says nested_offset {quoted(offset)}, expected a number")
    return Nested(
        parts.take(f"{name}.nested_quant_map", name, ("F32",), 256),
        parts.take(f"{name}.nested_absmax", name, ("F32",), math.ceil(blocks / block)),
        block,
        float(offset),
    )


def _block(parts: Parts, state_name: str, state: dict[str, Any], field: str) -> int:
    size = state.get(field)
    if type(size) is not int or size not in BLOCK_SIZES:
        expected = ", ".join(map(str, BLOCK_SIZES))
        raise parts.refused(state_name, f"says {field} {quoted(size)}, expected one of {expected}")
    return size
