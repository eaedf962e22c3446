"""Families that transformers has no class for, each against a class that computes the same from the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp_oracle
import numpy as np
import pytest
from checkpoint_builder import write_model
from numpy.typing import NDArray

from converter import convert
from converter.recipes import METHODS

TOKENS = [0, *np.random.default_rng(11).integers(2, 500, 95).tolist()]
NARROW = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 4}

Weights = dict[str, Any]


def rewrite(directory: Path, class_name: str, fields: dict[str, Any], change: Callable[[Weights], Weights]) -> None:
    """Make the checkpoint one of another class: its fields added (or, with None, removed), its tensors changed."""
    from safetensors.torch import load_file, save_file

    path = directory / "config.json"
    config = {**json.loads(path.read_text()), "architectures": [class_name], **fields}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    weights = change(load_file(directory / "model.safetensors"))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, directory / "model.safetensors")


def assert_same_logits(model: Path, expected: NDArray[np.float32]) -> None:
    """llama.cpp's logits are ``expected``, and its quantizer gives the same bytes from the file as one step does."""
    file = convert(model, "f32", model.parent / "f32.gguf", verify="none").output
    found = llama_cpp_oracle.logits(file, TOKENS)
    assert np.std(expected) > 0.5, "logits too flat to prove anything"
    assert np.abs(found - expected).max() / np.abs(expected).max() < 3e-3
    shifted = [values.astype(float) - values.max(-1, keepdims=True) for values in (expected, found)]
    logs = [values - np.log(np.exp(values).sum(-1, keepdims=True)) for values in shifted]
    assert (np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1).mean() < 1e-5
    ours, theirs = (model.parent / name for name in ("ours.gguf", "two-step.gguf"))
    convert(model, "q4_k_m", ours, verify="none")
    llama_cpp_oracle.quantize(file, theirs, METHODS["q4_k_m"].file_type)
    assert llama_cpp_oracle.tensors(ours) == llama_cpp_oracle.tensors(theirs)


def reference_logits(directory: Path, prepare: Callable[[Any], dict[str, Any]] = lambda _: {}) -> NDArray[np.float32]:
    """transformers' logits; ``prepare`` may change the loaded model and give more arguments to its call."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([TOKENS]), **prepare(model)).logits[0].numpy()


def renamed(weights: Weights, names: dict[str, str]) -> Weights:
    """The same tensors with parts of their names replaced, one after the other."""

    def own(name: str) -> str:
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        return name

    return {own(name): tensor for name, tensor in weights.items()}


def minicpm(directory: Path, *, tied: bool) -> NDArray[np.float32]:
    """MiniCPM is Granite with an attention scale of 1 / sqrt(head_dim)."""
    layers, width, base = 2, 256, 512
    write_model(
        directory,
        "granite",
        num_hidden_layers=layers,
        hidden_size=width,
        tie_word_embeddings=tied,
        embedding_multiplier=2.5,
        residual_multiplier=1.4 / layers**0.5,
        attention_multiplier=64**-0.5,
        logits_scaling=width / base,
    )
    expected = reference_logits(directory)
    own = {"scale_emb": 2.5, "scale_depth": 1.4, "dim_model_base": base}
    theirs = ["embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"]
    # An absent tie_word_embeddings means true to MiniCPM.
    removed = [*theirs, "tie_word_embeddings"] if tied else theirs
    rewrite(directory, "MiniCPMForCausalLM", own | dict.fromkeys(removed), lambda weights: weights)
    return expected


@pytest.mark.parametrize("tied", [True, False])
def test_minicpm(tied: bool, tmp_path: Path) -> None:
    expected = minicpm(tmp_path / "model", tied=tied)
    assert_same_logits(tmp_path / "model", expected)


def fuse_groups(weights: Weights, heads: int, kv_heads: int) -> Weights:
    """InternLM 2's layout: for each key head its queries, itself and its value, under other names."""
    import torch

    names = {
        "model.embed_tokens": "model.tok_embeddings",
        "lm_head": "output",
        "self_attn.o_proj": "attention.wo",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2",
    }
    fused: Weights = {}
    for name, tensor in weights.items():
        layer, _, rest = name.rpartition(".self_attn.")
        if rest == "q_proj.weight":
            parts = [weights[f"{layer}.self_attn.{part}_proj.weight"] for part in "qkv"]
            queries, keys, values = (part.view(kv_heads, -1, tensor.shape[1]) for part in parts)
            fused[f"{layer}.attention.wqkv.weight"] = torch.cat([queries, keys, values], 1).flatten(0, 1)
        elif rest not in ("k_proj.weight", "v_proj.weight"):
            fused[name] = tensor
    return renamed(fused, names)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_internlm2(kv_heads: int, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "llama", num_key_value_heads=kv_heads)
    expected = reference_logits(model)
    fields = {
        "bias": False,
        "head_dim": None,
        "rope_parameters": None,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
    }
    rewrite(model, "InternLM2ForCausalLM", fields, lambda weights: fuse_groups(weights, 4, kv_heads))
    assert_same_logits(model, expected)
    result = convert(model, "f32", tmp_path / "again.gguf", verify="none")
    assert result.warnings == (
        "llama.cpp has no dynamic rope scaling: the file is exact up to a context of 256 tokens",
    )


