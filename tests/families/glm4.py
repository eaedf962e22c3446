"""GLM-4 of 2024 and of April 2025, GLM-4.5 and its relatives."""

from checkpoint_layouts import config_with, fused, spread_choice
from variation import Variation

GLM4 = {"num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 320, "rms_norm_eps": 1e-5}
EXPERTS = {
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "intermediate_size": 320,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "moe_intermediate_size": 96,
}

VARIATIONS = [
    Variation("glm4", "Glm4Config", GLM4),
    Variation(
        "glm4-tied-unbiased",
        "Glm4Config",
        GLM4 | {"tie_word_embeddings": True, "attention_bias": False, "head_dim": 128, "num_key_value_heads": 1},
    ),
    Variation(
        "glm4-older-config",
        "Glm4Config",
        GLM4 | {"rope_parameters": {"rope_type": "default", "rope_theta": 20000.0, "partial_rotary_factor": 0.25}},
        rewrite=config_with(rope_parameters=None, rope_theta=20000.0, partial_rotary_factor=0.25),
    ),
    Variation("glm", "GlmConfig", GLM4),
    Variation("glm-tied-unbiased", "GlmConfig", GLM4 | {"tie_word_embeddings": True, "attention_bias": False}),
    Variation("glm4moe", "Glm4MoeConfig", EXPERTS, adjust=spread_choice),
    Variation(
        "glm4moe-fused",
        "Glm4MoeConfig",
        EXPERTS
        | {
            "use_qk_norm": True,
            "attention_bias": True,
            "head_dim": 128,
            "n_group": 4,
            "topk_group": 2,
            "norm_topk_prob": False,
            "routed_scaling_factor": 1.5,
            "tie_word_embeddings": True,
        },
        adjust=spread_choice,
        rewrite=fused,
    ),
    Variation("solar-open", "SolarOpenConfig", EXPERTS | {"head_dim": 64}, adjust=spread_choice, seed=2),
    Variation("dots1", "Dots1Config", EXPERTS | {"num_key_value_heads": 4}, adjust=spread_choice),
    Variation(
        "dots1-fused-tied",
        "Dots1Config",
        EXPERTS
        | {"num_key_value_heads": 4, "tie_word_embeddings": True, "norm_topk_prob": True, "first_k_dense_replace": 2},
        adjust=spread_choice,
        rewrite=fused,
    ),
]
