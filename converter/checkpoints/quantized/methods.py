"""Which reader knows which ``quant_method``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from converter.checkpoints.floats import STORED_FLOAT8
from converter.checkpoints.quantized.awq import read_awq
from converter.checkpoints.quantized.bitsandbytes import read_bitsandbytes
from converter.checkpoints.quantized.compressed_tensors import read_compressed_tensors
from converter.checkpoints.quantized.fp8 import read_fp8
from converter.checkpoints.quantized.gptq import read_gptq
from converter.checkpoints.quantized.implied import KINDS, implied_settings, mlx_settings
from converter.checkpoints.quantized.mlx import read_mlx
from converter.checkpoints.quantized.mxfp4 import read_mxfp4
from converter.checkpoints.quantized.parts import Parts
from converter.checkpoints.quantized.plausibility import refuse_inverse_scales
from converter.checkpoints.quantized.quanto import read_quanto
from converter.checkpoints.safetensors import SafetensorsTensor
from converter.checkpoints.tensor import SourceTensor
from converter.errors import CheckpointError
from converter.sources.source_file import quoted

METHODS: dict[str, Callable[[Parts], None]] = {
    "awq": read_awq,
    "bitsandbytes": read_bitsandbytes,
    "compressed-tensors": read_compressed_tensors,
    "fbgemm_fp8": read_fp8,
    "fp8": read_fp8,
    "gptq": read_gptq,
    "mlx": read_mlx,
    "modelopt": read_fp8,
    "mxfp4": read_mxfp4,
    "quanto": read_quanto,
}
"""``quant_method`` and what takes its parts and gives weights."""

_CODES = ("I8", "U8", "I32")


def dequantized(
    path: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, SafetensorsTensor],
    beside: Callable[[str], dict[str, Any] | None] = lambda _: None,
) -> tuple[Mapping[str, SourceTensor], list[str]]:
    """The tensors as a model's code knows them: quantized weights under their plain names, their scales gone.

    Args:
        path: of ``config.json``, for messages.
        config: parsed.
        tensors: as the files hold them.
        beside: reads another JSON file of the checkpoint by its name; None where there is none.

    Returns:
        The tensors, and what the user should know about them, a sentence each.

    Raises:
        CheckpointError: a method or a variant of one that is not read, or tensors that do not belong together.
    """
    settings, notices = _settings(path, config, tensors, beside)
    if settings is None:
        return tensors, []
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}: quantization_config is {quoted(settings)}, expected an object")
    method = settings.get("quant_method")
    if method is None and True in (settings.get("load_in_4bit"), settings.get("load_in_8bit")):
        method = "bitsandbytes"  # which did not name itself at first
    if not isinstance(method, str) or method not in METHODS:
        raise CheckpointError(
            f"{path}: quant_method in quantization_config is {quoted(method)}, which is not read; expected one of "
            f"{', '.join(METHODS)}; convert the checkpoint that was quantized"
        )
    parts = Parts(path, settings, tensors)
    METHODS[method](parts)
    remaining = {name: tensors[name] for name in parts.bases("")}
    other = next((kind.method for kind in KINDS if kind.is_it(remaining)), None)
    if other is not None:
        raise CheckpointError(
            f"{path}: quantization_config says {method}, but there are tensors as {other} stores them, such as "
            f"{next(iter(remaining))}; correct quantization_config, or download the checkpoint again"
        )
    for name, tensor in remaining.items():
        if tensor.dtype in STORED_FLOAT8 or (tensor.dtype in _CODES and name.endswith(".weight")):
            raise parts.refused(name, f"is of type {tensor.dtype} and has no scale beside it; download it again")
    found = parts.tensors()
    refuse_inverse_scales(parts, found.values())
    return found, notices + parts.notices


def _settings(
    path: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, SafetensorsTensor],
    beside: Callable[[str], dict[str, Any] | None],
) -> tuple[Any, list[str]]:
    """How weights are quantized: by config.json, by its part for the text model, or by what else there is to tell."""
    if (found := mlx_settings(config)) is not None:
        return found, []
    text = config.get("text_config")
    for holder in (config, text if isinstance(text, dict) else {}):
        if holder.get("quantization_config") is not None:
            return holder["quantization_config"], []
    implied = implied_settings(lambda settings: Parts(path, settings, tensors), tensors, beside)
    if implied is None:
        return None, []
    settings, where = implied
    return settings, [
        f"config.json has no quantization_config: weights are read as {settings['quant_method']}'s, as {where}"
    ]
