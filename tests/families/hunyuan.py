"""Hunyuan dense."""

from checkpoint_layouts import config_with
from variation import Variation

HUNYUAN = {"num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 320}
STRETCHED = {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 50.0, "factor": 1.0}

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
]
