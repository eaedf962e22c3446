"""Granite: dense, with experts, with a shared expert, with Mamba 2 mixers."""

from checkpoint_layouts import config_with, fused
from variation import Variation

GRANITE = {
    "num_key_value_heads": 2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.0225,
    "logits_scaling": 0.7,
    "intermediate_size": 320,
}
EXPERTS = GRANITE | {"num_local_experts": 5, "num_experts_per_tok": 3, "intermediate_size": 96}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
HYBRID = {
    "num_hidden_layers": 3,
    "layer_types": ["mamba", "attention", "mamba"],
    "mamba_n_heads": 8,
    "mamba_d_state": 32,
    "mamba_chunk_size": 16,
    "shared_intermediate_size": 160,
}

VARIATIONS = [
    Variation("granite", "GraniteConfig", GRANITE),
    Variation(
        "granite-tied-biased",
        "GraniteConfig",
        GRANITE | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1},
    ),
    Variation("granite-plain", "GraniteConfig", {"num_key_value_heads": 4, "head_dim": 32, "rope_parameters": LLAMA3}),
    Variation("granitemoe", "GraniteMoeConfig", EXPERTS),
    Variation("granitemoe-fused-tied", "GraniteMoeConfig", EXPERTS | {"tie_word_embeddings": True}, rewrite=fused),
    Variation("granitemoeshared", "GraniteMoeSharedConfig", EXPERTS | {"shared_intermediate_size": 160}),
    Variation("granitemoeshared-none", "GraniteMoeSharedConfig", EXPERTS | {"attention_bias": True}, rewrite=fused),
    Variation("granite-hybrid", "GraniteMoeHybridConfig", HYBRID | EXPERTS),
    Variation(
        "granite-hybrid-fused-rope",
        "GraniteMoeHybridConfig",
        HYBRID | EXPERTS | {"position_embedding_type": "rope", "mamba_conv_bias": False, "tie_word_embeddings": True},
        rewrite=fused,
    ),
    Variation(
        "granite-hybrid-dense",
        "GraniteMoeHybridConfig",
        HYBRID | GRANITE | {"num_local_experts": 0, "num_experts_per_tok": 0, "mamba_n_groups": 2},
        rewrite=config_with(layer_types=["mamba", "attention", "mamba"]),
    ),
    Variation(
        "granite-hybrid-attention",
        "GraniteMoeHybridConfig",
        HYBRID
        | GRANITE
        | {"num_local_experts": 0, "position_embedding_type": "rope", "layer_types": ["attention"] * 3},
    ),
    Variation(
        "granite-hybrid-attention-experts",
        "GraniteMoeHybridConfig",
        HYBRID | EXPERTS | {"position_embedding_type": "rope", "layer_types": ["attention"] * 3},
    ),
    Variation(
        "granite-hybrid-attention-without-rope",
        "GraniteMoeHybridConfig",
        HYBRID | GRANITE | {"num_local_experts": 0, "layer_types": ["attention"] * 3},
    ),
]

BYTES = ["granitemoeshared", "granite-hybrid-dense"]
