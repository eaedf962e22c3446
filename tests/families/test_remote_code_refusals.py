"""Checkpoints with code of their own: what llama.cpp does not compute is refused before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builder import write_model
from checkpoint_layouts import config_with

from converter import convert
from converter.errors import ArchitectureError, CheckpointError

CHATGLM = {"multi_query_attention": True, "ffn_hidden_size": 512, "kv_channels": 64}
LING = {"use_bias": False, "num_experts": 8, "num_experts_per_tok": 2, "num_shared_experts": 1}
LING |= {"moe_intermediate_size": 96}
LING2 = LING | {"partial_rotary_factor": 0.5, "head_dim": 64}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("BaichuanForCausalLM", {}, "'num_hidden_layers' is 2, but llama.cpp runs baichuan with 32 layers"),
    ("InternLM2ForCausalLM", {"bias": True}, "'bias' is True"),
    ("MiniCPMForCausalLM", {"scale_emb": 1}, "no 'scale_depth', a positive number expected"),
    ("MiniCPMForCausalLM", {"scale_emb": -1}, "'scale_emb' is -1, a positive number expected"),
    ("MiniCPMForCausalLM", {"num_experts": 8}, "'num_experts' is 8"),
    ("ExaoneForCausalLM", {"activation_function": "gelu"}, "'activation_function' is 'gelu'"),
    ("ExaoneForCausalLM", {"head_dim": 128}, "'head_dim' is 128, but llama.cpp runs exaone only with"),
    (
        "ExaoneForCausalLM",
        {"head_dim": None, "rope_parameters": None, "rope_scaling": {"type": "longrope", "factor": 2.0}},
        "rope scaling 'longrope' cannot be represented",
    ),
    ("InternLM3ForCausalLM", {"rope_parameters": {"rope_type": "longrope"}}, "rope scaling 'longrope' cannot be"),
    ("ChatGLMModel", {"ffn_hidden_size": 512}, "'multi_query_attention' is False"),
    ("ChatGLMModel", CHATGLM | {"add_bias_linear": True}, "'add_bias_linear' is True"),
    ("ChatGLMModel", CHATGLM | {"apply_residual_connection_post_layernorm": True}, "_post_layernorm' is True"),
    ("ChatGLMModel", CHATGLM | {"interleaved_qkv": True}, "'interleaved_qkv' is True"),
    ("ChatGLMModel", CHATGLM | {"rmsnorm": False}, "'rmsnorm' is False"),
    ("ChatGLMModel", CHATGLM | {"post_layer_norm": False}, "'post_layer_norm' is False"),
    ("ChatGLMModel", CHATGLM | {"position_encoding_2d": True}, "'position_encoding_2d' is True"),
    ("ChatGLMModel", CHATGLM | {"kv_channels": 128}, "'head_dim' is 128, but llama.cpp runs chatglm only with"),
    ("ChatGLMModel", CHATGLM | {"rope_ratio": 0}, "'rope_ratio' is 0, a positive number expected"),
    (
        "ChatGLMForConditionalGeneration",
        CHATGLM | {"rope_ratio": 50, "padded_vocab_size": 65024},
        "'rope_ratio' is 50.0, by which ChatGLM 3 multiplies",
    ),
    ("BailingMoeForCausalLM", LING | {"use_bias": None}, "'use_bias' is True"),
    ("BailingMoeForCausalLM", LING | {"norm_head": True}, "'norm_head' is True; an output matrix"),
    ("BailingMoeForCausalLM", LING | {"use_sliding_window": True}, "'use_sliding_window' is True"),
    ("BailingMoeForCausalLM", LING | {"first_k_dense_replace": 1}, "'first_k_dense_replace' is 1"),
    ("BailingMoeForCausalLM", LING | {"multi_gate": True}, "'multi_gate' is True"),
    ("BailingMoeForCausalLM", LING | {"score_function": "sigmoid"}, "'score_function' is 'sigmoid'"),
    ("BailingMoeForCausalLM", LING | {"n_group": 4}, "'n_group' is 4"),
    ("BailingMoeForCausalLM", LING | {"use_qk_norm": True}, "'use_qk_norm' is True"),
    ("BailingMoeForCausalLM", LING | {"moe_router_enable_expert_bias": True}, "_expert_bias' is True"),
    ("BailingMoeForCausalLM", LING | {"partial_rotary_factor": 0.5}, "'partial_rotary_factor' is 0.5"),
    ("BailingMoeForCausalLM", LING | {"num_shared_experts": 0}, "'num_shared_experts' is 0, an integer of at least 1"),
    ("BailingMoeV2ForCausalLM", LING2 | {"partial_rotary_factor": None}, "no 'partial_rotary_factor'"),
    ("BailingMoeV2ForCausalLM", LING2 | {"rotary_dim": 33}, "'rotary_dim' is 33, an even number up to the 64"),
    ("BailingMoeV2ForCausalLM", LING2 | {"rotary_dim": 66}, "'rotary_dim' is 66, an even number up to the 64"),
    ("BailingMoeV2ForCausalLM", LING2 | {"num_experts_per_tok": 1}, "'num_experts_per_tok' is 1; the model then"),
    ("BailingMoeV2ForCausalLM", LING2 | {"norm_topk_prob": False}, "'norm_topk_prob' is False"),
    ("BailingMoeV2ForCausalLM", LING2 | {"score_function": "softmax"}, "'score_function' is 'softmax'"),
    ("BailingMoeV2ForCausalLM", LING2 | {"use_qk_norm": False}, "'use_qk_norm' is False"),
    ("BailingMoeV2ForCausalLM", LING2 | {"use_bias": True}, "'use_bias' is True"),
    ("BailingMoeV2ForCausalLM", LING2 | {"use_qkv_bias": True}, "'use_qkv_bias' is True"),
    ("BailingMoeV2ForCausalLM", LING2 | {"head_dim": 128}, "'head_dim' is 128, but llama.cpp runs bailingmoe2 only"),
    ("OrionForCausalLM", {"attention_bias": True}, "'attention_bias' is True"),
    ("OrionForCausalLM", {"mlp_bias": True}, "'mlp_bias' is True"),
    ("OrionForCausalLM", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("llama") / "model", "llama", num_key_value_heads=4)


@pytest.mark.parametrize(("class_name", "fields", "message"), REFUSED)
def test_refused(class_name: str, fields: dict[str, Any], message: str, model: Path, tmp_path: Path) -> None:
    own = shutil.copytree(model, tmp_path / "model")
    config_with(architectures=[class_name], **fields)(own)
    with pytest.raises(ArchitectureError, match=message) as refusal:
        convert(own, "f32", tmp_path / "out.gguf", verify="none")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(
    ("class_name", "fields", "missing"),
    [
        ("ExaoneForCausalLM", {}, "transformer.wte.weight"),
        ("ChatGLMModel", CHATGLM, "transformer.embedding.word_embeddings.weight"),
        ("BailingMoeForCausalLM", LING, "model.word_embeddings.weight"),
        ("OrionForCausalLM", {}, "model.layers.0.input_layernorm.bias"),
    ],
)
def test_tensors_of_another_model(
    class_name: str, fields: dict[str, Any], missing: str, model: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(model, tmp_path / "model")
    config_with(architectures=[class_name], rope_parameters=None, **fields)(own)
    with pytest.raises(CheckpointError, match=f"missing tensor {missing}"):
        convert(own, "f32", tmp_path / "out.gguf", verify="none")
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("variation", ["internlm3-as-published", "internlm3-tied-biased"])
def test_dynamic_scaling_is_told(variation: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", variation)
    result = convert(model, "f32", tmp_path / "out.gguf", verify="none")
    assert result.warnings == (
        "llama.cpp has no dynamic rope scaling: the file is exact up to a context of 256 tokens",
    )
