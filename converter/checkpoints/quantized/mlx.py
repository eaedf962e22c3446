"""MLX's quantized weights: integers of 2 to 8 bits in groups along a row, each group with a scale and a bias.

    X.weight U32 (…, out, in * bits / 32), from the lowest bit of a row's first word on, codes across words
    X.scales, X.biases (…, out, in / group_size)        weight = code * scale + bias, in the type of the scales

``quantization`` in config.json says bits and group_size, and the same or ``false`` for single modules by their names
(https://github.com/ml-explore/mlx-lm, ``utils.py``: ``load_model``). The modes mxfp4, mxfp8 and nvfp4 have no biases
and U8 scales, of the OCP's exponents or of NVIDIA's FP8 (https://github.com/ml-explore/mlx, ``ops.cpp``:
``fp_quantize``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.checkpoints.quantized.dequantized import DequantizedTensor
from converter.checkpoints.quantized.mxfp4 import Mxfp4Tensor
from converter.checkpoints.quantized.nvfp4 import Nvfp4Tensor
from converter.checkpoints.quantized.packed import WORD, codes_together, unpack, word_run
from converter.checkpoints.quantized.parts import FLOATS, Parts
from converter.checkpoints.quantized.scaled import ScaledTensor
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.errors import CheckpointError
from converter.sources.source_file import quoted

BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)
FIELD = "quantization"
_DEFAULTS: Mapping[str, Any] = {"bits": 4, "group_size": 64, "mode": "affine"}
_WORD_BYTES = WORD // 8


@dataclass(frozen=True)
class MlxTensor(DequantizedTensor):
    """Codes with a scale and a bias for each group of a row's columns.

    Attributes:
        scales, biases: (rows, groups), of one type.
        bits: of a code.
        group_size: columns of a group.
    """

    scales: SafetensorsTensor
    biases: SafetensorsTensor
    bits: int
    group_size: int

    @property
    def column_unit(self) -> int:
        return math.lcm(codes_together(self.bits), self.group_size)

    def dequantize(self, row: int, column: int, out: NDArray[np.float32]) -> None:
        end, last = row + len(out), column + out.shape[1]
        packed = self.codes.read_stored(row, end, word_run(column, last, self.bits)).view(np.uint8)
        np.copyto(out, unpack(packed, self.bits, out.shape[1]))
        grouped = out.reshape(len(out), -1, self.group_size)
        across, round_off = slice(column // self.group_size, last // self.group_size), _ROUNDING[self.scales.dtype]
        # mlx multiplies and adds in the type of the scales, rounding after each.
        np.multiply(grouped, self.scales.read_rows(row, end, across)[:, :, None], out=grouped)
        round_off(out)
        np.add(grouped, self.biases.read_rows(row, end, across)[:, :, None], out=grouped)
        round_off(out)


def _round_to_float16(values: NDArray[np.float32]) -> None:
    np.copyto(values, values.astype(np.float16))


def _round_to_bfloat16(values: NDArray[np.float32]) -> None:
    """To the nearest number whose lower 16 bits are zero, to an even one of two."""
    bits = values.view(np.uint32)
    odd = bits >> np.uint32(16)
    odd &= np.uint32(1)
    odd += np.uint32(0x7FFF)
    bits += odd
    bits &= np.uint32(0xFFFF0000)


_ROUNDING: Mapping[str, Callable[[NDArray[np.float32]], None]] = {
    "F32": lambda _: None,
    "F16": _round_to_float16,
    "BF16": _round_to_bfloat16,
}


def read_mlx(parts: Parts) -> None:
    """Put each ``X.weight`` of type U32 and its scales together.

    Raises:
        CheckpointError: a mode that is not read, a part is missing, or their shapes do not fit.
    """
    for base in parts.bases(".scales"):
        name = f"{base}.weight"
        stored = parts.get(name)
        if stored is None or stored.dtype != "U32":
            continue  # a parameter of the model that happens to be called so
        own = _settings_of(parts, base)
        mode = parts.setting("mode", "affine", *_MODES, within=own)
        codes = parts.take(name, name, ("U32",))
        _MODES[mode](parts, base, own, codes)
    for tensor in parts.remaining("U32"):
        raise parts.refused(tensor.name, "holds codes of MLX and has no scales beside it; download it again")


def _settings_of(parts: Parts, base: str) -> Mapping[str, Any]:
    """What the configuration says of a module, by its name or an end of the name that it has there."""
    own = parts.settings.get(base)
    if own is None:
        longer = [name for name in parts.settings if name.endswith(f".{base}") or base.endswith(f".{name}")]
        own = parts.settings[longer[0]] if len(longer) == 1 else None
    if isinstance(own, dict):
        return {**_DEFAULTS, **own}
    if own in (None, True):
        return {**_DEFAULTS, **{name: parts.settings[name] for name in _DEFAULTS if name in parts.settings}}
    raise CheckpointError(
        f"{parts.config}: {base} in {FIELD} is {quoted(own)}, but the module has scales; expected an object "
        "of bits and group_size"
    )


def _give_affine(parts: Parts, base: str, own: Mapping[str, Any], codes: SafetensorsTensor) -> None:
    name = codes.name
    bits = parts.setting("bits", 4, *BITS, within=own)
    size = parts.setting("group_size", 64, *GROUP_SIZES, within=own)
    columns, groups = _columns(parts, codes, bits, size)
    shape = (*codes.shape[:-1], groups)
    scales = parts.take(f"{base}.scales", name, FLOATS, *shape)
    biases = parts.take(f"{base}.biases", name, (scales.dtype,), *shape)
    parts.give(MlxTensor(name, "U32", (*codes.shape[:-1], columns), codes, scales, biases, bits, size), name)


def _give_mxfp4(parts: Parts, base: str, own: Mapping[str, Any], codes: SafetensorsTensor) -> None:
    columns, scales = _fp_scales(parts, base, own, codes, 4, 32)
    shape = (*codes.shape[:-1], columns)
    parts.give(Mxfp4Tensor(codes.name, "F4", shape, _bytes(codes, "U8"), scales), codes.name)


def _give_mxfp8(parts: Parts, base: str, own: Mapping[str, Any], codes: SafetensorsTensor) -> None:
    columns, scales = _fp_scales(parts, base, own, codes, 8, 32)
    numbers = _bytes(codes, "F8_E4M3")
    shape = (*codes.shape[:-1], columns)
    parts.give(ScaledTensor(codes.name, "F8_E4M3", shape, numbers, scales, None, (1, 32)), codes.name)


def _give_nvfp4(parts: Parts, base: str, own: Mapping[str, Any], codes: SafetensorsTensor) -> None:
    columns, scales = _fp_scales(parts, base, own, codes, 4, Nvfp4Tensor.BLOCK)
    scales = dataclasses.replace(scales, dtype="F8_E4M3")
    shape = (*codes.shape[:-1], columns)
    parts.give(Nvfp4Tensor(codes.name, "F4", shape, _bytes(codes, "U8"), scales, None), codes.name)


_MODES: Mapping[str, Callable[[Parts, str, Mapping[str, Any], SafetensorsTensor], None]] = {
    "affine": _give_affine,
    "mxfp4": _give_mxfp4,
    "mxfp8": _give_mxfp8,
    "nvfp4": _give_nvfp4,
}


def _fp_scales(
    parts: Parts, base: str, own: Mapping[str, Any], codes: SafetensorsTensor, bits: int, size: int
) -> tuple[int, SafetensorsTensor]:
    """Columns of the weights, and the scales of their groups."""
    parts.setting("bits", bits, bits, within=own)
    parts.setting("group_size", size, size, within=own)
    columns, groups = _columns(parts, codes, bits, size)
    return columns, parts.take(f"{base}.scales", codes.name, ("U8",), *codes.shape[:-1], groups)


def _columns(parts: Parts, codes: SafetensorsTensor, bits: int, size: int) -> tuple[int, int]:
    """Weights and groups of a row."""
    filled = codes.row_length * WORD
    if len(codes.shape) < 2 or not codes.rows or not filled or filled % bits or filled // bits % size:
        raise parts.refused(
            codes.name,
            f"has shape {quoted(codes.shape)}, which groups of {size} weights of {bits} bits do not fill; correct "
            f"{FIELD} in {parts.config.name}, or download the checkpoint again",
        )
    return filled // bits, filled // bits // size


def _bytes(codes: SafetensorsTensor, dtype: str) -> SafetensorsTensor:
    """Words seen as what lies in them, byte by byte."""
    return dataclasses.replace(codes, dtype=dtype, shape=(*codes.shape[:-1], codes.row_length * _WORD_BYTES))
