"""What llama.cpp cannot run of these families is refused before anything is written, naming the field and its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builder import write_model
from checkpoint_layouts import with_config

from converter import convert
from converter.errors import ArchitectureError

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

#: What makes EmbeddingGemma of Gemma 3.
TEXTS = {"architectures": ["Gemma3TextModel"], "use_bidirectional_attention": True}
#: GPT-OSS's own rope.
YARN = {"rope_type": "yarn", "factor": 32.0, "truncate": False, "original_max_position_embeddings": 4096}

#: Variation, changes of its config.json, what the message must say.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gpt2", {"activation_function": "quick_gelu"}, "'activation_function' is 'quick_gelu'"),
    ("gpt2", {"scale_attn_weights": False}, "'scale_attn_weights' is False"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "'scale_attn_by_inverse_layer_idx' is True"),
    ("gpt2", {"n_head": 5}, "hidden_size 128, num_attention_heads 5 and no head_dim do not give heads of an even"),
    ("gpt2", {"add_cross_attention": True}, "'add_cross_attention' is True"),
    ("gpt-neox", {"hidden_act": "relu"}, "'hidden_act' is 'relu'"),
    ("gpt-neox", {"head_dim": 16}, "'head_dim' is 16, but llama.cpp runs gptneox only with .* = 32"),
    ("gpt-neox", {"rope_parameters": {"partial_rotary_factor": 0.1}}, "'rope_parameters.partial_rotary_factor' is 0.1"),
    (
        "gpt-neox",
        {"rope_parameters": {"partial_rotary_factor": "all"}},
        "'rope_parameters.partial_rotary_factor' is 'all'",
    ),
    ("gpt-neox", {"rope_parameters": {"rope_type": "longrope"}}, "rope scaling 'longrope' cannot be represented"),
    ("gpt-neox", {"rope_parameters": {"rope_type": "dynamic"}}, "no 'rope_parameters.factor', a positive number"),
    (
        "gpt-neox",
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 8.0}},
        "'yarn' with these parameters needs frequency factors, which llama.cpp does not read for gptneox",
    ),
    ("phi2", {"qk_layernorm": True}, "'qk_layernorm' is True"),
    ("phi2", {"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
    (
        "phi3",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
        "rope scaling is 'linear', 'longrope' or none",
    ),
    ("phi3", {"rope_parameters": {"rope_type": "longrope"}}, "no 'rope_parameters.short_factor', a list of 16 numbers"),
    (
        "phi3",
        {"rope_scaling": {"type": "su", "short_factor": [1.0]}, "rope_parameters": None},
        "'rope_scaling.short_factor' is \\[1.0\\], a list of 16 numbers",
    ),
    ("phi3", {"head_dim": 64}, "'head_dim' is 64, but llama.cpp runs phi3 only with .* = 32"),
    ("phi3", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("gemma", {"attention_bias": True}, "'attention_bias' is True"),
    ("gemma", {"use_bidirectional_attention": True}, "'use_bidirectional_attention' is True"),
    ("gemma", {"hidden_act": "silu"}, "'hidden_act' is 'silu'"),
    ("gemma", {"tie_word_embeddings": False}, "'tie_word_embeddings' is False"),
    ("gemma2", {"query_pre_attn_scalar": 144}, "'query_pre_attn_scalar' is 144, .* only with 32"),
    ("gemma2", {"layer_types": ["full_attention"]}, "'layer_types' is .* a list of 3"),
    ("gemma2", {"layer_types": ["full_attention"] * 3}, "'layer_types' has 'full_attention' for all layers"),
    ("gemma3", {"query_pre_attn_scalar": 256}, "'query_pre_attn_scalar' is 256, .* only with 32"),
    ("gemma3", {"attn_logit_softcapping": 50.0}, "'attn_logit_softcapping' is 50.0"),
    (
        "gemma3",
        {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
        "rope scaling of sliding_attention is 'linear', but llama.cpp runs gemma3 only with default",
    ),
    ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "scaling of full_attention is 'yarn'"),
    ("gemma3", {"architectures": ["Gemma3TextModel"]}, "'use_bidirectional_attention' is False, .* only with True"),
    ("gemma3", TEXTS | {"layer_types": ["full_attention"] * 7}, "'layer_types' has no sliding_attention"),
    ("gemma3-multimodal", {"text_config": None}, "'text_config' is None"),
    ("bloom", {"apply_residual_connection_post_layernorm": True}, "'apply_residual_connection_post_layernorm' is True"),
    ("bloom", {"n_head": 3}, "hidden_size 128, num_attention_heads 3"),
    ("mpt", {"no_bias": False}, "'no_bias' is False"),
    ("mpt", {"norm_type": "rmsnorm"}, "'norm_type' is 'rmsnorm'"),
    ("mpt", {"logit_scale": 0.5}, "'logit_scale' is 0.5"),
    ("mpt", {"attn_config": {"alibi": False}}, "'attn_config.alibi' is False"),
    ("mpt", {"attn_config": {"alibi_bias_max": 16}}, "'attn_config.alibi_bias_max' is 16"),
    ("mpt", {"attn_config": {"qk_ln": True}}, "'attn_config.qk_ln' is True"),
    ("mpt", {"attn_config": {"softmax_scale": 1.0}}, "'attn_config.softmax_scale' is 1.0"),
    ("mpt", {"attn_config": {"kv_n_heads": 1}}, "'attn_config.kv_n_heads' is 1"),
    ("mpt", {"attn_config": [8]}, r"'attn_config' is \[8\]"),
    ("falcon", {"alibi": True}, "'alibi' is True"),
    ("falcon", {"bias": True}, "'bias' is True"),
    ("falcon", {"parallel_attn": False}, "'parallel_attn' is False"),
    ("falcon-new", {"num_kv_heads": 3}, "num_attention_heads 4 is not a multiple of num_kv_heads 3"),
    ("falcon-new", {"num_ln_in_parallel_attn": 3}, "'num_ln_in_parallel_attn' is 3"),
    ("cohere", {"attention_bias": True}, "'attention_bias' is True"),
    ("cohere", {"use_qk_norm": True}, "'use_qk_norm' is True with 2 layers, .* from 64 layers"),
    ("cohere-normed", {"use_qk_norm": False}, "'use_qk_norm' is False with 64 layers, .* from 64 layers"),
    ("cohere", {"tie_word_embeddings": False}, "'tie_word_embeddings' is False"),
    ("cohere", {"logit_scale": "small"}, "'logit_scale' is 'small', a finite number expected"),
    ("cohere2", {"attention_bias": True}, "'attention_bias' is True"),
    ("cohere2", {"rotary_pct": 0.5}, "'rotary_pct' is 0.5"),
    ("cohere2", {"layer_types": ["full_attention"] * 5}, "'layer_types' has 'full_attention' for all layers"),
    ("cohere2", {"layer_types": ["linear_attention"] * 5}, "'layer_types' is .* sliding_attention, full_attention"),
    ("gpt-oss", {"swiglu_limit": 5.0}, "'swiglu_limit' is 5.0"),
    ("gpt-oss", {"swiglu_alpha": 1.0}, "'swiglu_alpha' is 1.0"),
    ("gpt-oss", {"num_experts_per_tok": 5}, "'num_experts_per_tok' is 5, but 'num_local_experts' is only 4"),
    ("gpt-oss", {"rope_parameters": {"rope_type": "yarn", "factor": 8, "beta_slow": 2}}, "needs frequency factors"),
    ("gpt-oss", {"rope_parameters": "yarn"}, "'rope_parameters' is 'yarn', an object expected"),
    ("starcoder", {"activation_function": "relu"}, "'activation_function' is 'relu'"),
    ("arcee", {"attention_bias": True}, "'attention_bias' is True"),
    (
        "dbrx",
        {"ffn_config": {"moe_normalize_expert_weights": None}},
        "'ffn_config.moe_normalize_expert_weights' is None",
    ),
    ("dbrx", {"ffn_config": {"ffn_act_fn": {"name": "gelu"}}}, "'ffn_config.ffn_act_fn' is {'name': 'gelu'}"),
    ("dbrx", {"ffn_config": {"moe_top_k": 5}}, "'moe_top_k' is 5, but 'moe_num_experts' is only 4"),
    ("dbrx", {"attn_config": {"kv_n_heads": 3}}, "n_heads 4 is not a multiple of kv_n_heads 3"),
    ("dbrx", {"attn_config": {"kv_n_heads": 2}}, "no 'attn_config.clip_qkv', a number expected"),
    ("dbrx", {"attn_config": [1]}, r"'attn_config' is \[1\], an object expected"),
    ("jais2", {"hidden_act": "silu"}, "'hidden_act' is 'silu'"),
    ("starcoder2", {"hidden_act": "silu"}, "'hidden_act' is 'silu'"),
    ("starcoder2", {"head_dim": 64}, "'head_dim' is 64, but llama.cpp runs starcoder2 only with .* = 32"),
    ("stablelm", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("stablelm", {"rope_parameters": LLAMA3}, "rope scaling 'llama3' .* stablelm"),
    ("nemotron", {"hidden_act": "relu"}, "'hidden_act' is 'relu'"),
    ("nemotron", {"head_dim": 64}, "'head_dim' is 64, but llama.cpp runs nemotron only with .* = 32"),
]

#: Variation, changes of its config.json, what the user is told of a file that is written all the same.
WARNED: list[tuple[str, dict[str, Any], str]] = [
    ("starcoder2", {"sliding_window": 64}, "attends to the last 64 tokens only, llama.cpp to all of them"),
    ("phi3", {"sliding_window": 64}, "attends to the last 64 tokens only, llama.cpp to all of them"),
    ("gemma3-multimodal", {}, "the checkpoint's vision tower is left out"),
    ("gpt-oss", {"rope_parameters": YARN}, "yarn does not round the range of frequencies"),
    ("phi3-short", {}, "the size of the context: the file is exact up to a context of 512 tokens"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_refused(name: str, changes: dict[str, Any], message: str, refused: Callable[..., None]) -> None:
    refused(name, changes, message)


@pytest.mark.parametrize(("name", "changes", "message"), WARNED)
def test_warned(
    name: str, changes: dict[str, Any], message: str, checkpoints: Mapping[str, Path], tmp_path: Path
) -> None:
    model = with_config(checkpoints[name], tmp_path / "model", changes)
    [warning] = convert(model, "f32", tmp_path / "f32.gguf", verify="none", dry_run=True).warnings
    assert message in warning


def test_an_output_matrix_that_is_not_the_embedding_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = write_model(tmp_path / "model", "gemma-copied-output")
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"][256] += 1
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArchitectureError, match=r"lm_head\.weight: differs from model\..* in row 256"):
        convert(model, "f32", tmp_path / "f32.gguf", verify="none")
