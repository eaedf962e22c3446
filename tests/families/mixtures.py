"""Mixtral, the mixtures of Qwen2 and Qwen3, MiniMax M2."""

from checkpoint_layouts import config_with, fused, spread_choice
from variation import Variation

MIXTRAL = {"num_key_value_heads": 2, "num_local_experts": 4, "intermediate_size": 192}
QWEN2 = {
    "num_key_value_heads": 2,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 96,
    "shared_expert_intermediate_size": 160,
}
QWEN3 = {
    "num_key_value_heads": 2,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "norm_topk_prob": True,
}
MINIMAX = MIXTRAL | {"num_experts_per_tok": 2}

VARIATIONS = [
    Variation("mixtral", "MixtralConfig", MIXTRAL),
    Variation("mixtral-fused", "MixtralConfig", MIXTRAL | {"num_experts_per_tok": 3, "head_dim": 32}, rewrite=fused),
    Variation("mixtral-tied", "MixtralConfig", MIXTRAL | {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    Variation("qwen2moe", "Qwen2MoeConfig", QWEN2),
    Variation("qwen2moe-fused", "Qwen2MoeConfig", QWEN2 | {"num_key_value_heads": 4}, rewrite=fused),
    Variation("qwen2moe-tied-unbiased", "Qwen2MoeConfig", QWEN2 | {"tie_word_embeddings": True, "qkv_bias": False}),
    Variation("qwen3moe", "Qwen3MoeConfig", QWEN3),
    Variation("qwen3moe-fused", "Qwen3MoeConfig", QWEN3 | {"head_dim": 128, "num_key_value_heads": 1}, rewrite=fused),
    Variation(
        "qwen3moe-tied",
        "Qwen3MoeConfig",
        QWEN3 | {"tie_word_embeddings": True, "head_dim": 32},
        rewrite=config_with(num_local_experts=None, num_experts=8),
    ),
    Variation("minimax", "MiniMaxM2Config", MINIMAX | {"head_dim": 32}, adjust=spread_choice),
    Variation(
        "minimax-fused-tied",
        "MiniMaxM2Config",
        MINIMAX | {"head_dim": 64, "tie_word_embeddings": True, "num_key_value_heads": 1},
        adjust=spread_choice,
        rewrite=fused,
    ),
    Variation(
        "minimax-older-config",
        "MiniMaxM2Config",
        MINIMAX | {"head_dim": 64, "rotary_dim": 32},
        adjust=spread_choice,
        rewrite=config_with(rope_parameters=None, rope_theta=5e6, rotary_dim=32),
    ),
]

BYTES = ["mixtral", "qwen2moe-fused"]
