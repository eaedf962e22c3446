"""Seed-OSS, Arcee, Apertus and Ministral 3."""

from typing import Any

from variation import Variation

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LLAMA = {"num_key_value_heads": 2, "intermediate_size": 320}
#: Queries from the 33rd on are longer.
GROWING = {
    "head_dim": 64,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.3,
    },
}


def spread_activation(model: Any) -> None:
    """The numbers of xIELU differ from layer to layer."""
    for index, layer in enumerate(model.model.layers):
        layer.mlp.act_fn.alpha_p.data.fill_(0.3 + 0.4 * index)
        layer.mlp.act_fn.alpha_n.data.fill_(0.1 - 0.5 * index)


VARIATIONS = [
    Variation("seed-oss", "SeedOssConfig", LLAMA | {"head_dim": 128}),
    Variation(
        "seed-oss-tied-unbiased",
        "SeedOssConfig",
        LLAMA | {"tie_word_embeddings": True, "attention_bias": False, "num_key_value_heads": 1},
    ),
    Variation("arcee", "ArceeConfig", LLAMA),
    Variation(
        "arcee-tied-llama3",
        "ArceeConfig",
        LLAMA | {"tie_word_embeddings": True, "head_dim": 32, "rope_parameters": LLAMA3},
    ),
    Variation("apertus", "ApertusConfig", LLAMA | {"rope_parameters": LLAMA3}, adjust=spread_activation),
    Variation(
        "apertus-tied-biased",
        "ApertusConfig",
        LLAMA
        | {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "num_key_value_heads": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        adjust=spread_activation,
    ),
    Variation("ministral3", "Ministral3Config", LLAMA | GROWING),
    Variation(
        "ministral3-tied",
        "Ministral3Config",
        LLAMA | GROWING | {"tie_word_embeddings": True, "head_dim": 32, "num_key_value_heads": 1},
    ),
]
