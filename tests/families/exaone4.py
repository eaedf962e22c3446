"""EXAONE 4, small without windows, large with windows in three layers of four, and its mixture of experts."""

from checkpoint_layouts import config_with, fused, spread_choice
from variation import Variation

SMALL = {
    "num_key_value_heads": 2,
    "sliding_window": None,
    "layer_types": ["full_attention"] * 2,
    "intermediate_size": 320,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000000.0,
    "factor": 16.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LARGE = {
    "num_hidden_layers": 64,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 96,
    "sliding_window": 24,
}
EXPERTS = {
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 320,
    "sliding_window": 24,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
}

VARIATIONS = [
    Variation("exaone4", "Exaone4Config", SMALL),
    Variation(
        "exaone4-tied-llama3",
        "Exaone4Config",
        SMALL | {"tie_word_embeddings": True, "num_key_value_heads": 4, "rope_parameters": LLAMA3},
    ),
    Variation("exaone4-windows", "Exaone4Config", LARGE),
    Variation(
        "exaone4-windows-pattern",
        "Exaone4Config",
        LARGE | {"sliding_window_pattern": 3},
        rewrite=config_with(layer_types=None),
    ),
    Variation("exaone-moe", "ExaoneMoeConfig", EXPERTS, adjust=spread_choice),
    Variation(
        "exaone-moe-fused-tied",
        "ExaoneMoeConfig",
        EXPERTS
        | {
            "tie_word_embeddings": True,
            "n_group": 4,
            "topk_group": 2,
            "num_shared_experts": 2,
            "mlp_layer_types": ["dense", "dense", "sparse", "sparse"],
            "rope_parameters": LLAMA3,
            "num_key_value_heads": 1,
        },
        adjust=spread_choice,
        rewrite=fused,
    ),
    Variation(
        "exaone-moe-pattern",
        "ExaoneMoeConfig",
        EXPERTS | {"head_dim": 32, "sliding_window_pattern": 2},
        adjust=spread_choice,
        rewrite=config_with(layer_types=None, mlp_layer_types=None),
    ),
]
