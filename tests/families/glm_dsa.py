"""GLM-5, with an indexer in every layer and with layers that share one; see deepseek32.py for the number of heads."""

from checkpoint_layouts import config_with, fused, spread_choice
from variation import Variation

GLM5 = {
    "num_key_value_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 320,
    "kv_lora_rank": 64,
    "q_lora_rank": 96,
    "qk_nope_head_dim": 48,
    "qk_rope_head_dim": 32,
    "v_head_dim": 40,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "first_k_dense_replace": 1,
    "index_topk": 24,
    "index_head_dim": 64,
    "index_n_heads": 16,
}

VARIATIONS = [
    Variation("glm-dsa", "GlmMoeDsaConfig", GLM5 | {"num_hidden_layers": 4}, adjust=spread_choice),
    Variation(
        "glm-dsa-shared",
        "GlmMoeDsaConfig",
        GLM5
        | {"num_hidden_layers": 5, "indexer_types": ["full", "shared", "full", "shared", "shared"]}
        | {"tie_word_embeddings": True, "n_shared_experts": 2, "index_head_dim": 128},
        adjust=spread_choice,
        rewrite=fused,
        seed=2,
    ),
    Variation(
        "glm-dsa-every-other",
        "GlmMoeDsaConfig",
        GLM5
        | {"n_group": 4, "topk_group": 2}
        | {"num_hidden_layers": 5, "index_topk_freq": 2, "index_skip_topk_offset": 1},
        adjust=spread_choice,
        rewrite=config_with(indexer_types=None),
    ),
    Variation(
        "glm-dsa-letters",
        "GlmMoeDsaConfig",
        GLM5 | {"index_topk_pattern": "FFS"},
        adjust=spread_choice,
        rewrite=config_with(indexer_types=None),
    ),
]

BYTES = ["glm-dsa-shared"]
