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
from converter.errors import ArchitectureError

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
    file = convert(model, "f32", model.parent / "f32.gguf", verify="none").output
    found = llama_cpp_oracle.logits(file, TOKENS)
    assert np.std(expected) > 0.5, "logits too flat to prove anything"
    assert np.abs(found - expected).max() / np.abs(expected).max() < 3e-3
    shifted = [values.astype(float) - values.max(-1, keepdims=True) for values in (expected, found)]
    logs = [values - np.log(np.exp(values).sum(-1, keepdims=True)) for values in shifted]
    assert (np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1).mean() < 1e-5


def reference_logits(directory: Path, prepare: Callable[[Any], dict[str, Any]] = lambda _: {}) -> NDArray[np.float32]:
    """transformers' logits; ``prepare`` may change the loaded model and give more arguments to its call."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([TOKENS]), **prepare(model)).logits[0].numpy()


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
    renamed: Weights = {}
    for name, tensor in weights.items():
        layer, _, rest = name.rpartition(".self_attn.")
        if rest == "q_proj.weight":
            parts = [weights[f"{layer}.self_attn.{part}_proj.weight"] for part in "qkv"]
            queries, keys, values = (part.view(kv_heads, -1, tensor.shape[1]) for part in parts)
            renamed[f"{layer}.attention.wqkv.weight"] = torch.cat([queries, keys, values], 1).flatten(0, 1)
        elif rest not in ("k_proj.weight", "v_proj.weight"):
            own = name
            for theirs, ours in names.items():
                own = own.replace(theirs, ours)
            renamed[own] = tensor
    return renamed


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
        if rest == "q_proj.weight":
            parts = [weights[f"{layer}.self_attn.{part}_proj.weight"] for part in "qkv"]
            packed[f"{layer}.self_attn.W_pack.weight"] = torch.cat(parts)
        elif rest not in ("k_proj.weight", "v_proj.weight"):
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


@pytest.mark.parametrize(
    ("class_name", "fields", "message"),
    [
        ("BaichuanForCausalLM", {}, "'num_hidden_layers' is 2, but llama.cpp runs baichuan with 32 layers"),
        ("InternLM2ForCausalLM", {"bias": True}, "'bias' is True"),
        ("MiniCPMForCausalLM", {"scale_emb": 1}, "no 'scale_depth', a number expected"),
        ("MiniCPMForCausalLM", {"scale_emb": -1}, "'scale_emb' is -1, a positive number expected"),
        ("MiniCPMForCausalLM", {"num_experts": 8}, "'num_experts' is 8"),
    ],
)
def test_refused(class_name: str, fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "llama", num_key_value_heads=4)
    rewrite(model, class_name, fields, lambda weights: weights)
    with pytest.raises(ArchitectureError, match=message):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")
    assert not (tmp_path / "out.gguf").exists()
