"""Granite with sliding windows and sinks, dense and with experts."""

from pathlib import Path

from checkpoint_layouts import config_with, fused
from variation import Variation

SWA = {
    "num_hidden_layers": 5,
    "num_key_value_heads": 2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.0225,
    "logits_scaling": 0.7,
    "intermediate_size": 320,
    "sliding_window": 24,
}
#: Logits of a tied matrix spread more.
TIED = {"tie_word_embeddings": True, "logits_scaling": 8.0}
EXPERTS = SWA | {"num_hidden_layers": 3, "num_local_experts": 5, "num_experts_per_tok": 3, "intermediate_size": 96}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def with_fewer_fields(directory: Path) -> None:
    """Fields that say what transformers assumes without them, left out."""
    config_with(layer_types=None, layer_rope_theta=None, tie_word_embeddings=None)(directory)


VARIATIONS = [
    Variation("granite-swa", "GraniteSWAConfig", SWA | TIED, rewrite=with_fewer_fields),
    Variation(
        "granite-swa-biased",
        "GraniteSWAConfig",
        SWA
        | {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}
        | {"layer_rope_theta": [0, 500000.0, 500000.0, 0, 500000.0]},
        rewrite=config_with(no_rope_layers=[0, 1, 1, 0, 1]),
    ),
    Variation(
        "granite-swa-llama3",
        "GraniteSWAConfig",
        SWA
        | TIED
        | {"num_hidden_layers": 2, "layer_types": ["sliding_attention"] * 2, "head_dim": 32}
        | {"num_key_value_heads": 4}
        | {"layer_rope_theta": [50000, 0], "rope_parameters": LLAMA3},
    ),
    Variation("granitemoe-swa", "GraniteMoeSWAConfig", EXPERTS | {"layer_rope_theta": [0, 5e5, 5e5]}),
    Variation(
        "granitemoe-swa-shared",
        "GraniteMoeSWAConfig",
        EXPERTS | TIED | {"shared_intermediate_size": 160, "attention_bias": True},
        rewrite=fused,
    ),
]

BYTES = ["granitemoe-swa-shared"]
