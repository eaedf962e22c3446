"""MiniCPM 3: compressed keys and values with MiniCPM's multipliers."""

from checkpoint_layouts import config_with
from variation import Variation

LATENT = {
    "hidden_size": 192,
    "intermediate_size": 320,
    "num_key_value_heads": 4,
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
}
LONG = {"rope_type": "longrope", "rope_theta": 10000.0}
FACTORS = {
    "short_factor": [1.0 + index / 8 for index in range(8)],
    "long_factor": [1.0 + index for index in range(8)],
}

VARIATIONS = [
    Variation("minicpm3", "MiniCPM3Config", LATENT),
    Variation(
        "minicpm3-untied",
        "MiniCPM3Config",
        LATENT | {"tie_word_embeddings": False, "v_head_dim": 64, "num_hidden_layers": 3, "hidden_size": 256},
    ),
    Variation(
        "minicpm3-longrope",
        "MiniCPM3Config",
        LATENT | {"rope_parameters": LONG | FACTORS | {"original_max_position_embeddings": 256}},
    ),
    Variation(
        "minicpm3-longrope-old",
        "MiniCPM3Config",
        LATENT | {"rope_parameters": LONG | FACTORS | {"original_max_position_embeddings": 64}},
        rewrite=config_with(
            rope_parameters=None,
            rope_theta=10000.0,
            rope_scaling={"type": "longrope", "original_max_position_embeddings": 64, **FACTORS},
        ),
    ),
]

BYTES = ["minicpm3-longrope"]
