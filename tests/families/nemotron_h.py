"""Nemotron-H and Nemotron 3."""

from checkpoint_layouts import config_with, fused, spread_choice
from variation import Variation

NEMOTRON_H = {
    "num_hidden_layers": 4,
    "layers_block_type": ["mamba", "mlp", "attention", "mlp"],
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 320,
    "mamba_num_heads": 6,
    "mamba_head_dim": 64,
    "ssm_state_size": 32,
    "n_groups": 2,
    "chunk_size": 16,
}
EXPERTS = NEMOTRON_H | {
    "layers_block_type": ["mamba", "moe", "attention", "moe"],
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "moe_shared_expert_intermediate_size": 160,
    "routed_scaling_factor": 1.5,
}

VARIATIONS = [
    Variation("nemotron-h", "NemotronHConfig", NEMOTRON_H),
    Variation(
        "nemotron-h-pattern-tied",
        "NemotronHConfig",
        NEMOTRON_H | {"tie_word_embeddings": True, "use_conv_bias": False, "num_key_value_heads": 1},
        rewrite=config_with(layers_block_type=None, hybrid_override_pattern="M-*-"),
    ),
    Variation("nemotron-h-moe", "NemotronHConfig", EXPERTS, adjust=spread_choice),
    Variation(
        "nemotron-h-moe-fused-latent",
        "NemotronHConfig",
        EXPERTS | {"moe_latent_size": 64, "n_group": 4, "topk_group": 2},
        adjust=spread_choice,
        rewrite=fused,
    ),
]
