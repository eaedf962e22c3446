"""Jamba: attention in some layers, experts in some layers, on every schedule."""

from checkpoint_layouts import config_with, fused
from variation import Variation

JAMBA = {
    "num_hidden_layers": 5,
    "num_key_value_heads": 2,
    "intermediate_size": 192,
    "num_experts": 4,
    "attn_layer_period": 3,
    "attn_layer_offset": 1,
}

VARIATIONS = [
    Variation("jamba", "JambaConfig", JAMBA),
    Variation(
        "jamba-fused",
        "JambaConfig",
        JAMBA
        | {"num_key_value_heads": 1, "num_experts_per_tok": 3, "mamba_d_state": 32, "mamba_dt_rank": 24}
        | {"expert_layer_period": 1, "expert_layer_offset": 0},
        rewrite=fused,
    ),
    # With one expert only, transformers builds plain feed-forwards.
    Variation(
        "jamba-dense-tied",
        "JambaConfig",
        JAMBA
        | {"num_experts": 1, "tie_word_embeddings": True, "num_key_value_heads": 4, "mamba_conv_bias": False}
        | {"mamba_d_conv": 3, "attn_layer_offset": 0, "vocab_size": 509},
    ),
    # Fields left out, as config.json may where they have the defaults of the class.
    Variation(
        "jamba-usual",
        "JambaConfig",
        {"intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 8},
        rewrite=config_with(
            attn_layer_period=None, attn_layer_offset=None, expert_layer_period=None, expert_layer_offset=None,
            num_experts=None, num_experts_per_tok=None, num_key_value_heads=None, mamba_d_state=None, mamba_d_conv=None,
        ),
    ),
]  # fmt: skip

BYTES = ["jamba"]
