"""Tensors with adapters merged while they are read against PEFT's own ``merge_and_unload``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lora_builder
import numpy as np
import pytest
from lora_builder import compare, values

from converter.adapters import adapt
from converter.checkpoints import open_checkpoint

ALL = "all-linear"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {"target_modules": ALL}),
    "rslora": ("llama", {"target_modules": ["q_proj", "v_proj"], "use_rslora": True}),
    "regex": ("llama", {"target_modules": r".*layers\.1\.(self_attn\.k_proj|mlp\.down_proj)"}),
    "some-layers": ("llama", {"target_modules": ["o_proj"], "layers_to_transform": [1], "layers_pattern": "layers"}),
    "excluded": ("llama", {"target_modules": ALL, "exclude_modules": ["gate_proj"]}),
    "patterns": (
        "llama",
        {
            "target_modules": ALL,
            "rank_pattern": {"q_proj": 2, r"layers\.1\..*up_proj": 6},
            "alpha_pattern": {"^model.layers.0.self_attn.k_proj": 3, "down_proj": 32},
        },
    ),
    "patterns-rslora": ("llama", {"target_modules": ALL, "rank_pattern": {"v_proj": 8}, "use_rslora": True}),
    "dora": ("llama", {"target_modules": ALL, "use_dora": True}),
    "embeddings": ("llama", {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
    "dora-embeddings": ("llama", {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True}),
    "modules-to-save": (
        "llama",
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens", "norm"]},
    ),
    "tokens": ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [3, 500, 17]}),
    "tokens-by-module": ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": {"lm_head": [9, 4]}}),
    "all-biases": ("llama-tied-biased", {"target_modules": ["q_proj", "gate_proj"], "bias": "all"}),
    "lora-biases": ("qwen2", {"target_modules": ["q_proj", "o_proj"], "bias": "lora_only"}),
    "bias-of-lora": ("qwen2", {"target_modules": ["q_proj", "k_proj"], "lora_bias": True, "use_rslora": True}),
    "eva": ("llama", {"target_modules": ["q_proj"], "init_lora_weights": "gaussian"}),
    "orthogonal": ("llama", {"target_modules": ["q_proj"], "init_lora_weights": "orthogonal"}),
    "qwen2-tied": ("qwen2-tied", {"target_modules": ALL}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"]}),
    "gpt2-dora": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
    "gpt2-first-release": ("gpt2-first-release", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "gpt2-untied": ("gpt2-untied-inner", {"target_modules": ["c_attn", "c_proj", "lm_head", "wte"]}),
    "phi3": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj", "o_proj"]}),
    "mamba": ("mamba", {"target_modules": ["in_proj", "x_proj", "dt_proj"]}),
    "gemma3-in-a-larger-model": (
        "gemma3-multimodal",
        {"target_modules": r".*language_model.*\.(q_proj|down_proj)", "use_dora": True},
    ),
    "neox": ("gpt-neox", {"target_modules": ["query_key_value", "dense_h_to_4h", "lm_head"], "bias": "all"}),
}


@pytest.mark.parametrize("case", CASES)
def test_merged_as_peft_merges(case: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    variation, config = CASES[case]
    base = bases(variation)
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", **config)
    with open_checkpoint(base) as plain, adapt(open_checkpoint(base), [adapter]) as adapted:
        compare(adapted, lora_builder.merged(base, adapter))
        assert adapted.tensors.keys() == plain.tensors.keys()
        assert any(not np.array_equal(values(plain, name), values(adapted, name)) for name in plain.tensors)
