"""Weights in a form that is not read: told by the names, types and shapes of tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from converter.checkpoints.safetensors import SafetensorsTensor
from converter.errors import CheckpointError

_QUANTIZED = "which is not read; convert the checkpoint that was quantized"


@dataclass(frozen=True)
class Foreign:
    """A form of weights.

    Attributes:
        pattern: a regular expression of the names of tensors that only it has.
        what: what such a tensor is, and what to do: the rest of a sentence.
    """

    pattern: str
    what: str


REFUSED = (
    Foreign(
        r".*\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector)(\..+)?|.*\.base_layer\.\w+",
        "is of a LoRA adapter that was not merged (PEFT's state dict saved whole); merge it first, "
        "model.merge_and_unload().save_pretrained(…), or pass the base as the model and the adapter with --adapter",
    ),
    Foreign(
        r".*\.lora_[ab]",
        "is of a LoRA adapter of MLX that was not merged; merge it first (mlx_lm.fuse), or pass the base as the model "
        "and the adapter with --adapter",
    ),
    Foreign(
        r".*\.(hada_w[12]_[ab]|lokr_w[12](_[ab])?|oft_[RrSs]|boft_[RSrs]|ia3_l|vera_lambda_[bd])(\..+)?",
        "is of an adapter that was not merged; merge it with PEFT first, merge_and_unload()",
    ),
    Foreign(r".*\.lora_(down|up)\.weight", "is of an adapter of a diffusion model, which is no language model"),
    Foreign(
        r"(.*\.)?_?flat_param(_\d+)?",
        "is what FSDP makes of a module's weights; gather them (FULL_STATE_DICT), or accelerate merge-weights",
    ),
    Foreign(r".*\.(W_q|W_q\.\w+)", f"is quantized with HQQ, {_QUANTIZED}"),
    Foreign(r".*\.(q_weight|q_scale_max|q_invperm)", f"is quantized for ExLlamaV2 (EXL2), {_QUANTIZED}"),
    Foreign(r".*\.(trellis|suh|svh)", f"is quantized for ExLlamaV3 (EXL3), {_QUANTIZED}"),
    Foreign(r".*\.(codebooks|codes)", f"is quantized with AQLM, {_QUANTIZED}"),
    Foreign(r".*\.(Qidxs|SU|SV)", f"is quantized with QuIP#, {_QUANTIZED}"),
    Foreign(r".*\.(centroids|res_centroids)\.weight", f"is quantized with VPTQ, {_QUANTIZED}"),
    Foreign(r".*\.weight_scales", f"is quantized with EETQ, {_QUANTIZED}"),
    Foreign(r".*\._data\._data|.*\._shift", f"is quantized by quanto to less than 8 bits, {_QUANTIZED}"),
    Foreign(r".*\.scale_(weight|input)", f"is a scale of FP8 weights as ComfyUI stores them, {_QUANTIZED}"),
    Foreign(r".*_weight_qdata|.*_qdata", f"is quantized with torchao, {_QUANTIZED}"),
)
"""Forms that no model's own tensors can be taken for."""

EXPLAINED = (
    Foreign(r"blk\.\d+\.\w+\.(weight|bias)|token_embd\.weight", "has the name of a GGUF file; convert the GGUF itself"),
    Foreign(
        r"(.*\.)?(self_attention|self_attn)\.linear_(qkv|proj)\..*|(.*\.)?language_model\.encoder\.layers\..*|"
        r"(.*\.)?mlp\.linear_fc[12]\..*",
        "has a name of Megatron; convert the checkpoint to Hugging Face's format with Megatron's or NeMo's own tools",
    ),
    Foreign(
        r"(.*\.)?layers\.\d+\.attention\.w[qkvo]\.weight|(.*\.)?layers\.\d+\.feed_forward\.w[123]\.weight|"
        r"tok_embeddings\.weight",
        "has its author's own name, not the one of transformers; name the files consolidated.00.pth and put "
        "params.json beside them",
    ),
    Foreign(
        r".*\.(attn\.output_proj|attn\.[qkv]_proj|sa_norm\.scale|mlp\.w[123])(\..*)?",
        "has a name of torchtune; save the checkpoint in Hugging Face's format (FullModelHFCheckpointer)",
    ),
    Foreign(
        r"(.*\.)?(score|classifier|classification_head|regression_head)(\..+)?",
        "is the head of a classifier, which writes no text",
    ),
    Foreign(r"(.*\.)?(down_blocks|up_blocks|mid_block|double_blocks|single_blocks)\..*",
            "is of a diffusion model, which is no language model"),
    Foreign(r"(.*/)(kernel|embedding|scale)", "has a name of Flax; save the model for PyTorch first"),
    Foreign(
        r".*\.self_attn\.qkv_proj\.weight|.*\.mlp\.gate_up_proj\.weight",
        "joins matrices that this model's class has apart, as an inference engine does; convert the original "
        "checkpoint",
    ),
)  # fmt: skip
"""Names that some family's tensors may have: they explain a refusal, and cause none."""


def refuse_foreign(tensors: Mapping[str, SafetensorsTensor]) -> None:
    """Refuse weights in a form that is known and not read.

    Raises:
        CheckpointError: naming one of them, the form, and what to do.
    """
    for form in REFUSED:
        pattern = re.compile(form.pattern)
        if found := next((tensor for name, tensor in tensors.items() if pattern.fullmatch(name)), None):
            raise CheckpointError(f"{found.file.path}: tensor {found.name} {form.what}")
    empty = [tensor for name, tensor in tensors.items() if tensor.shape == (0,) and name.endswith(".weight")]
    if empty:
        others = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise CheckpointError(
            f"{empty[0].file.path}: tensor {empty[0].name}{others} is empty, shape [0]: saved from DeepSpeed's ZeRO-3 "
            "without gathering it; save again with stage3_gather_16bit_weights_on_model_save, or make the weights of "
            "DeepSpeed's own checkpoint with its zero_to_fp32.py"
        )


def explained_names(names: Iterable[str]) -> str | None:
    """What names of tensors tell about a checkpoint that lacks one or has some too many: one of them, and about it."""
    ordered = sorted(names)
    for form in EXPLAINED:
        pattern = re.compile(form.pattern)
        if found := next((name for name in ordered if pattern.fullmatch(name)), None):
            return f"{found} {form.what}"
    return None
