"""Gemma 4 as text, inside its multimodal checkpoints, with experts and with embeddings for each layer."""

from pathlib import Path
from typing import Any

from checkpoint_layouts import config_with
from variation import Variation

KINDS = ["sliding_attention", "full_attention"]
SMALL = {
    "intermediate_size": 256,
    "head_dim": 32,
    "global_head_dim": 64,
    "num_key_value_heads": 2,
    "sliding_window": 24,
    "num_hidden_layers": 4,
    "layer_types": KINDS * 2,
}
#: As the small ones: an embedding for each layer, the last layers without keys of their own and twice as wide.
SHARED = SMALL | {
    "num_hidden_layers": 6,
    "layer_types": KINDS * 3,
    "num_kv_shared_layers": 2,
    "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": 32,
    "vocab_size_per_layer_input": 512,
    "num_key_value_heads": 1,
    "final_logit_softcapping": 30.0,
}
#: As the large ones: keys that are values too where there is no window.
DENSE = SMALL | {
    "hidden_size_per_layer_input": 0,
    "attention_k_eq_v": True,
    "num_key_value_heads": 4,
    "num_global_key_value_heads": 1,
    "use_bidirectional_attention": "vision",
}
EXPERTS = DENSE | {
    "enable_moe_block": True,
    "num_experts": 6,
    "top_k_experts": 2,
    "moe_intermediate_size": 96,
    "num_global_key_value_heads": 2,
}
ROPES = {
    "full_attention": {"rope_type": "default", "rope_theta": 5e5},
    "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
}
STRETCHED = {
    "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.5, "factor": 4.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}


def gemma4(name: str, arguments: Any, config: str = "Gemma4TextConfig", **others: Any) -> Variation:
    return Variation(name, config, arguments, adjust=moved, **others)


def moved(model: Any) -> None:
    """A small embedding, for it is multiplied by the root of the width; scales of layers and experts off one.

    Attention is not scaled, so small norms keep it from settling on one token and magnifying what is rounded.
    """
    model.get_input_embeddings().weight.normal_(0, 0.1)
    for name, tensor in [*model.named_buffers(), *model.named_parameters()]:
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            tensor.uniform_(0.2, 0.6)
        if name.endswith(("layer_scalar", "router.scale", "per_expert_scale")):
            tensor.uniform_(0.5, 1.5)
        if name.endswith("embed_tokens_per_layer.weight"):
            tensor.normal_(0, 0.3)
        # Its input has length one: larger weights, or the choice hangs on what is rounded.
        if name.endswith("router.proj.weight"):
            tensor.normal_(0, 3)


def with_unused_keys(directory: Path) -> None:
    """Keys and values of layers that take those of others, as published files hold them."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    for index, length in ((4, 32), (5, 64)):
        attention = f"model.layers.{index}.self_attn"
        for name, shape in (("k_proj", (length, 256)), ("v_proj", (length, 256)), ("k_norm", (length,))):
            tensors[f"{attention}.{name}.weight"] = torch.ones(shape)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})


VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "position_embedding_size": 16,
}
AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "subsampling_conv_channels": [8, 4],
    "output_proj_dims": 32,
}
TEXT = {"vocab_size": 512, "num_attention_heads": 4}
MULTIMODAL = {"text_config": SHARED | TEXT, "vision_config": VISION, "audio_config": AUDIO}
UNIFIED = {name: value for name, value in DENSE.items() if not name.endswith("per_layer_input")}
UNIFIED_MULTIMODAL = {
    "text_config": UNIFIED | TEXT,
    "vision_config": {"mm_embed_dim": 32, "mm_posemb_size": 8, "output_proj_dims": 32},
    "audio_config": {"audio_embed_dim": 32},
}

VARIATIONS = [
    gemma4("gemma4", SHARED),
    gemma4("gemma4-unused-keys", SHARED, rewrite=with_unused_keys),
    gemma4("gemma4-published-fields", SHARED, rewrite=config_with(per_layer_config=None, global_head_dim=64)),
    gemma4("gemma4-dense", DENSE),
    gemma4(
        "gemma4-dense-published-fields",
        DENSE,
        rewrite=config_with(per_layer_config=None, global_head_dim=64, num_global_key_value_heads=1),
    ),
    gemma4(
        "gemma4-untied",
        DENSE | {"tie_word_embeddings": False, "attention_k_eq_v": False, "layer_types": None, "num_hidden_layers": 7},
    ),
    gemma4(
        "gemma4-whole-ropes",
        SHARED
        | {
            "rope_parameters": ROPES,
            "num_kv_shared_layers": 3,
            "num_hidden_layers": 7,
            "layer_types": [*KINDS * 3, KINDS[1]],
        },
    ),
    gemma4("gemma4-stretched-rope", DENSE | {"rope_parameters": STRETCHED}),
    gemma4("gemma4-experts", EXPERTS),
    gemma4(
        "gemma4-experts-per-layer",
        EXPERTS | {"hidden_size_per_layer_input": 32, "vocab_size_per_layer_input": 512, "top_k_experts": 6},
    ),
    gemma4("gemma4-multimodal", MULTIMODAL, "Gemma4Config", model="Gemma4ForConditionalGeneration"),
    gemma4(
        "gemma4-multimodal-experts",
        MULTIMODAL | {"text_config": EXPERTS | TEXT, "audio_config": None},
        "Gemma4Config",
        model="Gemma4ForConditionalGeneration",
    ),
    gemma4("gemma4-unified-text", UNIFIED, "Gemma4UnifiedTextConfig"),
    gemma4(
        "gemma4-unified",
        UNIFIED_MULTIMODAL,
        "Gemma4UnifiedConfig",
        model="Gemma4UnifiedForConditionalGeneration",
    ),
]

BYTES = ["gemma4", "gemma4-experts"]
