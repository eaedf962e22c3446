"""Falcon's old and new decoder, with every grouping of heads."""

from variation import Variation

FALCON = {"hidden_size": 128, "ffn_hidden_size": 320}
NEW = FALCON | {"new_decoder_architecture": True}

VARIATIONS = [
    Variation("falcon", "FalconConfig", FALCON | {"ffn_hidden_size": None}),
    Variation("falcon-all-heads", "FalconConfig", FALCON | {"multi_query": False, "tie_word_embeddings": False}),
    Variation("falcon-new", "FalconConfig", NEW | {"num_kv_heads": 2, "hidden_size": 256, "ffn_hidden_size": 512}),
    Variation("falcon-new-one-norm", "FalconConfig", NEW | {"num_kv_heads": 1, "num_ln_in_parallel_attn": 1}),
    Variation(
        "falcon-new-linear",
        "FalconConfig",
        NEW | {"rope_parameters": {"rope_type": "linear", "rope_theta": 500042.0, "factor": 2.0}},
    ),
]

BYTES = ["falcon-new"]
