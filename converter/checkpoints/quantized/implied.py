"""What quantized a checkpoint whose config.json doesn't say it: a file beside it, or the tensors themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from converter.checkpoints.floats import STORED_FLOAT8
from converter.checkpoints.quantized.mlx import FIELD
from converter.checkpoints.quantized.packed import WORD
from converter.checkpoints.quantized.packing import GPTQ, packing_of
from converter.checkpoints.quantized.parts import Parts
from converter.checkpoints.safetensors import SafetensorsTensor

Tensors = Mapping[str, SafetensorsTensor]
Settings = dict[str, Any]

BESIDE: Mapping[str, Callable[[Settings], Settings]] = {
    "quantize_config.json": lambda found: {"quant_method": "gptq", **found},  # AutoGPTQ, GPTQModel
    "quant_config.json": lambda found: {  # AutoAWQ, with names of its own at first
        "quant_method": "awq",
        **found,
        **{new: found[old] for old, new in (("w_bit", "bits"), ("q_group_size", "group_size")) if old in found},
    },
}
"""Files beside config.json that tools wrote what later stood in it, and how they are understood as such."""
BY_TOOLS = ("gptq", "awq")
"""Methods whose tools wrote such files."""


@dataclass(frozen=True)
class Implied:
    """A method that tensors give away.

    Attributes:
        method: a ``quant_method``.
        is_it: whether these are its tensors.
        settings: what ``quantization_config`` would say beside the method; None where the tensors don't tell.
    """

    method: str
    is_it: Callable[[Tensors], bool]
    settings: Callable[[Tensors], Settings | None] = lambda _: {}


def implied_settings(
    parts_of: Callable[[Settings], Parts], tensors: Tensors, beside: Callable[[str], Settings | None]
) -> tuple[Settings, str] | None:
    """What ``quantization_config`` would say; None where no tensor is known to be quantized.

    Args:
        parts_of: gives the parts of a checkpoint with such settings.
        tensors: all stored tensors by name.
        beside: reads another JSON file of the checkpoint by its name; None where there is none.

    Returns:
        The settings, and what tells them: the rest of a sentence after "as".

    Raises:
        CheckpointError: the method is known, but not what else it takes.
    """
    kind = next((kind for kind in KINDS if kind.is_it(tensors)), None)
    if kind is None:
        return None
    for name, understood in BESIDE.items():
        if kind.method in BY_TOOLS and (found := beside(name)) is not None:
            return understood(found), f"{name} says"
    settings = kind.settings(tensors)
    if settings is None:
        first = next(iter(tensors.values()))
        raise parts_of({}).refused(
            first.name,
            f"is of a checkpoint quantized with {kind.method}, but config.json does not say how "
            f"({'quantization' if kind.method == 'mlx' else 'quantization_config'} is missing); download the original "
            "config.json",
        )
    return {"quant_method": kind.method, **settings}, "the names and shapes of the tensors tell"


def _has(ending: str, other: str, *dtypes: str) -> Callable[[Tensors], bool]:
    """Whether a tensor of one of the types has another beside it: their names have different ends."""

    def test(tensors: Tensors) -> bool:
        return any(
            tensor.dtype in dtypes and f"{name.removesuffix(ending)}{other}" in tensors
            for name, tensor in tensors.items()
            if name.endswith(ending)
        )

    return test


def _of_gptq(tensors: Tensors) -> Settings | None:
    """Bits and group size from shapes; the order of columns is in ``g_idx``, symmetry in the zero points."""
    base = next(name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight"))
    codes, scales, zeros = (tensors.get(f"{base}.{part}") for part in ("qweight", "scales", "qzeros"))
    if codes is None or scales is None or zeros is None or not codes.row_length or not scales.rows:
        return None
    bits, rest = divmod(zeros.row_length * WORD, codes.row_length)
    columns = codes.rows * WORD // bits if bits else 0
    return None if rest or not columns else {"bits": bits, "group_size": math.ceil(columns / scales.rows)}


def _of_awq(tensors: Tensors) -> Settings | None:
    base = next(name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight"))
    codes, scales = tensors[f"{base}.qweight"], tensors[f"{base}.scales"]
    return {"bits": 4, "group_size": math.ceil(codes.rows / scales.rows)} if scales.rows else None


def _packed(*packings: str | None, negated: bool = False) -> Callable[[Tensors], bool]:
    def test(tensors: Tensors) -> bool:
        bases = (name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight"))
        return any(f"{base}.qzeros" in tensors and (packing_of(tensors, base) in packings) != negated for base in bases)

    return test


def _of_compressed_tensors(tensors: Tensors) -> Settings | None:
    """A group of ``config_groups`` for each kind of ``weight_packed`` there is."""
    groups: list[Settings] = []
    for name, packed in tensors.items():
        base = name.removesuffix("_packed")
        scale, shape = tensors.get(f"{base}_scale"), tensors.get(f"{base}_shape")
        if base == name or scale is None or shape is None or shape.nbytes not in (8, 16) or shape.dtype[0] != "I":
            continue
        rows, columns = (int(size) for size in shape.read_stored(0, 1)[0])
        if rows != packed.rows or not columns or not scale.row_length or columns % scale.row_length:
            return None
        weights = {
            "type": "int",
            "num_bits": packed.row_length * WORD // columns,
            "strategy": "group",
            "group_size": columns // scale.row_length,
            "symmetric": f"{base}_zero_point" not in tensors,
        }
        if weights not in groups:
            groups.append(weights)
    return (
        {"config_groups": {str(number): {"weights": weights} for number, weights in enumerate(groups)}}
        if groups
        else None
    )


KINDS = (
    Implied("bitsandbytes", _has(".weight", ".SCB", "I8")),
    Implied(
        "bitsandbytes", lambda tensors: any(".quant_state.bitsandbytes__" in name for name in tensors)
    ),
    Implied("bitsandbytes", _has(".weight", ".weight.absmax", "U8"), lambda _: None),
    Implied("gptq", _packed(GPTQ), _of_gptq),
    Implied("awq", _packed(GPTQ, negated=True), _of_awq),
    Implied("fp8", _has("", "_scale_inv", *STORED_FLOAT8)),
    Implied("fp8", _has("", "_scale", *STORED_FLOAT8)),
    Implied("mxfp4", _has("_blocks", "_scales", "U8")),
    Implied("quanto", _has("._data", "._scale", "I8", *STORED_FLOAT8)),
    Implied("compressed-tensors", _has("_packed", "_shape", "I32"), _of_compressed_tensors),
    Implied("mlx", _has(".weight", ".scales", "U32"), lambda _: None),
)  # fmt: skip
"""Methods by their tensors; the first that fits counts. What MLX needs stands in ``quantization`` of config.json."""


def mlx_settings(config: Mapping[str, Any]) -> Settings | None:
    """What MLX says of its quantization: under its own name, or under transformers' without a method."""
    for field in (FIELD, "quantization_config"):
        found = config.get(field)
        if isinstance(found, dict) and "quant_method" not in found and {"bits", "group_size"} <= found.keys():
            return {**found, "quant_method": "mlx"}
    return None
