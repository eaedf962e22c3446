"""Phi, StarCoder2, StableLM and Nemotron: layer norms, and rope on a part of each head."""

from variation import Variation

SMALL = {"hidden_size": 128, "intermediate_size": 320}


def rope(partial: float, theta: float = 10000.0, **scaling: object) -> dict[str, object]:
    return {
        "rope_parameters": {"rope_theta": theta, "partial_rotary_factor": partial, "rope_type": "default"} | scaling
    }


VARIATIONS = [
    Variation("phi2", "PhiConfig", SMALL),
    Variation(
        "phi2-tied-grouped",
        "PhiConfig",
        SMALL | {"num_key_value_heads": 2, "tie_word_embeddings": True} | rope(0.25, rope_type="linear", factor=2.0),
    ),
    Variation("starcoder2", "Starcoder2Config", SMALL | rope(1.0, 1e6)),
    Variation(
        "starcoder2-untied-unbiased",
        "Starcoder2Config",
        SMALL | {"num_key_value_heads": 1, "use_bias": False, "tie_word_embeddings": False},
    ),
    Variation("stablelm", "StableLmConfig", SMALL | {"num_key_value_heads": 4}),
    Variation(
        "stablelm-parallel-normed",
        "StableLmConfig",
        SMALL | {"num_key_value_heads": 2, "qk_layernorm": True, "use_parallel_residual": True},
    ),
    Variation(
        "stablelm-tied-biased",
        "StableLmConfig",
        SMALL | {"num_key_value_heads": 1, "use_qkv_bias": True, "tie_word_embeddings": True, "qk_layernorm": True},
    ),
    Variation("nemotron", "NemotronConfig", SMALL | {"num_key_value_heads": 2}),
    Variation(
        "nemotron-biased-tied",
        "NemotronConfig",
        SMALL
        | {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
        | rope(1.0, rope_type="linear", factor=8.0),
    ),
]

BYTES = ["phi2", "starcoder2-untied-unbiased", "stablelm-parallel-normed", "nemotron"]
