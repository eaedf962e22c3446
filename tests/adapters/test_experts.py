"""Adapters of experts, trained on stacked parameters or on one matrix for each, on checkpoints of either layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lora_builder
import numpy as np
import pytest
from lora_builder import values
from safetensors.numpy import load_file, save_file

from converter.adapters import adapt
from converter.checkpoints import open_checkpoint

STACKED = {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("mixtral", {"target_modules": ["q_proj"], **STACKED}),
    "mixtral-fused": ("mixtral-fused", {"target_modules": [], **STACKED}),
    "mixtral-one": ("mixtral", {"target_modules": [], "target_parameters": ["mlp.experts.down_proj"]}),
    "mixtral-router": ("mixtral", {"target_modules": [], "target_parameters": ["mlp.gate.weight"]}),
    "qwen3moe": ("qwen3moe", {"target_modules": ["o_proj"], "use_rslora": True, **STACKED}),
    "qwen3moe-patterns": (
        "qwen3moe",
        {
            "target_modules": [],
            "rank_pattern": {"experts.down_proj": 2},
            "alpha_pattern": {"gate_up_proj": 3},
            **STACKED,
        },
    ),
    "qwen3moe-fused": ("qwen3moe-fused", {"target_modules": [], **STACKED}),
    "qwen2moe": ("qwen2moe", {"target_modules": ["shared_expert.up_proj"], **STACKED}),
    "gpt-oss": ("gpt-oss", {"target_modules": ["q_proj"], **STACKED}),
}


def expected_values(state: dict[str, Any], name: str) -> Any:
    """The merged model's values of a tensor as the checkpoint names it."""
    import torch

    name = name.replace(".block_sparse_moe.", ".mlp.")
    if name in state:
        return state[name].numpy()
    container, expert, projection = name.removesuffix(".weight").rsplit(".", 2)
    if projection in ("down_proj", "w2"):
        return state[f"{container}.down_proj"][int(expert)].numpy()
    gate, up = torch.chunk(state[f"{container}.gate_up_proj"][int(expert)], 2)
    return (gate if projection in ("gate_proj", "w1") else up).numpy()


@pytest.mark.parametrize("case", CASES)
def test_merged_as_peft_merges(case: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    variation, config = CASES[case]
    base = bases(variation)
    adapter = lora_builder.write_adapter(base, tmp_path / "adapter", **config)
    state = lora_builder.merged(base, adapter).state_dict()
    changed = 0
    with open_checkpoint(base) as plain, adapt(open_checkpoint(base), [adapter]) as adapted:
        for name in plain.tensors:
            found, expected = values(adapted, name), expected_values(state, name)
            assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max(), name
            changed += not np.array_equal(found, values(plain, name))
    assert changed >= 2


@pytest.mark.parametrize("variation", ["mixtral", "mixtral-fused", "qwen3moe", "qwen3moe-fused"])
def test_one_adapter_for_each_expert(variation: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    """As releases before transformers 5 trained them; PEFT stacks them when it loads them."""
    base, adapter = bases(variation), tmp_path / "adapter"
    lora_builder.write_adapter(base, adapter, target_modules=["v_proj"])
    names = ("w1", "w3", "w2") if "mixtral" in variation else ("gate_proj", "up_proj", "down_proj")
    container = "block_sparse_moe" if "mixtral" in variation else "mlp"
    inner = 192 if "mixtral" in variation else 96
    tensors, random = load_file(adapter / "adapter_model.safetensors"), np.random.default_rng(5)
    for layer in range(2):
        for expert in range(4 if "mixtral" in variation else 8):
            for name in names:
                rows, columns = (256, inner) if name in ("w2", "down_proj") else (inner, 256)
                key = f"base_model.model.model.layers.{layer}.{container}.experts.{expert}.{name}"
                tensors[f"{key}.lora_A.weight"] = random.standard_normal((4, columns), np.float32) * 0.5
                tensors[f"{key}.lora_B.weight"] = random.standard_normal((rows, 4), np.float32) * 0.1
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["v_proj", *names]}))
    state = lora_builder.merged(base, adapter).state_dict()
    with adapt(open_checkpoint(base), [adapter]) as adapted:
        for name in adapted.tensors:
            expected = expected_values(state, name)
            assert np.abs(values(adapted, name) - expected).max() < 1e-6 * np.abs(expected).max(), name
