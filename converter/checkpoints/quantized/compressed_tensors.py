"""The library compressed-tensors (llm-compressor, vLLM): int4, int8, FP8 and FP4 in its own names.

    pack-quantized              X.weight_packed I32, X.weight_scale, X.weight_shape, X.weight_zero_point if asymmetric
    int-, float-, naive-, mxfp8-quantized    X.weight I8 or FP8, X.weight_scale, X.weight_zero_point if asymmetric
    mxfp4-pack-quantized        X.weight_packed U8, X.weight_scale U8: an exponent for each block of 32
    nvfp4-pack-quantized        X.weight_packed U8, X.weight_scale FP8 for each block of 16, X.weight_global_scale

https://github.com/vllm-project/compressed-tensors, ``compressors/``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from converter.checkpoints.quantized.fp8 import drop_activation_scales
from converter.checkpoints.quantized.integers import IntegerTensor
from converter.checkpoints.quantized.mxfp4 import BLOCK, Mxfp4Tensor
from converter.checkpoints.quantized.nvfp4 import Nvfp4Tensor
from converter.checkpoints.quantized.packed import WORD, words
from converter.checkpoints.quantized.parts import FLOATS, Parts
from converter.checkpoints.quantized.scaled import EXPONENTS, take_scaled
from converter.errors import CheckpointError
from converter.sources.source_file import quoted

FORMATS = (
    "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mxfp8-quantized",
    "mxfp4-pack-quantized", "nvfp4-pack-quantized", "mixed-precision",
)  # fmt: skip


@dataclass(frozen=True)
class Scheme:
    """How one of ``config_groups`` quantizes weights.

    Attributes:
        type: ``int`` or ``float``.
        bits: of a code.
        symmetric: whether zero points are all the same.
        block: rows and columns under one scale, where that is neither a row nor the matrix.
    """

    type: str
    bits: int
    symmetric: bool
    block: tuple[int, int] | None


def read_compressed_tensors(parts: Parts) -> None:
    """Tell what each tensor is by its name and type, and its grid by ``config_groups``.

    Raises:
        CheckpointError: a format that is not read, a part is missing, or their shapes do not fit.
    """
    schemes = _schemes(parts)
    drop_activation_scales(parts)
    for base in parts.bases(".weight_packed"):
        packed = parts.get(f"{base}.weight_packed")
        assert packed is not None
        if packed.dtype == "I32":
            _give_integers(parts, f"{base}.weight", schemes)
        else:
            _give_fp4(parts, f"{base}.weight")
    for base in parts.bases(".weight_scale"):
        _give_scaled(parts, f"{base}.weight", schemes)


def _give_integers(parts: Parts, name: str, schemes: list[Scheme]) -> None:
    packed = f"{name}_packed"
    codes = parts.take(packed, packed, ("I32",), None, None)
    shape_tensor = parts.take(f"{name}_shape", packed, ("I64", "I32"), 2)
    rows, columns = (int(size) for size in shape_tensor.read_stored(0, 1)[0])
    scale = parts.take(f"{name}_scale", packed, FLOATS)
    fitting = {
        (scheme.bits, size, scheme.symmetric)
        for scheme in schemes
        if scheme.type == "int"
        and codes.shape == (rows, words(columns, scheme.bits))
        and (size := _group_size(scale.shape, rows, columns, scheme)) is not None
    }
    if len(fitting) != 1 or not rows or not columns:
        found = "several" if fitting else "none"
        raise parts.refused(
            packed,
            f"of shape {quoted(codes.shape)}, for weights of ({rows}, {columns}) with scales of {quoted(scale.shape)}, "
            f"fits {found} of config_groups in quantization_config; expected one that it fits",
        )
    bits, size, symmetric = fitting.pop()
    count = math.ceil(columns / size)
    zero_points = None
    if symmetric:
        _drop_symmetric_zeros(parts, f"{name}_zero_point", bits)
    else:
        zero_points = parts.take(f"{name}_zero_point", packed, ("I32",), words(rows, bits), count)
    groups = None
    if parts.get(f"{name}_g_idx") is not None:
        groups = parts.take(f"{name}_g_idx", packed, ("I32",), columns)
    scale = dataclasses.replace(scale, shape=(rows, count) if math.prod(scale.shape) > 1 else (1, 1))
    parts.give(IntegerTensor(name, "I32", (rows, columns), codes, scale, zero_points, groups, bits, size), packed)


def _group_size(scale: tuple[int, ...], rows: int, columns: int, scheme: Scheme) -> int | None:
    """Columns of a group; None where the scales' shape is not one of this scheme."""
    size = columns if scheme.block is None else scheme.block[1]
    count = math.ceil(columns / size) if columns else 0
    shapes = [(rows, count), *([(rows,), (1,), (), (1, 1)] if count == 1 else [])]
    return size if scale in shapes else None


