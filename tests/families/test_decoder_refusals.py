"""What llama.cpp cannot run is refused before anything is written, naming the field and its value."""

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
    # llama.cpp always divides by the chosen experts' sum: with its own converter this file loads and is wrong.
    ("qwen3moe", {"norm_topk_prob": False}, "'norm_topk_prob' is False"),
    ("qwen3moe", {"norm_topk_prob": None}, "'norm_topk_prob' is False"),
    ("qwen3moe", {"mlp_only_layers": [0]}, r"'mlp_only_layers' is \[0\]"),
    ("qwen3moe", {"decoder_sparse_step": 2}, "'decoder_sparse_step' is 2"),
    ("qwen3moe", {"attention_bias": True}, "'attention_bias' is True"),
    ("qwen3moe", {"num_experts_per_tok": 9}, "'num_experts_per_tok' is 9, but 'num_local_experts' is only 8"),
    ("qwen2moe", {"norm_topk_prob": True}, "'norm_topk_prob' is True"),
    ("qwen2moe", {"num_experts": 2048}, "'num_experts' is 2048, llama.cpp holds at most 1024 experts"),
    ("mixtral", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("olmo", {"attention_bias": True}, "'attention_bias' is True"),
    ("olmo", {"clip_qkv": 0}, "'clip_qkv' is 0, a positive number"),
    ("olmo", {"rope_parameters": LLAMA3}, "rope scaling 'llama3' with these parameters needs frequency factors"),
    ("olmo2", {"head_dim": 32}, "'head_dim' is 32"),
    ("olmo2", {"attention_bias": True}, "'attention_bias' is True"),
    ("olmo3", {"layer_types": ["full_attention"]}, "'layer_types' is .* a list of 4"),
    (
        "olmo3",
        {"rope_parameters": {"full_attention": {"rope_theta": 1e4}, "sliding_attention": {"rope_theta": 5e5}}},
        "sliding layers' rope is 'default' with theta 500000",
    ),
    ("olmoe", {"norm_topk_prob": True}, "'norm_topk_prob' is True"),
    ("olmoe", {"clip_qkv": 8.0}, "'clip_qkv' is 8.0"),
    ("olmoe", {"num_key_value_heads": 2}, "'num_key_value_heads' is 2"),
    ("granite", {"residual_multiplier": 0.0}, "'residual_multiplier' is 0.0"),
    ("smollm3", {"no_rope_layers": [1, 1, 1, 1, 1]}, r"'no_rope_layers' is \[1, 1, 1, 1, 1\]"),
    ("smollm3", {"mlp_bias": True}, "'mlp_bias' is True"),
    ("exaone4", {"sliding_window": 24}, "'sliding_window' is 24, but .* only where num_hidden_layers is 64, not 2"),
    ("exaone4", {"head_dim": 32}, "'head_dim' is 32"),
    ("ernie", {"use_bias": True}, "'use_bias' is True"),
    ("ernie-moe", {"moe_layer_interval": 2}, "'moe_layer_interval' is 2"),
    ("ernie-moe", {"moe_layer_end_index": 1}, "'moe_layer_end_index' is 1"),
    ("hunyuan", {"attention_bias": True}, "'attention_bias' is True"),
    ("hunyuan", {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "rope scaling 'longrope'"),
    ("deepseek2", {"topk_method": "group_limited_greedy"}, "'topk_method' is 'group_limited_greedy'"),
    ("deepseek2", {"norm_topk_prob": True}, "'norm_topk_prob' is True"),
    ("deepseek2", {"attention_bias": True}, "'attention_bias' is True"),
    ("deepseek2", {"num_hidden_layers": 27}, "'q_lora_rank' is 96, but llama.cpp takes a model of 27 layers"),
    ("deepseek2", {"qk_rope_head_dim": 31}, "'qk_rope_head_dim' is 31"),
    ("deepseek2", {"rope_parameters": LLAMA3}, "rope scaling 'llama3' .* cannot be represented"),
    ("deepseek2", {"routed_scaling_factor": 0}, "'routed_scaling_factor' is 0"),
    ("deepseek3", {"n_group": 3}, "'n_group' is 3, but 8 experts do not fall"),
    ("mamba", {"use_bias": True}, "'use_bias' is True"),
    ("mamba", {"expand": 3}, "'expand' is 3"),
    ("mamba2", {"time_step_limit": [0.0, 0.1]}, r"'time_step_limit' is \[0.0, 0.1\]"),
    ("mamba2", {"head_dim": 32}, "num_heads 8 of head_dim 32 are not the mixer's length 512"),
    ("lfm2", {"conv_bias": True}, "'conv_bias' is True"),
    ("lfm2moe", {"norm_topk_prob": False}, "'norm_topk_prob' is False"),
    ("lfm2moe", {"routed_scaling_factor": 2.0}, "'routed_scaling_factor' is 2.0"),
    ("hunyuan-moe", {"moe_topk": [2, 3]}, r"'moe_topk' is \[2, 3\], the same number for each of 2 layers expected"),
    ("hunyuan-moe", {"num_shared_expert": 2}, "'num_shared_expert' is 2"),
    ("dots1", {"num_key_value_heads": 2}, "'num_key_value_heads' is 2"),
    ("dots1", {"attention_bias": True}, "'attention_bias' is True"),
    ("seed-oss", {"attention_out_bias": True}, "'attention_out_bias' is True"),
    ("arcee", {"mlp_bias": True}, "'mlp_bias' is True"),
    ("glm", {"head_dim": 32}, "'head_dim' is 32"),
    ("exaone-moe", {"sliding_window": None}, "'sliding_window' is None"),
    ("exaone-moe", {"mlp_layer_types": ["sparse", "dense"] * 2}, "'mlp_layer_types' is .* only with all 'dense'"),
    ("granite-hybrid", {"mamba_expand": 3}, "'mamba_expand' is 3"),
    ("granite-hybrid", {"mamba_proj_bias": True}, "'mamba_proj_bias' is True"),
    ("granite-hybrid-attention-experts", {"position_embedding_type": "nope"}, "'position_embedding_type' is 'nope'"),
    ("ministral3", {"rope_parameters": {"rope_theta": 1e4}}, "no 'rope_parameters.llama_4_scaling_beta'"),
    ("falcon-h1", {"mamba_rms_norm": True}, "'mamba_norm_before_gate' is True"),
    ("falcon-h1", {"projectors_bias": True}, "'projectors_bias' is True"),
    ("falcon-h1", {"mlp_multipliers": [1.0]}, r"'mlp_multipliers' is \[1.0\], a list of 2 numbers expected"),
    ("qwen3next", {"norm_topk_prob": False}, "'norm_topk_prob' is False"),
    ("qwen3next", {"linear_value_head_dim": 64}, "'linear_value_head_dim' is 64"),
    ("qwen3next", {"linear_num_key_heads": 3}, "linear_num_value_heads 4 is not a multiple of linear_num_key_heads 3"),
    ("nemotron-h", {"layers_block_type": ["mamba", "mlp", "moe", "mlp"]}, "only with feed-forwards that all have"),
    ("nemotron-h", {"layers_block_type": ["mamba", "odd"]}, r"'layers_block_type' is \['mamba', 'odd'\]"),
    ("nemotron-h", {"use_bias": True}, "'use_bias' is True"),
    ("glm4", {"rope_parameters": LLAMA3}, "rope scaling 'llama3' with these parameters needs frequency factors"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_refused(name: str, changes: dict[str, Any], message: str, refused: Callable[..., None]) -> None:
    refused(name, changes, message)
