"""What llama.cpp cannot run of a vision-language model's text part is refused; what is left out is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from checkpoint_layouts import with_config

from converter import convert
from converter.errors import CheckpointError

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16.0, "original_max_position_embeddings": 64}


def rope(sections: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections}}


#: Variation, changes of config.json's text_config, what the message must say.
TEXT: list[tuple[str, dict[str, Any], str]] = [
    (
        "qwen2vl",
        rope([8, 12, 11]),
        r"'text_config.rope_parameters.mrope_section' is \[8, 12, 11\], .* the 32 pairs of a head",
    ),
    ("qwen2vl", rope([32]), r"'text_config.rope_parameters.mrope_section' is \[32\]"),
    ("qwen2vl", rope("8, 12, 12"), "'text_config.rope_parameters.mrope_section' is '8, 12, 12'"),
    ("qwen2vl", rope([8.0, 12, 12]), r"'text_config.rope_parameters.mrope_section' is \[8.0, 12, 12\]"),
    ("qwen2vl", rope([-8, 20, 20]), r"'text_config.rope_parameters.mrope_section' is \[-8, 20, 20\]"),
    # Without the field the sections of heads of 128 elements hold.
    (
        "qwen2vl",
        {"rope_parameters": {"rope_theta": 1e4}},
        r"'text_config.rope_parameters.mrope_section' is \[16, 24, 24\], .* the 32 pairs",
    ),
    ("qwen2vl", {"rope_parameters": LLAMA3 | {"mrope_section": [8, 12, 12]}}, "needs frequency factors"),
    ("qwen2vl", {"rope_parameters": YARN | {"mrope_section": [8, 12, 12]}}, "needs frequency factors"),
    ("qwen2vl", {"hidden_act": "gelu"}, "'text_config.hidden_act' is 'gelu'"),
    # llama.cpp reads the field in other families only.
    ("qwen2vl", {"rms_norm_eps": 1e-4}, "'rms_norm_eps' is 0.0001, .* at most 1e-05 expected"),
    (
        "qwen3vl",
        rope([24, 20, 20]),
        r"'text_config.rope_parameters.mrope_section' is \[24, 20, 20\], .* the 32 pairs of a head",
    ),
    (
        "qwen3vl",
        rope([32, 0, 0]),
        r"'text_config.rope_parameters.mrope_section' is \[32, 0, 0\], .* turns by 192.0 radians over the context",
    ),
    ("qwen3vl", {"attention_bias": True}, "'text_config.attention_bias' is True"),
    ("qwen3vlmoe", {"mlp_only_layers": [0]}, r"'text_config.mlp_only_layers' is \[0\]"),
    ("qwen3vlmoe", {"decoder_sparse_step": 2}, "'text_config.decoder_sparse_step' is 2"),
    ("qwen3vlmoe", {"num_experts_per_tok": 9}, "'num_experts_per_tok' is 9, but 'num_local_experts' is only 8"),
    ("mistral-small3", {"model_type": "mistral4"}, "'text_config.model_type' is 'mistral4', .* or ministral3"),
    ("mistral-small3", {"model_type": ["mistral"]}, r"'text_config.model_type' is \['mistral'\]"),
    ("mistral-small3", {"hidden_act": "gelu"}, "'text_config.hidden_act' is 'gelu'"),
    (
        "ministral3-multimodal",
        {"rope_parameters": {"rope_theta": 1e6}},
        "no 'text_config.rope_parameters.llama_4_scaling_beta'",
    ),
]

#: Variation, changes of config.json itself, what the message must say.
WHOLE: list[tuple[str, dict[str, Any], str]] = [
    ("qwen2vl", {"text_config": "qwen2"}, "'text_config' is 'qwen2', an object"),
    ("qwen3vl", {"text_config": None}, "'text_config' is None, an object"),
    (
        "qwen3vl",
        {"vision_config": {"deepstack_visual_indexes": 3}},
        "'vision_config.deepstack_visual_indexes' is 3, a list",
    ),
    (
        "qwen3vl",
        {"vision_config": None},
        r"'vision_config.deepstack_visual_indexes' is \[8, 16, 24\], a list of at most",
    ),
    ("mistral-small3", {"text_config": None}, "'text_config' is None, an object"),
    (
        "mistral-small3",
        {"tie_word_embeddings": "no"},
        "'tie_word_embeddings' is 'no', true or false expected",
    ),
]


@pytest.mark.parametrize(
    ("name", "changes", "message", "text"), [*((*case, True) for case in TEXT), *((*case, False) for case in WHOLE)]
)
def test_refused(name: str, changes: dict[str, Any], message: str, text: bool, refused: Callable[..., None]) -> None:
    refused(name, changes, message, text=text)


@pytest.mark.parametrize("name", ["qwen2vl", "qwen3vlmoe", "mistral-small3"])
def test_a_missing_output_matrix_is_not_taken_for_a_tied_one(
    name: str, checkpoints: Mapping[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    model = with_config(checkpoints[name], tmp_path / "model", {})
    weights = {
        key: value
        for key, value in load_file(model / "model.safetensors").items()
        if not key.endswith("lm_head.weight")
    }
    (model / "model.safetensors").unlink()
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing tensor (language_model\.)?lm_head\.weight"):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")


@pytest.mark.parametrize("name", ["qwen2vl", "qwen3vl", "mistral-small3"])
def test_the_vision_tower_is_said_to_be_left_out(name: str, checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    result = convert(checkpoints[name], "f32", tmp_path / "out.gguf", verify="none")
    assert "the checkpoint's vision tower is left out: the file reads text only" in result.warnings


def test_pairs_that_llama_cpp_leaves_unturned_are_said(checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    """Of 32 pairs the last, turned by 262144 × 500000^(-31/32), is no longer a row's with (12, 10, 10)."""
    sections = {
        "rope_parameters": {"rope_theta": 5e5, "mrope_section": [12, 10, 10]},
        "max_position_embeddings": 262144,
    }
    model = with_config(checkpoints["qwen3vl"], tmp_path / "model", sections, text=True)
    result = convert(model, "f32", tmp_path / "out.gguf", verify="none")
    assert any("off by at most 0.79 radians at the end of the context" in warning for warning in result.warnings)


def test_the_file_tells_sections_and_deepstack_layers(checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    """Keys that llama.cpp reads for images."""
    file = convert(checkpoints["qwen3vl"], "f32", tmp_path / "out.gguf", verify="none").output
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    assert fields["qwen3vl.rope.dimension_sections"].contents() == [12, 10, 10, 0]
    assert fields["qwen3vl.n_deepstack_layers"].contents() == 2