def _give_fp4(parts: Parts, name: str) -> None:
    packed = f"{name}_packed"
    codes = parts.take(packed, packed, ("U8",), None, None)
    rows, columns = codes.shape[0], codes.shape[1] * 2
    if parts.get(f"{name}_global_scale") is not None:
        scale = parts.take(f"{name}_scale", packed, ("F8_E4M3",), rows, math.ceil(columns / Nvfp4Tensor.BLOCK))
        divisor = parts.take(f"{name}_global_scale", packed, ("F32",), 1)
        parts.give(Nvfp4Tensor(name, "F4", (rows, columns), codes, scale, divisor), packed)
    else:
        scale = parts.take(f"{name}_scale", packed, EXPONENTS, rows, math.ceil(columns / BLOCK))
        if columns % BLOCK:
            raise parts.refused(packed, f"holds rows of {columns} weights, expected a multiple of {BLOCK}")
        parts.give(Mxfp4Tensor(name, "F4", (rows, columns), codes, scale), packed)


def _give_scaled(parts: Parts, name: str, schemes: list[Scheme]) -> None:
    codes = parts.get(name)
    kind = "int" if codes is not None and codes.dtype == "I8" else "float"
    fitting = {(scheme.block, scheme.symmetric) for scheme in schemes if scheme.type == kind and scheme.bits <= 8}
    if codes is not None and len(fitting) != 1:
        found = "several" if fitting else "none"
        raise parts.refused(
            name,
            f"is of type {codes.dtype}, for which {found} of config_groups in quantization_config are; expected one",
        )
    block, symmetric = fitting.pop() if fitting else (None, True)
    zero_point = f"{name}_zero_point"
    if symmetric:
        _drop_symmetric_zeros(parts, zero_point)
    parts.give(take_scaled(parts, name, f"{name}_scale", None if symmetric else zero_point, block), name)


def _drop_symmetric_zeros(parts: Parts, name: str, bits: int = 8) -> None:
    """Leave out zero points that do nothing; there may be none.

    Args:
        parts: where to take from.
        name: their name.
        bits: of a zero point, where they are packed in words.

    Raises:
        CheckpointError: one of them does something, though ``symmetric`` says otherwise.
    """
    tensor = parts.get(name)
    if tensor is not None and tensor.dtype in ("I8", "I32", "I64") and tensor.nbytes:
        stored = tensor.read_stored(0, tensor.rows)
        # Packed, codes and zero points are stored above the smallest code; zeros of another tool may not be.
        nothing = sum(1 << (bits * (index + 1) - 1) for index in range(WORD // bits)) if tensor.dtype == "I32" else 0
        wrong = stored[(stored != 0) & (stored != nothing)]
        if len(wrong):
            raise parts.refused(
                name,
                f"holds zero points other than 0 ({int(wrong[0]):#x}), but symmetric in config_groups of "
                "quantization_config is true; correct it, or download the checkpoint again",
            )
    parts.take_any(name)


def _schemes(parts: Parts) -> list[Scheme]:
    """What ``config_groups`` says of weights.

    Raises:
        CheckpointError: a format, or an argument of weights, that is not read.
    """
    parts.setting("format", "mixed-precision", *FORMATS)
    if sparsity := parts.settings.get("sparsity_config"):
        within = sparsity if isinstance(sparsity, dict) else {"format": sparsity}
        parts.setting("format", "dense", "dense", within=within)
    parts.setting("transform_config", None, None, {})
    groups = parts.settings.get("config_groups")
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise CheckpointError(
            f"{parts.config}: config_groups in quantization_config is {quoted(groups)}, expected an object of objects"
        )
    schemes = []
    for group in groups.values():
        parts.setting("format", None, None, *FORMATS, within=group)
        if group.get("weights") is not None:
            schemes.append(_scheme(parts, group["weights"]))
    return schemes


def _scheme(parts: Parts, weights: Any) -> Scheme:
    if not isinstance(weights, dict):
        raise CheckpointError(f"{parts.config}: weights in config_groups is {quoted(weights)}, expected an object")
    kind = parts.setting("type", "int", "int", "float", within=weights)
    bits = parts.setting("num_bits", 8, *range(1, 9), within=weights)
    symmetric = parts.setting("symmetric", True, True, False, within=weights)
    group_size, structure = weights.get("group_size"), weights.get("block_structure")
    strategy = weights.get("strategy")
    if strategy is None:  # the library's own inference
        strategy = "tensor" if group_size is None else "group" if group_size != -1 else "channel"
    parts.setting(
        "strategy", None, "tensor", "channel", "group", "tensor_group", "block", within={"strategy": strategy}
    )
    block = structure if strategy == "block" else [1, group_size] if strategy in ("group", "tensor_group") else None
    if block is None:
        return Scheme(kind, bits, symmetric, None)
    if not isinstance(block, list) or len(block) != 2 or not all(type(size) is int and size > 0 for size in block):
        raise CheckpointError(
            f"{parts.config}: group_size {quoted(group_size)} and block_structure {quoted(structure)} in config_groups "
            f"do not suit strategy {strategy}; expected positive sizes"
        )
    return Scheme(kind, bits, symmetric, (block[0], block[1]))
