"""What llama.cpp cannot run of Gemma 3n is refused; its defaults are transformers'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from checkpoint_layouts import with_config

from converter import convert
from converter.errors import ArchitectureError, CheckpointError

FULL, SLIDING = "full_attention", "sliding_attention"
#: Layers up to the first that share keys and values.
UNSHARED = ([SLIDING] * 4 + [FULL]) * 4

#: Variation, changes of its config.json, what the message must say.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("gemma3n-short", {"altup_num_inputs": 3}, "'altup_num_inputs' is 3, but llama.cpp runs this family only with 4"),
    ("gemma3n-short", {"altup_active_idx": 1}, "'altup_active_idx' is 1"),
    ("gemma3n-short", {"altup_correct_scale": False}, "'altup_correct_scale' is False"),
    ("gemma3n-short", {"laurel_rank": 32}, "'laurel_rank' is 32, but llama.cpp runs this family only with 64"),
    ("gemma3n-short", {"hidden_size_per_layer_input": 128}, "'hidden_size_per_layer_input' is 128"),
    ("gemma3n-short", {"final_logit_softcapping": 20.0}, "'final_logit_softcapping' is 20.0"),
    ("gemma3n-short", {"final_logit_softcapping": None}, "'final_logit_softcapping' is None"),
    ("gemma3n-short", {"hidden_activation": "gelu"}, "'hidden_activation' is 'gelu'"),
    ("gemma3n-short", {"attention_bias": True}, "'attention_bias' is True"),
    ("gemma3n-short", {"use_bidirectional_attention": True}, "'use_bidirectional_attention' is True"),
    ("gemma3n-short", {"layer_types": [FULL] * 6}, "'layer_types' has 'full_attention' for all layers"),
    ("gemma3n-short", {"num_kv_shared_layers": 1}, "'num_kv_shared_layers' is 1, .* gemma3n of 6 layers only with 0"),
    ("gemma3n-short", {"intermediate_size": [4096] * 5 + [2048]}, r"'intermediate_size' is \[4096, .* the same number"),
    ("gemma3n-short", {"intermediate_size": [4096]}, r"'intermediate_size' is \[4096\], .* each of 6 layers"),
    ("gemma3n-short", {"intermediate_size": ["4096"] * 6}, "'intermediate_size' is"),
    # transformers' default: none of so few layers is sparse.
    ("gemma3n-short", {"activation_sparsity_pattern": None}, r"'activation_sparsity_pattern' is \[0.0, 0.0, "),
    ("gemma3n-short", {"activation_sparsity_pattern": [0.9] * 6}, r"'activation_sparsity_pattern' is \[0.9, "),
    ("gemma3n-short", {"activation_sparsity_pattern": []}, r"'activation_sparsity_pattern' is \[\], "),
    ("gemma3n-short", {"activation_sparsity_pattern": 0.95}, "'activation_sparsity_pattern' is 0.95, "),
    (
        "gemma3n-shared",
        {"num_kv_shared_layers": 3},
        "'num_kv_shared_layers' is 3, .* 22 layers only with 2: the first 20",
    ),
    ("gemma3n-shared", {"activation_sparsity_pattern": [0.95] * 22}, r"'activation_sparsity_pattern' is \[0.95, "),
    (
        "gemma3n-shared",
        {"layer_types": [*UNSHARED[:18], FULL, FULL, SLIDING, FULL]},
        "'layer_types' has 'sliding_attention' behind layer 19, .* only where layer 18 is the last of the kind",
    ),
    (
        "gemma3n-shared",
        {"layer_types": [SLIDING] * 20 + [FULL, FULL]},
        "'layer_types' has 'full_attention' behind layer 19, .* only where layer 19 is the last of the kind",
    ),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_refused(name: str, changes: dict[str, Any], message: str, refused: Callable[..., None]) -> None:
    refused(name, changes, message)


def test_no_text_config(checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    model = with_config(checkpoints["gemma3n-multimodal"], tmp_path / "model", {"text_config": None})
    with pytest.raises(ArchitectureError, match="'text_config' is None"):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")


def test_missing_keys_of_a_layer_that_computes_them(checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    """Only layers behind the twentieth may come without keys of their own."""
    from safetensors.torch import load_file, save_file

    model = with_config(checkpoints["gemma3n-shared"], tmp_path / "model", {})
    tensors = load_file(model / "model.safetensors")
    del tensors["model.layers.19.self_attn.k_proj.weight"]
    (model / "model.safetensors").unlink()
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing tensor model\.layers\.19\.self_attn\.k_proj\.weight"):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")


def test_multimodal_warning(checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    result = convert(checkpoints["gemma3n-multimodal"], "f32", tmp_path / "out.gguf", verify="none")
    assert "the checkpoint's vision and audio towers are left out: the file reads text only" in result.warnings
