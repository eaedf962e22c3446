"""GLM-4 of April 2025."""

from checkpoint_layouts import config_with
from variation import Variation

GLM4 = {"num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 320, "rms_norm_eps": 1e-5}

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
]
