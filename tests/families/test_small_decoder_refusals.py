"""What llama.cpp cannot run of some smaller families is refused; their defaults are transformers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

#: Variation, changes of its config.json, what the message must say.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("granite-swa", {"layer_rope_theta": [1e4, 5e5, 1e4, 1e4, 1e4]}, r"'layer_rope_theta' is \[10000.0, 500000.0"),
    ("granite-swa", {"layer_rope_theta": [0] * 5}, r"'layer_rope_theta' is \[0, 0, 0, 0, 0\], .* not all 0"),
    ("granite-swa", {"layer_rope_theta": [1e4]}, r"'layer_rope_theta' is \[10000.0\], a list of 5 numbers"),
    ("granite-swa", {"layer_rope_theta": ["x"] * 5}, "'layer_rope_theta' is .* a list of 5 numbers"),
    ("granite-swa", {"no_rope_layers": [1, 1, 1, 1, 0]}, r"'no_rope_layers' is \[1, 1, 1, 1, 0\], but"),
    ("granite-swa", {"layer_types": ["full_attention"] * 5}, "'layer_types' has 'full_attention' for all layers"),
    ("granite-swa", {"layer_types": ["chunked_attention"] * 5}, "'layer_types' is .* a list of 5"),
    ("granite-swa", {"sliding_window": 0}, "'sliding_window' is 0"),
    ("granite-swa", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("granite-swa", {"logits_scaling": 0}, "'logits_scaling' is 0"),
    ("granitemoe-swa", {"num_experts_per_tok": 6}, "'num_experts_per_tok' is 6, but 'num_local_experts' is only 5"),
    ("granitemoe-swa", {"num_local_experts": 0}, "'num_local_experts' is 0"),
    ("cohere2moe", {"layer_types": ["full_attention"] * 5}, "'layer_types' has 'full_attention' for all layers"),
    ("cohere2moe", {"expert_selection_fn": "topk"}, "'expert_selection_fn' is 'topk'"),
    ("cohere2moe", {"mlp_layer_types": ["sparse", "dense"] + ["sparse"] * 3}, "'mlp_layer_types' is .* only with all"),
    ("cohere2moe", {"attention_bias": True}, "'attention_bias' is True"),
    ("cohere2moe", {"rms_norm_eps": 0}, "'rms_norm_eps' is 0, a positive number expected"),
    ("cohere2moe", {"use_qk_norm": True}, "'use_qk_norm' is True"),
    ("cohere2moe", {"num_experts_per_tok": 7}, "'num_experts_per_tok' is 7, but 'num_experts' is only 6"),
    ("cohere2moe", {"rope_parameters": LLAMA3}, "rope scaling 'llama3' with these parameters needs frequency factors"),
    (
        "cohere2moe-prefix",
        {"prefix_dense_sliding_window_pattern": 2},
        "'prefix_dense_sliding_window_pattern' is 2, so a layer of the first 2",
    ),
    (
        "cohere2moe-prefix",
        {"shared_expert_combination_strategy": "max"},
        "'shared_expert_combination_strategy' is 'max'",
    ),
    ("minicpm3", {"scale_emb": 1}, "'scale_emb' is 1, but llama.cpp runs this family only with 12"),
    ("minicpm3", {"scale_depth": 1.0}, "'scale_depth' is 1.0"),
    ("minicpm3", {"scale_depth": None}, "'scale_depth' is None, but llama.cpp runs minicpm3 only with 1.4"),
    ("minicpm3", {"dim_model_base": 192}, "'dim_model_base' is 192"),
    ("minicpm3", {"dim_model_base": None}, "'dim_model_base' is None"),
    ("minicpm3", {"q_lora_rank": None}, "'q_lora_rank' is None"),
    ("minicpm3", {"num_key_value_heads": 2}, "'num_key_value_heads' is 2"),
    ("minicpm3", {"attention_bias": True}, "'attention_bias' is True"),
    ("minicpm3", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("minicpm3", {"qk_rope_head_dim": 15}, "'qk_rope_head_dim' is 15, an even number expected"),
    ("minicpm3", {"rope_parameters": LLAMA3}, "rope scaling is 'llama3', 'longrope' or none expected"),
    ("minicpm3", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "no 'rope_parameters.short_factor'"),
    (
        "minicpm3-longrope",
        {"rope_parameters": {"rope_type": "longrope", "mscale_all_dim": 1.0}},
        "'rope_parameters.mscale_all_dim' is 1.0, but llama.cpp",
    ),
    ("minicpm3-longrope", {"qk_rope_head_dim": 32}, "'rope_parameters.short_factor' is .*, a list of 16 numbers"),
    ("bamba", {"attn_layer_indices": None}, "'attn_layer_indices' is None, but llama.cpp runs granitehybrid only with"),
    ("bamba", {"attn_layer_indices": [0, 1, 2]}, r"'attn_layer_indices' is \[0, 1, 2\], .* not with all"),
    ("bamba", {"attn_layer_indices": [3]}, r"'attn_layer_indices' is \[3\]"),
    ("bamba", {"attn_layer_indices": 1}, "'attn_layer_indices' is 1"),
    ("bamba", {"attn_rotary_emb": 64}, "'attn_rotary_emb' is 64, but llama.cpp runs this family only with 32"),
    ("bamba", {"partial_rotary_factor": 0.25}, "'partial_rotary_factor' is 0.25"),
    ("bamba", {"rope_parameters": {"partial_rotary_factor": 0.75}}, "gives 48 of the 64 elements of a head"),
    (
        "bamba",
        {"rope_parameters": {"partial_rotary_factor": 2.0}},
        "'rope_parameters.partial_rotary_factor' is 2.0, a share",
    ),
    ("bamba", {"mamba_expand": 3}, "'mamba_expand' is 3"),
    ("bamba", {"mamba_proj_bias": True}, "'mamba_proj_bias' is True"),
    ("bamba", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("bamba", {"time_step_limit": [0.0, 0.1]}, r"'time_step_limit' is \[0.0, 0.1\]"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_refused(name: str, changes: dict[str, Any], message: str, refused: Callable[..., None]) -> None:
    refused(name, changes, message)
