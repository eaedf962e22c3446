"""OLMo 1 to 3 and OLMoE."""

from checkpoint_layouts import config_with, fused
from variation import Variation

YARN = {
    "rope_type": "yarn",
    "rope_theta": 500000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
OLMO3 = {"num_key_value_heads": 2, "num_hidden_layers": 4, "sliding_window": 24}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "intermediate_size": 96}

VARIATIONS = [
    Variation("olmo", "OlmoConfig", {"intermediate_size": 384}),
    Variation(
        "olmo-clipped-tied",
        "OlmoConfig",
        {"clip_qkv": 0.8, "tie_word_embeddings": True, "num_key_value_heads": 2},
    ),
    Variation("olmo-multi-query", "OlmoConfig", {"num_key_value_heads": 1}),
    Variation("olmo2", "Olmo2Config", {"num_key_value_heads": 2, "intermediate_size": 384}),
    Variation("olmo2-tied", "Olmo2Config", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    Variation("olmo3", "Olmo3Config", OLMO3),
    Variation(
        "olmo3-yarn",
        "Olmo3Config",
        OLMO3 | {"rope_parameters": {"full_attention": YARN, "sliding_attention": {"rope_type": "default"}}},
    ),
    Variation(
        "olmo3-older-config",
        "Olmo3Config",
        OLMO3
        | {
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {"full_attention": YARN, "sliding_attention": {"rope_type": "default"}},
        },
        rewrite=config_with(rope_parameters=None, rope_theta=500000.0, rope_scaling=YARN),
    ),
    Variation("olmoe", "OlmoeConfig", EXPERTS),
    Variation("olmoe-fused-tied", "OlmoeConfig", EXPERTS | {"tie_word_embeddings": True}, rewrite=fused),
]

BYTES = ["olmo", "olmo2-tied"]
