"""What llama.cpp cannot run of further vision-language models' text parts is refused; what is left out is said."""

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
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 2.0}


def rope(sections: Any, share: float = 0.5, **others: Any) -> dict[str, Any]:
    given = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": share, "mrope_section": sections}
    return {"rope_parameters": given | others}


#: Variation, changes of config.json's text_config, what the message must say.
TEXT: list[tuple[str, dict[str, Any], str]] = [
    (
        "llava",
        {"model_type": "qwen3"},
        "'text_config.model_type' is 'qwen3', but only llama or mistral or qwen2 is converted",
    ),
    ("llava", {"model_type": ["llama"]}, r"'text_config.model_type' is \['llama'\]"),
    ("llava", {"hidden_act": "gelu"}, "'text_config.hidden_act' is 'gelu'"),
    ("llava", {"rope_parameters": LONGROPE}, "rope scaling 'longrope' cannot be represented"),
    ("llava", {"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
    ("smolvlm", {"model_type": "mistral"}, "'text_config.model_type' is 'mistral', but only llama is converted"),
    ("internvl-qwen2", {"model_type": "gpt_oss"}, "is 'gpt_oss', but only qwen2 or qwen3 or qwen3_moe or llama is"),
    ("internvl-qwen2", {"rope_parameters": LLAMA3}, "needs frequency factors, which llama.cpp does not read for qwen2"),
    ("internvl-qwen3", {"attention_bias": True}, "'text_config.attention_bias' is True"),
    ("internvl-qwen3-moe", {"norm_topk_prob": False}, "'text_config.norm_topk_prob' is False"),
    ("lfm2vl", {"model_type": "lfm2_moe"}, "'text_config.model_type' is 'lfm2_moe', but only lfm2 is converted"),
    ("lfm2vl", {"conv_bias": True}, "'text_config.conv_bias' is True"),
    ("exaone45", {"model_type": "exaone_moe"}, "is 'exaone_moe', but only exaone4_5_text or exaone4 is converted"),
    ("exaone45", {"sliding_window": 24}, "'sliding_window' is 24, .* only where num_hidden_layers is 64, not 2"),
    (
        "glm4v",
        rope([8, 12, 11]),
        r"'text_config.rope_parameters.mrope_section' is \[8, 12, 11\], .* the 32 pairs of a head",
    ),
    (
        "glm4v",
        rope([0, 16, 16]),
        r"'text_config.rope_parameters.mrope_section' is \[0, 16, 16\], .* only with pairs for time and for rows",
    ),
    (
        "glm4v",
        rope([16, 0, 16]),
        r"'text_config.rope_parameters.mrope_section' is \[16, 0, 16\], .* only with pairs for time and for rows",
    ),
    ("glm4v", rope([16, 16, 16], 0.75), "'partial_rotary_factor' turns 96 of the 128 elements of a head"),
    ("glm4v", rope([8, 12, 12], **LLAMA3), "needs frequency factors"),
    ("glm4v", {"head_dim": 64}, "'head_dim' is 64"),
    # Without the field the sections of heads of 128 elements hold.
    (
        "glm-ocr",
        {"rope_parameters": {"rope_theta": 1e4}},
        r"'text_config.rope_parameters.mrope_section' is \[8, 12, 12\], .* the 64 pairs",
    ),
    ("glm-ocr", {"hidden_act": "gelu"}, "'text_config.hidden_act' is 'gelu'"),
    (
        "glm4vmoe",
        rope([0, 16, 16]),
        r"'text_config.rope_parameters.mrope_section' is \[0, 16, 16\], .* runs glm4moe only with pairs for time",
    ),
    ("glm4vmoe", {"num_experts_per_tok": 9}, "'num_experts_per_tok' is 9, but 'n_routed_experts' is only 8"),
    ("paddleocr-vl-nested-tied", {"use_bias": True}, "'text_config.use_bias' is True"),
    (
        "paddleocr-vl-nested-tied",
        rope([8, 12, 12]),
        r"'text_config.rope_parameters.mrope_section' is \[8, 12, 12\], .* the 64 pairs of a head",
    ),
]

#: Variation, changes of config.json itself, what the message must say.
WHOLE: list[tuple[str, dict[str, Any], str]] = [
    ("llava", {"text_config": None}, "'text_config' is None, an object"),
    ("smolvlm", {"text_config": "llama"}, "'text_config' is 'llama', an object"),
    ("lfm2vl", {"text_config": [1]}, r"'text_config' is \[1\], an object"),
    ("glm4v", {"text_config": None}, "'text_config' is None, an object"),
    ("paddleocr-vl-nested-tied", {"text_config": 4}, "'text_config' is 4, an object"),
    ("llava", {"tie_word_embeddings": "no"}, "'tie_word_embeddings' is 'no', true or false expected"),
    ("internvl-qwen2", {"tie_word_embeddings": 1}, "'tie_word_embeddings' is 1, true or false expected"),
    ("lfm2vl", {"tie_embedding": "yes"}, "'tie_word_embeddings' is 'yes', true or false expected"),
]


@pytest.mark.parametrize(
    ("name", "changes", "message", "text"), [*((*case, True) for case in TEXT), *((*case, False) for case in WHOLE)]
)
def test_refused(name: str, changes: dict[str, Any], message: str, text: bool, refused: Callable[..., None]) -> None:
    refused(name, changes, message, text=text)


@pytest.mark.parametrize("name", ["llava", "smolvlm", "internvl-qwen2", "lfm2vl-untied", "exaone45", "glm4v"])
def test_a_missing_output_matrix_is_not_taken_for_a_tied_one(
    name: str, checkpoints: Mapping[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    model = with_config(checkpoints[name], tmp_path / "model", {})
    weights = load_file(model / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not key.endswith("lm_head.weight")}
    assert len(kept) == len(weights) - 1
    (model / "model.safetensors").unlink()
    save_file(kept, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing tensor (language_model\.)?lm_head\.weight"):
        convert(model, "f32", tmp_path / "out.gguf", verify="none")


@pytest.mark.parametrize(
    "name", ["llava", "smolvlm", "internvl-qwen2", "lfm2vl", "exaone45", "glm4v", "paddleocr-vl-nested-tied"]
)
def test_the_vision_tower_is_said_to_be_left_out(name: str, checkpoints: Mapping[str, Path], tmp_path: Path) -> None:
    result = convert(checkpoints[name], "f32", tmp_path / "out.gguf", verify="none")
    assert "the checkpoint's vision tower is left out: the file reads text only" in result.warnings


@pytest.mark.parametrize(
    ("name", "arch", "sections"),
    [
        ("glm4v", "glm4", [8, 12, 12, 0]),
        ("glm-ocr", "glm4", [16, 24, 24, 0]),
        ("glm4vmoe", "glm4moe", [8, 12, 12, 0]),
        ("paddleocr-vl-nested-tied", "paddleocr", [16, 24, 24, 0]),
    ],
)
def test_the_file_tells_sections(
    name: str, arch: str, sections: list[int], checkpoints: Mapping[str, Path], tmp_path: Path
) -> None:
    """By this key llama.cpp knows that the file goes with images."""
    file = convert(checkpoints[name], "f32", tmp_path / "out.gguf", verify="none").output
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    assert fields[f"{arch}.rope.dimension_sections"].contents() == sections