def pack(weights: Weights) -> Weights:
    """Baichuan's layout: queries, keys and values one below the other."""
    import torch

    packed: Weights = {}
    for name, tensor in weights.items():
        layer, _, rest = name.rpartition(".self_attn.")
        projection, _, kind = rest.partition(".")
        if projection == "q_proj":
            parts = [weights[f"{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            packed[f"{layer}.self_attn.W_pack.{kind}"] = torch.cat(parts)
        elif projection not in ("k_proj", "v_proj"):
            packed[name] = tensor
    return packed


BAICHUAN = {"head_dim": None, "rope_parameters": None, "max_position_embeddings": None, "model_max_length": 256}


def test_baichuan_with_rope(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "llama", num_hidden_layers=32, **NARROW)
    expected = reference_logits(model)
    rewrite(model, "BaiChuanForCausalLM", BAICHUAN, pack)
    assert_same_logits(model, expected)


def alibi(model: Any) -> dict[str, Any]:
    """Turn rope off, and give each head's distances, times its slope, in the attention mask."""
    import torch

    model.model.rotary_emb.inv_freq.zero_()
    heads, positions = model.config.num_attention_heads, torch.arange(len(TOKENS))
    slopes = torch.tensor([2 ** (-8 * (head + 1) / heads) for head in range(heads)])
    bias = slopes[:, None, None] * (positions[None, :] - positions[:, None])
    return {"attention_mask": bias.masked_fill(positions[None, :] > positions[:, None], float("-inf"))[None]}


def test_baichuan2_with_alibi(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "llama", num_hidden_layers=40, **NARROW)

    def unit_rows(loaded: Any) -> dict[str, Any]:
        import torch

        head = loaded.lm_head.weight.data
        loaded.lm_head.weight.data = torch.nn.functional.normalize(head)
        return alibi(loaded)

    expected = reference_logits(model, unit_rows)
    rewrite(model, "BaichuanForCausalLM", BAICHUAN | {"z_loss_weight": 0}, pack)
    assert_same_logits(model, expected)


def respelled(directory: Path, names: dict[str, str]) -> dict[str, Any]:
    """Fields of the checkpoint's config.json under other names, the rope's as before transformers 5."""
    config = json.loads((directory / "config.json").read_text())
    rope = dict(config["rope_parameters"])
    given = {own: config[name] for name, own in names.items()}
    given["rope_theta"] = rope.pop("rope_theta")
    given["rope_scaling"] = rope if rope.get("rope_type") != "default" else None
    return dict.fromkeys([*names, "rope_parameters"]) | given


EXAONE = {
    "model.embed_tokens": "transformer.wte",
    "model.norm": "transformer.ln_f",
    "model.layers": "transformer.h",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.attention.out_proj",
    "self_attn": "attn.attention",
    "gate_proj": "c_fc_0",
    "up_proj": "c_fc_1",
    "down_proj": "c_proj",
}


@pytest.mark.parametrize(
    ("variation", "kv_heads", "tied"),
    [("llama", 4, False), ("llama-rope-llama3", 2, True), ("llama-rope-linear", 1, False)],
)
def test_exaone(variation: str, kv_heads: int, tied: bool, tmp_path: Path) -> None:
    sizes = {"num_key_value_heads": kv_heads, "intermediate_size": 1024}
    model = write_model(tmp_path / "model", variation, tie_word_embeddings=tied, **sizes)
    expected = reference_logits(model)
    names = {
        "num_hidden_layers": "num_layers",
        "rms_norm_eps": "layer_norm_epsilon",
        "hidden_act": "activation_function",
    }
    # Absent fields: tied, and a feed-forward of four times the width.
    fields = respelled(model, names) | ({"tie_word_embeddings": None, "intermediate_size": None} if tied else {})
    rewrite(model, "ExaoneForCausalLM", fields, lambda weights: renamed(weights, EXAONE))
    assert_same_logits(model, expected)


CHATGLM = {
    "model.layers": "model.encoder.layers",
    "model.embed_tokens": "model.embedding.word_embeddings",
    "model.norm": "model.encoder.final_layernorm",
    "lm_head": "model.output_layer",
    "model.": "transformer.",
    "self_attn.o_proj": "self_attention.dense",
    "self_attn.W_pack": "self_attention.query_key_value",
    "mlp.gate_up_proj": "mlp.dense_h_to_4h",
    "mlp.down_proj": "mlp.dense_4h_to_h",
}


@pytest.mark.parametrize(("kv_heads", "bias", "ratio"), [(2, True, 500), (1, False, 1), (4, True, 1)])
def test_chatglm(kv_heads: int, bias: bool, ratio: int, tmp_path: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 10000.0 * ratio, "partial_rotary_factor": 0.5}
    sizes = {"num_key_value_heads": kv_heads, "attention_bias": bias, "rope_parameters": rope}
    model = write_model(tmp_path / "model", "glm", **sizes)
    expected = reference_logits(model)
    names = {
        "num_hidden_layers": "num_layers",
        "vocab_size": "padded_vocab_size",
        "intermediate_size": "ffn_hidden_size",
        "head_dim": "kv_channels",
        "num_key_value_heads": "multi_query_group_num",
        "max_position_embeddings": "seq_length",
        "rms_norm_eps": "layernorm_epsilon",
        "attention_bias": "add_qkv_bias",
    }
    unused = ["hidden_act", "rope_theta", "rope_scaling"]
    own = {
        "model_type": "chatglm",
        "rope_ratio": ratio,
        "multi_query_attention": True,
        "add_bias_linear": False,
        "original_rope": True,
    }

    def change(weights: Weights) -> Weights:
        import torch

        buffer = {"transformer.rotary_pos_emb.inv_freq": torch.ones(16)}
        return renamed(pack(weights), CHATGLM) | buffer

    rewrite(model, "ChatGLMModel", respelled(model, names) | own | dict.fromkeys(unused), change)
    assert_same_logits(model, expected)


LING = {
    "model.embed_tokens": "model.word_embeddings",
    "self_attn.o_proj": "attention.dense",
    "self_attn.W_pack": "attention.query_key_value",
    "self_attn.q_norm": "attention.query_layernorm",
    "self_attn.k_norm": "attention.key_layernorm",
    "gate.e_score_correction_bias": "gate.expert_bias",
    "shared_expert.": "shared_experts.",
}


@pytest.mark.parametrize(("kv_heads", "head_dim", "bias"), [(1, 64, False), (2, 128, True), (4, 64, False)])
@pytest.mark.parametrize("normalized", [True, False])
def test_ling(kv_heads: int, head_dim: int, bias: bool, normalized: bool, tmp_path: Path) -> None:
    """Ling is Qwen2-MoE without a gate for the shared expert."""
    model = write_model(
        tmp_path / "model",
        "qwen2moe",
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        qkv_bias=bias,
        norm_topk_prob=normalized,
        num_experts=8,
        num_experts_per_tok=3,
        moe_intermediate_size=96,
        shared_expert_intermediate_size=192,
    )

    def half_open(loaded: Any) -> dict[str, Any]:
        """A gate of zeros lets half of the shared expert through."""
        for layer in loaded.model.layers:
            layer.mlp.shared_expert_gate.weight.data.zero_()
        return {}

    expected = reference_logits(model, half_open)
    own = {
        "shared_expert_intermediate_size": None,
        "num_shared_experts": 2,
        "use_bias": False,
        "use_qkv_bias": bias,
        "norm_head": False,
    }

    def change(weights: Weights) -> Weights:
        for name in [name for name in weights if name.endswith("shared_expert_gate.weight")]:
            del weights[name]
        for name, tensor in weights.items():
            if name.endswith("shared_expert.down_proj.weight"):
                tensor.div_(2)
        return renamed(pack(weights), LING)

    rewrite(model, "BailingMoeForCausalLM", respelled(model, {}) | own, change)
    assert_same_logits(model, expected)


@pytest.mark.parametrize(
    ("kv_heads", "dense", "groups", "rotary"),
    [
        (2, 1, (4, 2), {"partial_rotary_factor": 0.5}),
        (4, 0, (1, 1), {"rotary_dim": 32}),
        (1, 2, (2, 1), {"partial_rotary_factor": 0.5, "rotary_dim": 32}),
    ],
)
def test_ling2(kv_heads: int, dense: int, groups: tuple[int, int], rotary: dict[str, float], tmp_path: Path) -> None:
    """Ling 2 is GLM-4.5 with norms on heads and without biases."""
    model = write_model(
        tmp_path / "model",
        "glm4moe",
        num_key_value_heads=kv_heads,
        head_dim=64,
        use_qk_norm=True,
        attention_bias=False,
        first_k_dense_replace=dense,
        n_group=groups[0],
        topk_group=groups[1],
        n_shared_experts=1,
        norm_topk_prob=True,
        routed_scaling_factor=2.5,
    )
    expected = reference_logits(model)
    names = {"n_routed_experts": "num_experts", "n_shared_experts": "num_shared_experts"}
    own = {
        "score_function": "sigmoid",
        "moe_shared_expert_intermediate_size": 96,
        "mlp_layer_types": None,
    }

    def change(weights: Weights) -> Weights:
        import torch

        # A layer that predicts a token further ahead, which is left out.
        beyond = {"model.layers.3.eh_proj.weight": torch.ones(256, 512)}
        return renamed(pack(weights), LING) | beyond

    fields = respelled(model, names) | own | {"rope_scaling": None, "partial_rotary_factor": None} | rotary
    rewrite(model, "BailingMoeV2ForCausalLM", fields, change)
    assert_same_logits(model, expected)


@pytest.mark.parametrize(("kv_heads", "tied"), [(4, False), (2, True), (1, False)])
def test_orion(kv_heads: int, tied: bool, tmp_path: Path) -> None:
    """Orion is StableLM with rope on whole heads."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    sizes = {"num_key_value_heads": kv_heads, "tie_word_embeddings": tied, "rope_parameters": rope}
    own = {"use_qkv_bias": False, "qk_layernorm": False, "use_parallel_residual": False}
    model = write_model(tmp_path / "model", "stablelm", **sizes, **own)
    expected = reference_logits(model)
    names = {"layer_norm_eps": "rms_norm_eps", "max_position_embeddings": "max_sequence_length"}
    fields = respelled(model, names) | dict.fromkeys([*own, "rope_scaling", "partial_rotary_factor"])
    rewrite(model, "OrionForCausalLM", fields, lambda weights: weights)
    assert_same_logits(model, expected)
