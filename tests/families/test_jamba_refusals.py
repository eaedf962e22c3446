"""What llama.cpp cannot run of Jamba and AFMoE is refused; their defaults are transformers'."""

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
    ("jamba", {"mamba_expand": 3}, "'mamba_expand' is 3, but llama.cpp runs this family only with 2"),
    ("jamba", {"mamba_proj_bias": True}, "'mamba_proj_bias' is True"),
    ("jamba", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("jamba", {"attn_layer_offset": 3}, "'attn_layer_offset' is 3, less than 'attn_layer_period' 3 expected"),
    ("jamba", {"expert_layer_offset": 2}, "'expert_layer_offset' is 2, less than 'expert_layer_period' 2 expected"),
    ("jamba", {"attn_layer_period": 8, "attn_layer_offset": 7}, "'attn_layer_period' is 8 .* 0 of 5 layers"),
    ("jamba", {"attn_layer_period": 1, "attn_layer_offset": 0}, "'attn_layer_period' is 1 .* 5 of 5 layers"),
    ("jamba", {"head_dim": 32}, "'head_dim' is 32"),
    ("jamba", {"num_attention_heads": 3}, "hidden_size 256 is not a multiple of num_attention_heads 3"),
    ("jamba", {"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
    ("jamba", {"num_experts_per_tok": 5}, "'num_experts_per_tok' is 5, but 'num_experts' is only 4"),
    ("jamba", {"mamba_dt_rank": "half"}, "'mamba_dt_rank' is 'half', an integer of at least 1 expected"),
    ("jamba", {"mamba_d_conv": 0}, "'mamba_d_conv' is 0"),
    ("afmoe", {"mup_enabled": False}, "'mup_enabled' is False, but llama.cpp runs this family only with True"),
    ("afmoe", {"mup_enabled": None}, "'mup_enabled' is False"),
    ("afmoe", {"attention_bias": True}, "'attention_bias' is True"),
    ("afmoe", {"sliding_window": None}, "'sliding_window' is None"),
    ("afmoe", {"layer_types": ["full_attention"] * 5}, r"'layer_types' is \['full_attention', .* multiple of 4"),
    ("afmoe", {"layer_types": ["full_attention"]}, "'layer_types' is .* a list of 5"),
    ("afmoe", {"layer_types": None, "global_attn_every_n_layers": 2}, "'global_attn_every_n_layers' is 2"),
    ("afmoe", {"score_func": "softmax"}, "'score_func' is 'softmax'"),
    ("afmoe", {"route_norm": False}, "'route_norm' is False"),
    ("afmoe", {"n_group": 2}, "'n_group' is 2"),
    ("afmoe", {"num_expert_groups": 2}, "'num_expert_groups' is 2"),
    ("afmoe", {"route_scale": 0}, "'route_scale' is 0, a positive number expected"),
    ("afmoe", {"num_shared_experts": 0}, "'num_shared_experts' is 0"),
    ("afmoe", {"num_experts_per_tok": 9}, "'num_experts_per_tok' is 9, but 'num_experts' is only 8"),
    ("afmoe", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("afmoe", {"rope_parameters": LLAMA3}, "rope scaling 'llama3' with these parameters needs frequency factors"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_refused(name: str, changes: dict[str, Any], message: str, refused: Callable[..., None]) -> None:
    refused(name, changes, message)
