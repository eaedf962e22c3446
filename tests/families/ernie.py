"""ERNIE 4.5: dense, and with experts behind dense first layers."""

from checkpoint_layouts import fused
from variation import Variation

ERNIE = {"num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 320}
EXPERTS = {
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 320,
    "moe_num_experts": 6,
    "moe_k": 2,
    "moe_intermediate_size": 96,
}

VARIATIONS = [
    Variation("ernie", "Ernie4_5Config", ERNIE),
    Variation(
        "ernie-untied",
        "Ernie4_5Config",
        ERNIE | {"tie_word_embeddings": False, "head_dim": 32, "num_key_value_heads": 1},
    ),
    Variation("ernie-moe", "Ernie4_5_MoeConfig", EXPERTS),
    Variation(
        "ernie-moe-fused",
        "Ernie4_5_MoeConfig",
        EXPERTS | {"tie_word_embeddings": False, "moe_layer_start_index": 2, "moe_num_shared_experts": 1, "moe_k": 3},
        rewrite=fused,
    ),
    Variation(
        "ernie-moe-unshared",
        "Ernie4_5_MoeConfig",
        EXPERTS | {"moe_num_shared_experts": 0, "moe_layer_start_index": 0, "head_dim": 32, "num_key_value_heads": 4},
    ),
]

BYTES = ["ernie-moe"]
