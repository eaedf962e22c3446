"""LFM2, dense and with experts."""

from checkpoint_layouts import config_with, fused, spread_choice
from variation import Variation

LFM2 = {
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "layer_types": ["conv", "full_attention", "conv"],
    "block_multiple_of": 64,
    "block_ffn_dim_multiplier": 0.8,
}
EXPERTS = {
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "layer_types": ["conv", "full_attention", "conv"],
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 96,
    "num_dense_layers": 1,
    "intermediate_size": 320,
}


VARIATIONS = [
    Variation("lfm2", "Lfm2Config", LFM2),
    Variation(
        "lfm2-untied",
        "Lfm2Config",
        LFM2
        | {
            "tie_word_embeddings": False,
            "block_auto_adjust_ff_dim": False,
            "intermediate_size": 320,
            "num_key_value_heads": 1,
            "conv_L_cache": 4,
        },
    ),
    Variation(
        "lfm2-older-config",
        "Lfm2Config",
        LFM2 | {"num_key_value_heads": 4, "tie_word_embeddings": False},
        rewrite=config_with(
            layer_types=None,
            full_attn_idxs=[1],
            intermediate_size=4711,
            block_ff_dim=512,
            tie_word_embeddings=None,
            tie_embedding=False,
            rope_parameters=None,
            rope_theta=1e6,
        ),
    ),
    Variation("lfm2moe", "Lfm2MoeConfig", EXPERTS, adjust=spread_choice),
    Variation(
        "lfm2moe-fused",
        "Lfm2MoeConfig",
        EXPERTS | {"use_expert_bias": False, "num_dense_layers": 0, "tie_word_embeddings": False},
        rewrite=fused,
    ),
]

BYTES = ["lfm2"]
