"""GPTBigCode, Arcee, Seed-OSS, Jais 2 and Apertus."""

from variation import Variation

SMALL = {"hidden_size": 128, "intermediate_size": 320}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

VARIATIONS = [
    Variation("starcoder", "GPTBigCodeConfig", {"hidden_size": 128, "n_inner": 320}),
    Variation("starcoder-all-heads", "GPTBigCodeConfig", {"hidden_size": 128, "multi_query": False}),
    Variation("arcee", "ArceeConfig", SMALL | {"num_key_value_heads": 2, "head_dim": 16}),
    Variation(
        "arcee-tied-llama3",
        "ArceeConfig",
        SMALL | {"num_key_value_heads": 4, "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    ),
    Variation("seed-oss", "SeedOssConfig", SMALL | {"num_key_value_heads": 1, "head_dim": 64}),
    Variation(
        "seed-oss-tied-unbiased",
        "SeedOssConfig",
        SMALL | {"num_key_value_heads": 2, "head_dim": 32, "attention_bias": False, "tie_word_embeddings": True},
    ),
    Variation("jais2", "Jais2Config", SMALL | {"num_key_value_heads": 2, "head_dim": 64}),
    Variation(
        "jais2-tied-unbiased",
        "Jais2Config",
        SMALL | {"num_key_value_heads": 4, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True},
    ),
    Variation("apertus", "ApertusConfig", SMALL | {"num_key_value_heads": 2, "dtype": "float32"}),
    Variation(
        "apertus-tied-biased",
        "ApertusConfig",
        SMALL
        | {"num_key_value_heads": 1, "dtype": "float32", "attention_bias": True, "tie_word_embeddings": True}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 12000000.0}},
    ),
]

BYTES = ["starcoder", "seed-oss"]
