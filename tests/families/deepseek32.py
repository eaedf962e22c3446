"""DeepSeek V3.2, with fewer tokens to pick than there are and with more.

An indexer's score is a sum over its heads of what is positive only: with few heads many scores are 0, and which of
those tokens are picked is anyone's choice. So there are sixteen here; the published model has 64.
"""

from typing import Any

from checkpoint_layouts import fused, spread_choice
from variation import Variation

SPARSE = {
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
    "n_group": 4,
    "topk_group": 2,
    "index_topk": 24,
    "index_head_dim": 64,
    "index_n_heads": 16,
}
ONE_GROUP = SPARSE | {"n_group": 1, "topk_group": 1}


def yarn(mscale: float, mscale_all_dim: float) -> dict[str, Any]:
    return {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 32,
            "mscale": mscale,
            "mscale_all_dim": mscale_all_dim,
        }
    }


VARIATIONS = [
    Variation("deepseek32", "DeepseekV32Config", SPARSE, adjust=spread_choice, seed=3),
    Variation("deepseek32-all-seen", "DeepseekV32Config", SPARSE | {"index_topk": 2048}, adjust=spread_choice),
    Variation(
        "deepseek32-fused-yarn",
        "DeepseekV32Config",
        SPARSE | yarn(1.0, 1.0) | {"n_shared_experts": 2, "index_head_dim": 128},
        adjust=spread_choice,
        rewrite=fused,
        seed=3,
    ),
    Variation(
        "deepseek32-tied-uneven",
        "DeepseekV32Config",
        ONE_GROUP
        | yarn(0.6, 1.3)
        | {"norm_topk_prob": False, "tie_word_embeddings": True, "qk_rope_head_dim": 64, "index_topk": 8}
        | {"mlp_layer_types": ["dense", "dense", "sparse"]},
        adjust=spread_choice,
    ),
    Variation(
        "deepseek32-yarn-plain",
        "DeepseekV32Config",
        SPARSE | {"rope_parameters": yarn(0.0, 0.0)["rope_parameters"] | {"mscale": None, "mscale_all_dim": None}},
        adjust=spread_choice,
        seed=1,
    ),
]

BYTES = ["deepseek32"]
