"""Falcon-H1."""

from variation import Variation

FALCON_H1 = {
    "num_key_value_heads": 2,
    "intermediate_size": 320,
    "mamba_d_ssm": 384,
    "mamba_n_heads": 6,
    "mamba_d_head": 64,
    "mamba_d_state": 32,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 16,
}
MULTIPLIED = {
    "attention_in_multiplier": 0.8,
    "attention_out_multiplier": 0.9,
    "embedding_multiplier": 2.5,
    "key_multiplier": 0.7,
    "lm_head_multiplier": 0.4,
    "ssm_in_multiplier": 1.2,
    "ssm_out_multiplier": 0.6,
    "mlp_multipliers": [0.9, 0.5],
    "ssm_multipliers": [0.9, 1.1, 0.8, 1.3, 0.7],
}

VARIATIONS = [
    Variation("falcon-h1", "FalconH1Config", FALCON_H1),
    Variation("falcon-h1-multiplied-tied", "FalconH1Config", FALCON_H1 | MULTIPLIED | {"tie_word_embeddings": True}),
    Variation(
        "falcon-h1-normed",
        "FalconH1Config",
        FALCON_H1
        | MULTIPLIED
        | {"mamba_rms_norm": True, "mamba_norm_before_gate": False, "mamba_conv_bias": False, "head_dim": 32},
    ),
]
