"""What llama.cpp cannot run of MiMo V2 Flash, DeepSeek V3.2 and GLM-5 is refused; unpicked tokens are not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_builder import write_model
from checkpoint_layouts import with_config

from converter import convert
from converter.errors import CheckpointError

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 32}
FULL, WINDOWED = "full_attention", "sliding_attention"


def ropes(**changes: Any) -> dict[str, Any]:
    """``rope_parameters`` of which those with a window are changed."""
    plain = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.334}
    return {"rope_parameters": {FULL: plain, WINDOWED: plain | changes}}


#: Model, changes of its config.json, what the message must say.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("mimo2", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("mimo2", {"attention_bias": True}, "'attention_bias' is True"),
    ("mimo2", {"add_full_attention_sink_bias": True}, "'add_full_attention_sink_bias' is True"),
    ("mimo2", {"add_swa_attention_sink_bias": False}, "'add_swa_attention_sink_bias' is False"),
    ("mimo2", {"scoring_func": "softmax"}, "'scoring_func' is 'softmax', but .* only with 'sigmoid'"),
    ("mimo2", {"topk_method": "greedy"}, "'topk_method' is 'greedy', but .* only with 'noaux_tc'"),
    ("mimo2", {"n_shared_experts": 1}, "'n_shared_experts' is 1, but .* only with None$"),
    ("mimo2", {"rope_scaling": YARN}, "'rope_scaling' is .*, but .* only with None$"),
    ("mimo2", {"routed_scaling_factor": 2.5}, "'routed_scaling_factor' is 2.5, but .* only with 1.0"),
    ("mimo2", {"norm_topk_prob": False}, "'norm_topk_prob' is False, but .* only with True"),
    ("mimo2", {"n_group": 8, "topk_group": 4}, "'n_group' is 8, but 8 experts do not fall into"),
    ("mimo2", {"num_experts_per_tok": 9}, "'num_experts_per_tok' is 9, but 'n_routed_experts' is only 8"),
    ("mimo2", {"swa_num_attention_heads": 4}, "'swa_num_attention_heads' is 4, but .* only with 8"),
    ("mimo2", {"swa_num_key_value_heads": 2}, "'swa_num_key_value_heads' is 2, but .* only with 4"),
    ("mimo2", {"swa_head_dim": 64}, "'swa_head_dim' is 64, but .* only with 48"),
    ("mimo2", {"swa_v_head_dim": 64}, "'swa_v_head_dim' is 64, but .* only with 32"),
    ("mimo2", {"num_key_value_heads": 8}, "'num_attention_heads' is 8, no multiple of the 16 key heads"),
    ("mimo2", {"layer_types": [FULL] * 4}, "'layer_types' has 'full_attention' for all layers"),
    ("mimo2", {"layer_types": [FULL, WINDOWED]}, "'layer_types' is .*, a list of 4 of full_attention, sliding"),
    ("mimo2", {"mlp_layer_types": ["dense"] * 3 + ["shared"]}, "'mlp_layer_types' is .*, a list of 4 of dense, sparse"),
    ("mimo2", {"layer_types": None, "hybrid_layer_pattern": [0, 1, 2, 0]}, "'hybrid_layer_pattern' is .* of 0, 1"),
    ("mimo2", {"mlp_layer_types": None, "moe_layer_freq": 1}, "'moe_layer_freq' is 1, a list of 4 of 0, 1"),
    ("mimo2", {"attention_value_scale": 0.0}, "'attention_value_scale' is 0.0, a positive number expected"),
    ("mimo2", {"rope_parameters": {"rope_type": "default"}}, "'rope_parameters' is .*, an object with one for full"),
    ("mimo2", ropes(partial_rotary_factor=0.5), "rotates 16 elements of a head in full_attention, 24 in sliding"),
    ("mimo2", ropes(rope_type="linear", factor=2.0), "rope scaling of sliding_attention is 'linear'"),
    ("deepseek32", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("deepseek32", {"attention_bias": True}, "'attention_bias' is True"),
    ("deepseek32", {"q_lora_rank": None}, "'q_lora_rank' is None, but .* deepseek32 only with compressed queries"),
    ("deepseek32", {"index_head_dim": 192}, "'index_head_dim' is 192, but .* only with a power of two .* at least 64"),
    ("deepseek32", {"index_head_dim": 32}, "'index_head_dim' is 32, but .* only with a power of two .* at least 64"),
    ("deepseek32", {"qk_rope_head_dim": 128}, "'index_head_dim' is 64, but .* at least .* 'qk_rope_head_dim' = 128"),
    ("deepseek32", {"index_n_heads": 0}, "'index_n_heads' is 0, an integer of at least 1 expected"),
    ("deepseek32", {"index_topk": "all"}, "'index_topk' is 'all', an integer of at least 1 expected"),
    ("deepseek32", {"rope_interleave": False}, "'rope_interleave' is False, but .* only with True"),
    ("deepseek32", {"indexer_rope_interleave": True}, "'indexer_rope_interleave' is True, but .* only with False"),
    ("deepseek32", {"rope_parameters": YARN | {"factor": 1.0}}, "'rope_parameters.factor' is 1.0, a number above"),
    ("deepseek32", {"rope_parameters": YARN | {"beta_fast": 16}}, "rope scaling 'yarn' with these parameters"),
    ("deepseek32", {"mlp_layer_types": ["sparse", "dense", "sparse"]}, "only with all 'dense' of 3 layers before"),
    ("glm-dsa", {"rope_parameters": YARN}, "rope scaling 'yarn' cannot be represented; .* glm-dsa only with 'default'"),
    ("glm-dsa", {"indexer_rope_interleave": False}, "'indexer_rope_interleave' is False, but .* only with True"),
    ("glm-dsa", {"indexer_types": ["full"] * 3}, "'indexer_types' is .*, 'full' or 'shared' for each of 4 layers"),
    ("glm-dsa", {"indexer_types": ["shared"] + ["full"] * 3}, "'indexer_types' is .* and 'full' for the first"),
    ("glm-dsa", {"indexer_types": None, "index_topk_pattern": "FXSS"}, "'index_topk_pattern' is 'FXSS', a list of"),
    ("glm-dsa", {"indexer_types": None, "index_topk_freq": "2"}, "'index_topk_freq' is '2', an integer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_refused(name: str, changes: dict[str, Any], message: str, refused: Callable[..., None]) -> None:
    refused(name, changes, message)


def test_mimo2_without_its_sinks_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = write_model(tmp_path / "model", "mimo2")
    weights = load_file(model / "model.safetensors")
    save_file({name: tensor for name, tensor in weights.items() if "sink" not in name}, model / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing tensor model\.layers\.1\.self_attn\.sinks"):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")


def test_mimo2_leaves_out_its_further_predictions(tmp_path: Path) -> None:
    """Layers under ``model.mtp``, which the published checkpoint has, change nothing."""
    import llama_cpp_oracle
    from safetensors.torch import load_file, save_file

    model = write_model(tmp_path / "model", "mimo2")
    plain = convert(model, "f32", tmp_path / "plain.gguf", verify="none").output
    weights = load_file(model / "model.safetensors")
    weights["model.mtp.layers.0.eh_proj.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, model / "model.safetensors")
    more = convert(model, "f32", tmp_path / "more.gguf", verify="none").output
    assert llama_cpp_oracle.tensors(more) == llama_cpp_oracle.tensors(plain)


@pytest.mark.parametrize("name", ["deepseek32", "glm-dsa"])
def test_tokens_that_were_not_picked_are_not_seen(name: str, tmp_path: Path) -> None:
    """Up to ``index_topk`` tokens llama.cpp's logits are those of full attention, from there on far from them."""
    import llama_cpp_oracle
    import torch
    import transformers

    model, picked = write_model(tmp_path / "model", name), 24
    tokens = [0, *np.random.default_rng(5).integers(2, 500, 95).tolist()]
    found = llama_cpp_oracle.logits(convert(model, "f32", tmp_path / "f32.gguf", verify="none").output, tokens)
    every = transformers.AutoModelForCausalLM.from_pretrained(model, index_topk=96, attn_implementation="eager")
    with torch.no_grad():
        expected = every(torch.tensor([tokens])).logits[0].numpy()
    differences = np.abs(found - expected).max(-1) / np.abs(expected).max()
    assert differences[:picked].max() < 3e-4
    assert differences[picked + 8 :].max() > 1e-1


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (["full"] * 5, r"missing tensor model\.layers\.1\.self_attn\.indexer\.wq_b\.weight"),
        (["full"] + ["shared"] * 4, r"unexpected tensor model\.layers\.2\.self_attn\.indexer\..* \(and 4 more\)"),
    ],
)
def test_indexers_elsewhere_are_refused(types: list[str], message: str, tmp_path: Path) -> None:
    checkpoint = write_model(tmp_path / "checkpoint", "glm-dsa-shared")
    model = with_config(checkpoint, tmp_path / "model", {"indexer_types": types})
    with pytest.raises(CheckpointError, match=message):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")
