"""Hunyuan, dense and with experts."""

from checkpoint_layouts import config_with, fused
from variation import Variation

HUNYUAN = {"num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 320}
STRETCHED = {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 50.0, "factor": 1.0}
EXPERTS = {
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 96,
    "num_experts": 6,
    "moe_topk": 2,
}

VARIATIONS = [
    Variation("hunyuan", "HunYuanDenseV1Config", HUNYUAN | {"num_key_value_heads": 4}),
    Variation(
        "hunyuan-tied-alpha",
        "HunYuanDenseV1Config",
        HUNYUAN | {"tie_word_embeddings": True, "head_dim": 128, "rope_parameters": STRETCHED},
    ),
    Variation(
        "hunyuan-older-config",
        "HunYuanDenseV1Config",
        HUNYUAN | {"num_key_value_heads": 1, "rope_parameters": STRETCHED},
        rewrite=config_with(
            rope_parameters=None,
            rope_theta=10000.0,
            rope_scaling={"type": "dynamic", "alpha": 50.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1},
        ),
    ),
    Variation("hunyuan-moe", "HunYuanMoEV1Config", EXPERTS),
    Variation(
        "hunyuan-moe-fused",
        "HunYuanMoEV1Config",
        EXPERTS | {"tie_word_embeddings": True, "num_key_value_heads": 1},
        rewrite=fused,
    ),
    Variation(
        "hunyuan-moe-older-config",
        "HunYuanMoEV1Config",
        EXPERTS | {"rope_parameters": STRETCHED, "moe_topk": [3, 3]},
        rewrite=config_with(num_shared_expert=[1, 1], moe_intermediate_size=[96, 96]),
    ),
]
