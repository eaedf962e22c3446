"""What llama.cpp cannot run of Gemma 4 is refused; its defaults are transformers'; separate experts are read too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import llama_cpp_oracle
import numpy as np
import pytest
from checkpoint_layouts import with_config

from converter import convert
from converter.errors import CheckpointError

WINDOW, FULL = "sliding_attention", "full_attention"
ROPES = {WINDOW: {"rope_type": "default"}, FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25}}

#: Variation, changes of its config.json, what the message must say.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gemma4", {"use_bidirectional_attention": "all"}, "'use_bidirectional_attention' is 'all'"),
    ("gemma4", {"attention_bias": True}, "'attention_bias' is True"),
    ("gemma4", {"hidden_activation": "silu"}, "'hidden_activation' is 'silu'"),
    ("gemma4", {"vocab_size_per_layer_input": 500}, "'vocab_size_per_layer_input' is 500, .* only with 512"),
    ("gemma4", {"layer_types": [FULL] * 6, "num_kv_shared_layers": 0}, "'layer_types' is .* 'sliding_attention'"),
    ("gemma4", {"num_kv_shared_layers": 3}, "'num_kv_shared_layers' is 3, .* right before the layers that share"),
    ("gemma4", {"num_kv_shared_layers": 6}, "'num_kv_shared_layers' is 6"),
    ("gemma4", {"num_kv_shared_layers": -1}, "'num_kv_shared_layers' is -1, an integer of at least 0 expected"),
    ("gemma4", {"num_key_value_heads": 3}, "'num_key_value_heads' of layer 0 is 3; a divisor"),
    ("gemma4", {"per_layer_config": {"5": {"num_key_value_heads": 2}}}, "'num_key_value_heads' of layer 5 is 2"),
    ("gemma4", {"per_layer_config": {"1": {"head_dim": 64}}}, "'head_dim' is 32 and 64 in layers without a window"),
    ("gemma4", {"per_layer_config": {"0": {"head_dim": 64}}}, "'head_dim' is 32 and 64 in layers with a window"),
    ("gemma4", {"per_layer_config": None, "global_head_dim": 33}, "'head_dim' is 33 in layers without .* even"),
    ("gemma4", {"per_layer_config": {"1": {"head_dim": "64"}}}, "'per_layer_config.1.head_dim' is '64', an integer"),
    ("gemma4", {"per_layer_config": {"1": {"sliding_window": 8}}}, "'per_layer_config.1' is {'sliding_window': 8}"),
    ("gemma4", {"per_layer_config": [64]}, "'per_layer_config' is \\[64\\], an object"),
    ("gemma4", {"rope_parameters": {WINDOW: ROPES[WINDOW]}}, "'rope_parameters.full_attention' is None"),
    (
        "gemma4",
        {"rope_parameters": ROPES | {WINDOW: {"rope_type": "linear", "factor": 2.0}}},
        "'rope_parameters.sliding_attention' is .*'linear'.* only with 'rope_type' default there",
    ),
    (
        "gemma4",
        {"rope_parameters": ROPES | {FULL: {"rope_type": "yarn", "factor": 2.0}}},
        "'rope_parameters.full_attention' is .*'yarn'.* only with 'rope_type' proportional or default there",
    ),
    (
        "gemma4",
        {"rope_parameters": ROPES | {FULL: {"rope_type": "proportional", "partial_rotary_factor": 1.5}}},
        "'rope_parameters.full_attention.partial_rotary_factor' is 1.5, a share of the 32 pairs",
    ),
    ("gemma4-experts", {"top_k_experts": 7}, "'top_k_experts' is 7, but 'num_experts' is only 6"),
    ("gemma4-experts", {"num_experts": None}, "no 'num_experts'"),
    ("gemma4-multimodal", {"text_config": [1]}, r"'text_config' is \[1\]"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_refused(name: str, changes: dict[str, Any], message: str, refused: Callable[..., None]) -> None:
    refused(name, changes, message)


def test_values_that_are_keys_have_no_place(checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    """Value matrices although config.json says that keys are taken for values: one of the two is wrong."""
    model = with_config(checkpoints["gemma4"], tmp_path / "model", {"attention_k_eq_v": True})
    with pytest.raises(CheckpointError, match=r"unexpected tensor model.layers.1.self_attn.v_proj.weight \(and 1 more"):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")


def test_separate_experts(checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    """One matrix for each expert and projection, as quantized files hold them, computes what the stacks do."""
    from safetensors.torch import load_file, save_file

    fused = checkpoints["gemma4-experts"]
    separate = tmp_path / "separate"
    separate.mkdir()
    for path in fused.iterdir():
        (separate / path.name).write_bytes(path.read_bytes())
    tensors = load_file(fused / "model.safetensors")
    for stack in [name for name in tensors if ".experts." in name]:
        experts, projection = stack.rsplit(".", 1)
        for number, matrix in enumerate(tensors.pop(stack)):
            halves = matrix.chunk(2) if projection == "gate_up_proj" else (matrix,)
            names = ("gate_proj", "up_proj") if projection == "gate_up_proj" else (projection,)
            for name, half in zip(names, halves, strict=True):
                tensors[f"{experts}.{number}.{name}.weight"] = half.contiguous()
    save_file(tensors, separate / "model.safetensors", {"format": "pt"})
    logits = [
        llama_cpp_oracle.logits(
            convert(model, "f32", tmp_path / f"{model.name}.gguf", verify="none").output, [0, 7, 300, 41]
        )
        for model in (fused, separate)
    ]
    assert np.abs(logits[0] - logits[1]).max() < 1e-4 * np.abs(logits[0]).max()
