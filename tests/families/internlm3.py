"""InternLM 3, which transformers runs as Llama under a configuration of its own."""

from checkpoint_layouts import config_with
from variation import Variation

CLASS = {"architectures": ["InternLM3ForCausalLM"]}
INTERNLM3 = {"num_key_value_heads": 2, "head_dim": 64}

VARIATIONS = [
    Variation("internlm3", "InternLM3Config", INTERNLM3, rewrite=config_with(**CLASS)),
    Variation(
        "internlm3-as-published",
        "InternLM3Config",
        INTERNLM3
        | {
            "head_dim": 128,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 50000000.0, "factor": 6.0},
        },
        rewrite=config_with(
            **CLASS,
            rope_parameters=None,
            rope_theta=50000000,
            rope_scaling={"rope_type": "dynamic", "factor": 6.0},
            attention_bias=None,
            mlp_bias=None,
            qkv_bias=False,
            bias=False,
        ),
    ),
    Variation(
        "internlm3-tied-biased",
        "InternLM3Config",
        INTERNLM3
        | {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "num_key_value_heads": 4,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 20000.0, "factor": 2.0},
        },
        rewrite=config_with(**CLASS),
    ),
]
