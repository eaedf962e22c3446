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
from converter.checkpoints.quantized.mxfp4 import read_mxfp4
from converter.checkpoints.quantized.parts import Parts
from converter.checkpoints.quantized.plausibility import refuse_inverse_scales
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
    "modelopt": read_fp8,
    "mxfp4": read_mxfp4,
}
"""``quant_method`` and what takes its parts and gives weights."""

_CODES = ("I8", "U8", "I32")


def dequantized(
    path: Path, config: Mapping[str, Any], tensors: Mapping[str, SafetensorsTensor]
) -> tuple[Mapping[str, SourceTensor], list[str]]:
    """The tensors as a model's code knows them: quantized weights under their plain names, their scales gone.

    Args:
        path: of ``config.json``, for messages.
        config: parsed.
        tensors: as the files hold them.

    Returns:
        ``tensors`` where the config has no ``quantization_config``; and what the user should know, a sentence each.

    Raises:
        CheckpointError: a method or a variant of one that is not read, or tensors that do not belong together.
    """
    settings = _settings(config)
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
    for name in parts.bases(""):
        tensor = tensors[name]
        if tensor.dtype in STORED_FLOAT8 or (tensor.dtype in _CODES and name.endswith(".weight")):
            raise parts.refused(name, f"is of type {tensor.dtype} and has no scale beside it; download it again")
    found = parts.tensors()
    refuse_inverse_scales(parts, found.values())
    return found, parts.notices


def _settings(config: Mapping[str, Any]) -> Any:
    """``quantization_config`` of the model or, in a multimodal checkpoint, of its text part."""
    text = config.get("text_config")
    for holder in (config, text if isinstance(text, dict) else {}):
        if holder.get("quantization_config") is not None:
            return holder["quantization_config"]
    return None
