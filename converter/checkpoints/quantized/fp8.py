"""FP8: DeepSeek-V3 and Qwen (``weight_scale_inv`` for blocks), static and per-row scales (``weight_scale``).

Despite its name ``weight_scale_inv`` is multiplied with, as ``weight_scale`` is
(https://huggingface.co/deepseek-ai/DeepSeek-V3/blob/main/inference/kernel.py, ``weight_dequant``).
"""

from __future__ import annotations

from converter.checkpoints.quantized.parts import Parts
from converter.checkpoints.quantized.scaled import take_scaled
from converter.errors import CheckpointError
from converter.sources.source_file import quoted

OF_ACTIVATIONS = (
    "activation_scale", ".input_scale", ".input_scale_ub", ".output_scale", ".qscale_act",
    ".q_scale", ".k_scale", ".v_scale", ".kv_scale", ".prob_scale", ".input_zero_point", ".input_global_scale",
    ".q_zero_point", ".k_zero_point", ".v_zero_point",
)  # fmt: skip
"""Endings of tensors that quantize activations or the cache while a model runs: a GGUF file has no use for them."""

_SCALES = (("_scale_inv", ""), (".qscale_weight", ".weight"), ("_scale", ""))
"""How a scale's name ends, and how its weight's name ends instead."""


def read_fp8(parts: Parts) -> None:
    """Scale each FP8 tensor by what lies beside it.

    Raises:
        CheckpointError: a scale or a weight is missing, or their shapes do not fit.
    """
    sizes, fbgemm = _block_sizes(parts), parts.settings.get("quant_method") == "fbgemm_fp8"
    drop_activation_scales(parts)
    for ending, weight_ending in _SCALES:
        for base in parts.bases(ending):
            name = base + weight_ending
            weight = parts.get(name)
            if ending == "_scale" and not name.endswith(".weight") and (weight is None or weight.dtype in _PLAIN):
                continue  # a parameter of the model that happens to be called a scale
            # transformers' FbgemmFp8Llama4TextExperts: (experts, inner, width) with scales (experts, width, 1)
            across = fbgemm and weight is not None and len(weight.shape) == 3 and name.endswith(".down_proj")
            parts.give(take_scaled(parts, name, base + ending, None, sizes, scales_transposed=across), name)


_PLAIN = ("F32", "F16", "BF16", "F64")


def drop_activation_scales(parts: Parts) -> None:
    for ending in OF_ACTIVATIONS:
        for base in parts.bases(ending):
            parts.take_any(base + ending)


def _block_sizes(parts: Parts) -> tuple[int, int] | None:
    sizes = parts.settings.get("weight_block_size", [128, 128])
    if sizes is None:
        return None
    if not isinstance(sizes, list) or len(sizes) != 2 or not all(type(size) is int and size > 0 for size in sizes):
        raise CheckpointError(
            f"{parts.config}: weight_block_size in quantization_config is {quoted(sizes)}, expected [rows, columns]"
        )
    return sizes[0], sizes[1]
