"""Llama and its closest relatives, with what real checkpoints vary."""

from variation import Variation

LLAMA = {"num_key_value_heads": 2}

VARIATIONS = [
    Variation("llama", "LlamaConfig", LLAMA),
    Variation(
        "llama-tied-biased",
        "LlamaConfig",
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4},
    ),
    Variation("llama-head-dim", "LlamaConfig", {"head_dim": 128, "num_key_value_heads": 1}),
    Variation(
        "llama-rope-llama3",
        "LlamaConfig",
        LLAMA
        | {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    Variation(
        "llama-rope-linear",
        "LlamaConfig",
        LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    Variation(
        "llama-rope-yarn",
        "LlamaConfig",
        LLAMA
        | {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    Variation(
        "llama-rope-yarn-range",
        "LlamaConfig",
        LLAMA
        | {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "attention_factor": 1.5,
                "beta_fast": 16.0,
                "beta_slow": 2.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    Variation(
        "llama-rope-yarn-attention-factor",
        "LlamaConfig",
        LLAMA
        | {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "attention_factor": 0.9,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    Variation(
        "llama-rope-yarn-untruncated",
        "LlamaConfig",
        LLAMA
        | {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "truncate": False,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    Variation("mistral", "MistralConfig", {"num_key_value_heads": 2, "sliding_window": None}),
    Variation("mistral-head-dim", "MistralConfig", {"num_key_value_heads": 4, "head_dim": 32, "sliding_window": 4096}),
    Variation("qwen2", "Qwen2Config", {"num_key_value_heads": 2}),
    Variation("qwen2-tied", "Qwen2Config", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    Variation("qwen3", "Qwen3Config", {"num_key_value_heads": 2, "head_dim": 128}),
    Variation("qwen3-tied", "Qwen3Config", {"num_key_value_heads": 1, "head_dim": 64, "tie_word_embeddings": True}),
]

BYTES = [variation.name for variation in VARIATIONS]
