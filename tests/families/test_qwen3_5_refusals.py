"""What llama.cpp cannot run of Qwen3.5 is refused; its defaults are transformers', and so is what it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from checkpoint_layouts import with_config
from gguf import GGUFReader

from converter import convert
from converter.errors import CheckpointError

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 8.0}


def sections(*counts: Any) -> dict[str, Any]:
    return {"rope_parameters": {"partial_rotary_factor": 0.25, "mrope_section": list(counts)}}


#: Variation, changes of its config.json, what the message must say.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3.5", {"attention_bias": True}, "'attention_bias' is True"),
    ("qwen3.5", {"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
    ("qwen3.5", {"linear_value_head_dim": 64}, "'linear_value_head_dim' is 64"),
    ("qwen3.5", {"linear_num_key_heads": 4}, "linear_num_value_heads 6 is not a multiple of linear_num_key_heads 4"),
    ("qwen3.5", {"layer_types": ["sliding_attention"] * 4}, "'layer_types' is .* a list of 4"),
    ("qwen3.5", sections(3, 3), r"'rope_parameters.mrope_section' is \[3, 3\], a list of 3 integers expected"),
    ("qwen3.5", sections(3, -3, 8), r"'rope_parameters.mrope_section' is \[3, -3, 8\], a list of 3 integers expected"),
    ("qwen3.5", sections(24, 20, 21), "together at most the 64 elements of a head"),
    (
        "qwen3.5",
        sections(4, 2, 2),
        r"'rope_parameters.mrope_section' is \[4, 2, 2\], .* sections that cover all 8 rotated pairs",
    ),
    (
        "qwen3.5",
        sections(8, 0, 0),
        r"'rope_parameters.mrope_section' is \[8, 0, 0\], .* sections that cover all 8 rotated pairs",
    ),
    ("qwen3.5", {"rope_parameters": LLAMA3}, "rope scaling 'llama3' with these parameters needs frequency factors"),
    ("qwen3.5", {"rope_parameters": YARN}, "rope scaling 'yarn' with these parameters needs frequency factors"),
    ("qwen3.5", {"rope_parameters": {"rope_type": "longrope"}}, "rope scaling 'longrope' cannot be represented"),
    ("qwen3.5", {"rope_parameters": {"partial_rotary_factor": 0.3}}, "'rope_parameters.partial_rotary_factor' is 0.3"),
    ("qwen3.5moe", {"num_experts_per_tok": 7}, "'num_experts_per_tok' is 7, but 'num_experts' is only 6"),
    ("qwen3.5moe", {"num_experts": 2048}, "'num_experts' is 2048, llama.cpp holds at most 1024 experts"),
    ("qwen3.5-multimodal", {"text_config": None}, "'text_config' is None"),
    ("qwen3.5moe-multimodal", {"text_config": [1]}, r"'text_config' is \[1\]"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_refused(name: str, changes: dict[str, Any], message: str, refused: Callable[..., None]) -> None:
    refused(name, changes, message)


def test_a_model_without_its_output_matrix_is_refused(checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    """Untied, as it says, but its only matrix is the embedding."""
    from safetensors.torch import load_file, save_file

    model = with_config(checkpoints["qwen3.5"], tmp_path / "model", {})
    tensors = load_file(model / "model.safetensors")
    del tensors["lm_head.weight"]
    (model / "model.safetensors").unlink()
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing tensor lm_head\.weight"):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")


def test_the_vision_tower_and_further_layers_are_left_out(checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    """The file has the very tensors of the text model: layers of the count that config.json gives, nothing else."""
    from safetensors import safe_open

    with safe_open(checkpoints["qwen3.5-multimodal"] / "model.safetensors", "np") as source:
        assert {"model.visual.pos_embed.weight", "mtp.fc.weight"} <= set(source.keys())
    output = convert(checkpoints["qwen3.5-multimodal"], "f32", tmp_path / "out.gguf", verify="none")
    assert any("vision tower is left out" in warning for warning in output.warnings)
    tensors = {tensor.name for tensor in GGUFReader(output.output).tensors}
    assert {name.split(".")[1] for name in tensors if name.startswith("blk.")} == {"0", "1", "2", "3"}
    assert {name for name in tensors if not name.startswith("blk.")} == {
        "token_embd.weight",
        "output_norm.weight",
        "output.weight",
    }
