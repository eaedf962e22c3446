"""GPT-OSS with weights that are not quantized, as transformers builds it."""

from typing import Any

from variation import Variation

GPT_OSS = {
    "hidden_size": 128,
    "intermediate_size": 96,
    "head_dim": 32,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 24,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 150000.0,
        "factor": 8.0,
        "truncate": True,
        "original_max_position_embeddings": 32,
    },
}


def with_biases(model: Any) -> None:
    """Biases of the experts are matrices; here they count as much as the vectors do."""
    for layer in model.model.layers:
        layer.mlp.experts.gate_up_proj_bias.normal_(0, 0.3)
        layer.mlp.experts.down_proj_bias.normal_(0, 0.3)
        layer.self_attn.sinks.normal_(0, 2.0)


VARIATIONS = [
    Variation("gpt-oss", "GptOssConfig", GPT_OSS | {"num_hidden_layers": 3}, adjust=with_biases),
    Variation(
        "gpt-oss-tied-unbiased",
        "GptOssConfig",
        GPT_OSS
        | {"tie_word_embeddings": True, "attention_bias": False, "num_key_value_heads": 4, "num_experts_per_tok": 1}
        | {"layer_types": ["full_attention", "sliding_attention"]},
        adjust=with_biases,
    ),
    Variation(
        "gpt-oss-plain-rope",
        "GptOssConfig",
        GPT_OSS | {"num_key_value_heads": 1, "rope_parameters": {"rope_type": "default", "rope_theta": 150000.0}},
        adjust=with_biases,
    ),
]

BYTES = ["gpt-oss"]
