"""GPTBigCode (StarCoder, SantaCoder) and Jais 2."""

from variation import Variation

SMALL = {"hidden_size": 128, "intermediate_size": 320}

VARIATIONS = [
    Variation("starcoder", "GPTBigCodeConfig", {"hidden_size": 128, "n_inner": 320}),
    Variation("starcoder-all-heads", "GPTBigCodeConfig", {"hidden_size": 128, "multi_query": False}),
    Variation("jais2", "Jais2Config", SMALL | {"num_key_value_heads": 2, "head_dim": 64}),
    Variation(
        "jais2-tied-unbiased",
        "Jais2Config",
        SMALL | {"num_key_value_heads": 4, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True},
    ),
]

BYTES = ["starcoder"]
