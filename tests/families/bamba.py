"""Bamba: Mamba 2 mixers, attention in some layers, rope on half of each head."""

from pathlib import Path

from checkpoint_layouts import config_with
from variation import Variation

HYBRID = {
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "intermediate_size": 320,
    "attn_layer_indices": [1],
    "mamba_n_heads": 8,
    "mamba_d_state": 32,
    "mamba_chunk_size": 16,
}
LLAMA3 = {
    "partial_rotary_factor": 0.25,
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def as_published(directory: Path) -> None:
    """The rope as the published files tell it."""
    config_with(rope_parameters=None, rope_theta=10000.0, attn_rotary_emb=32)(directory)


VARIATIONS = [
    Variation("bamba", "BambaConfig", HYBRID, rewrite=as_published),
    Variation(
        "bamba-tied-biased",
        "BambaConfig",
        HYBRID
        | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}
        | {"attn_layer_indices": [0, 2], "mamba_n_groups": 2, "mamba_conv_bias": False},
    ),
    Variation("bamba-llama3", "BambaConfig", HYBRID | {"num_key_value_heads": 4, "rope_parameters": LLAMA3}),
]

BYTES = ["bamba-tied-biased"]
