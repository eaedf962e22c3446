"""Qwen3-Next."""

from checkpoint_layouts import config_with, fused
from variation import Variation

QWEN3_NEXT = {
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 96,
    "shared_expert_intermediate_size": 160,
}

VARIATIONS = [
    Variation("qwen3next", "Qwen3NextConfig", QWEN3_NEXT, seed=1),
    Variation(
        "qwen3next-fused-tied",
        "Qwen3NextConfig",
        QWEN3_NEXT
        | {
            "tie_word_embeddings": True,
            "num_key_value_heads": 1,
            "linear_num_key_heads": 4,
            "head_dim": 128,
            "layer_types": ["full_attention", "linear_attention", "linear_attention", "full_attention"],
            "linear_conv_kernel_dim": 3,
        },
        rewrite=fused,
        seed=1,
    ),
    Variation(
        "qwen3next-older-config",
        "Qwen3NextConfig",
        QWEN3_NEXT | {"layer_types": ["linear_attention", "full_attention"] * 2},
        rewrite=config_with(
            layer_types=None,
            full_attention_interval=2,
            rope_parameters=None,
            rope_theta=10000.0,
            partial_rotary_factor=0.25,
        ),
    ),
]

BYTES = ["qwen3next"]
