"""DeepSeek V2 and V3, with and without compressed queries."""

from typing import Any

from checkpoint_layouts import config_with, fused, spread_choice
from variation import Variation

LATENT = {
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
}
LITE = LATENT | {"q_lora_rank": None}
V3 = LATENT | {"n_group": 4, "topk_group": 2}

DENSE = {name: value for name, value in LATENT.items() if "expert" not in name and "moe" not in name}


def yarn(**parameters: float) -> dict[str, Any]:
    return {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 32,
            **parameters,
        }
    }


VARIATIONS = [
    Variation("deepseek2", "DeepseekV2Config", LATENT | {"routed_scaling_factor": 1.7}),
    Variation("deepseek2-lite", "DeepseekV2Config", LITE | yarn(mscale=0.707, mscale_all_dim=0.707), rewrite=fused),
    Variation(
        "deepseek2-lite-27-layers",
        "DeepseekV2Config",
        LITE | {"num_hidden_layers": 27, "hidden_size": 64, "num_attention_heads": 4, "first_k_dense_replace": 25},
    ),
    Variation("deepseek2-yarn-plain", "DeepseekV2Config", LATENT | yarn(), rewrite=fused),
    Variation("deepseek2-yarn-uneven", "DeepseekV2Config", LATENT | yarn(mscale=0.6, mscale_all_dim=1.3)),
    Variation("deepseek3", "DeepseekV3Config", V3, adjust=spread_choice),
    Variation(
        "deepseek3-fused-yarn",
        "DeepseekV3Config",
        V3 | yarn(mscale=1.0, mscale_all_dim=1.0) | {"n_shared_experts": 2},
        adjust=spread_choice,
        rewrite=fused,
    ),
    Variation(
        "deepseek3-one-group",
        "DeepseekV3Config",
        LITE
        | {
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": False,
            "tie_word_embeddings": True,
            "rope_interleave": False,
        },
        adjust=spread_choice,
        rewrite=config_with(head_dim=None, qk_head_dim=None),
    ),
    Variation("glm4moelite", "Glm4MoeLiteConfig", V3 | {"first_k_dense_replace": None}, adjust=spread_choice),
    Variation(
        "glm4moelite-fused-tied",
        "Glm4MoeLiteConfig",
        V3 | {"mlp_layer_types": ["dense", "dense", "sparse"], "tie_word_embeddings": True, "q_lora_rank": None},
        adjust=spread_choice,
        rewrite=fused,
    ),
    Variation("youtu", "YoutuConfig", DENSE),
    Variation(
        "youtu-untied-yarn",
        "YoutuConfig",
        DENSE | yarn(mscale=1.0, mscale_all_dim=1.0) | {"tie_word_embeddings": False, "q_lora_rank": None},
    ),
]

BYTES = ["deepseek3"]
